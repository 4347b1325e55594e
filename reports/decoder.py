"""What a report says of a whole model's run, derived from its record."""

from __future__ import annotations

from typing import Any

from reports.decoder_format import DECODE, PREFILL
from reports.facts import energy_range
from reports.numbers import Fact, Tag, number, percent, quantity
from reports.records import RunRecord
from reports.steps import Step, finished, growth, layer_count, layer_rows


def scope(record: RunRecord) -> str:
    """The part of the model that ran, in words."""
    layers = layer_count(record)
    if (chosen := record["simulated_layers"]) is None:
        return f"whole model, {layers} layer{'s' if layers > 1 else ''}"
    plural = "s" if len(chosen) > 1 else ""
    return f"layer{plural} {', '.join(map(str, chosen))} of {layers} in RTL, the rest by golden"


def alone(record: RunRecord) -> str:
    """A reminder for numbers of chosen layers only."""
    return "" if record["simulated_layers"] is None else ", these layers only"


def headline(record: RunRecord) -> list[Fact]:
    """The numbers that a reader looks for first."""
    note, clock = alone(record), f"at {record['clock_mhz']:g} MHz"
    ran = sum(row["simulated"] for row in record["passes"])
    whose = Tag.SIMULATED if record["simulated_layers"] is None else Tag.SETTING
    facts = [
        Fact("new tokens", number(len(record["token_ids"])), whose,
             f"of {record['new_tokens']}, after a prompt of {len(record['prompt_tokens'])}"
             + ("" if not note else "; chosen by golden")),
        Fact("cycles", number(record["cycles"]), Tag.SIMULATED,
             f"{number(ran)} of {number(len(record['passes']))} passes ran{note}"),
    ]
    for kind in (PREFILL, DECODE):
        if phase := record[kind]:
            each = phase["latency_s"] / phase["tokens"]
            facts.append(Fact(f"{kind}, tokens per second", number(phase["tokens_per_s"]),
                              Tag.MODELLED, f"{quantity(each, 's')} each {clock}{note}"))
    for kind in (PREFILL, DECODE):
        if phase := record[kind]:
            facts.append(Fact(f"{kind}, energy a token",
                              quantity(phase["energy_j"] / phase["tokens"], "J"), Tag.MODELLED,
                              f"{number(phase['tokens_per_j'])} tokens per joule{note}"))
    low, high = energy_range(record)
    facts.append(Fact("energy of the run", quantity(record["energy_j"], "J"), Tag.MODELLED,
                      f"{quantity(low, 'J', 3)} to {quantity(high, 'J', 3)}"))
    if phase := record[DECODE]:
        facts.append(Fact("weights read a decode token",
                          quantity(phase["weight_bytes"] / phase["tokens"], "B"), Tag.SIMULATED,
                          f"keys and values included{note}"))
        facts.append(Fact("simulator time a decode token",
                          quantity(phase["wall_s_per_token"], "s", 3), Tag.MEASURED, note[2:]))
    facts.append(Fact("simulator time", quantity(record["wall_s"], "s", 3), Tag.MEASURED,
                      f"{quantity(record['cycles_per_wall_s'], 'cycles/s', 3)}; golden "
                      f"{quantity(record['golden_wall_s'], 's', 3)}"))
    return facts


def findings(record: RunRecord) -> list[Fact]:
    """Growth with context, headroom, and what a sampled run says of all layers."""
    found = []
    decode = [step for step in finished(record) if step.kind == DECODE]
    if line := growth(decode):
        found.append(Fact(
            "a position of context costs", f"{number(line[1])} cycles", Tag.SIMULATED,
            f"line through {len(decode)} decode passes, {percent(line[1], decode[0].cycles)} "
            "of the first"))
    rows = [row for row in layer_rows(record) if row["ran"] == row["passes"]]
    if rows and record["simulated_layers"] is not None and record[DECODE]:
        mean = sum(row[DECODE] for row in rows) / len(rows) / record[DECODE]["tokens"]
        found.append(Fact("decode, all layers", f"{number(round(mean * layer_count(record)))} "
                          "cycles", Tag.MODELLED,
                          f"a token, if each of {layer_count(record)} layers takes the mean of "
                          "those that ran; without head"))
    if residual := record["residual"]:
        found.append(Fact("residual headroom", f"{number(residual['headroom'], 3)} times",
                          Tag.SETTING, f"the peak of {number(residual['peak'])} on the "
                          "calibration text"))
    return found


def range_facts(record: RunRecord) -> list[Fact]:
    """How the fixed-point parts hold values: residual, activation table."""
    facts = []
    if residual := record["residual"]:
        limit = residual["scale"] * 2.0**31
        facts += [
            Fact("residual step", number(residual["scale"]), Tag.SETTING, "int32, a power of two"),
            Fact("residual limit", number(limit), Tag.SETTING, "adds saturate there"),
            Fact("residual peak", number(residual["peak"]), Tag.SETTING,
                 "largest magnitude on the calibration text"),
            Fact("residual headroom", f"{number(residual['headroom'], 3)} times", Tag.SETTING,
                 "limit over peak"),
        ]
    facts += [
        Fact(f"{name} table, worst error", number(error, 3), Tag.SETTING,
             "of the first layer, over all int16 inputs, in the function's units")
        for name, error in record.build.get("function_errors", {}).items()
    ]
    return facts


def verdict(record: RunRecord) -> str:
    """Whether the RTL that ran and golden agree, or how the run ended."""
    if record["bit_exact"]:
        return (f"all {number(sum(record['beats'].values()))} words written equal golden; "
                f"{record['scope']}")
    place = f" in {record['failed_pass']}" if record["failed_pass"] else ""
    if record["status"] != "done":
        return f"the circuit stopped{place}: {' '.join([record['status'], *record['errors']])}"
    if record["first_mismatch"] is None:
        return f"the run is not complete{place}"
    return f"RTL and golden differ{place}"


def mismatch_rows(record: RunRecord) -> list[tuple[str, str]]:
    """The first value that differs or is missing, field by field."""
    miss = record["first_mismatch"]
    if miss is None:
        return []
    names = {"pass": "pass", "layer": "layer", "op": "operation", "instruction": "instruction",
             "opcode": "opcode", "iteration": "loop iteration", "element": "element",
             "expected": "expected", "got": "got", "cycle": "cycle", "detail": "found"}
    return [(title, str(miss[key])) for key, title in names.items() if miss.get(key) is not None]


def step_rows(record: RunRecord, steps: list[Step]) -> list[dict[str, str]]:
    """Numbers of each step as text; those that ran nothing in RTL have dashes."""
    rows = []
    for step in steps:
        row = {"positions": step.positions, "kind": step.kind, "ran": f"{len(step.ran)}/"
               f"{step.passes}", "token": "" if step.token is None else str(step.token)}
        names = ("cycles", "each", "latency", "energy", "bytes", "others", "weights", "wall")
        row |= dict.fromkeys(names, "–")
        if step.ran:
            row |= {
                "cycles": number(step.cycles), "each": number(round(step.cycles / step.tokens)),
                "latency": quantity(step.total("latency_s"), "s"),
                "energy": quantity(step.total("energy_j"), "J"),
                "bytes": number(step.total("weight_bytes")),
                "wall": quantity(step.total("wall_s"), "s", 3),
            }
        if len(step.ran) == 1:
            row |= {"others": percent(step.ran[0]["others_busy"], 1),
                    "weights": percent(step.ran[0]["weights_arriving"], 1)}
        row["state"] = "" if not step.ran else "equal" if step.bit_exact else "differs"
        rows.append(row)
    return rows
