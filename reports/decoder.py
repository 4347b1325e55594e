"""What a report says of a whole model's run, derived from its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports import facts
from reports.decoder_format import DECODE, PREFILL
from reports.numbers import Fact, Tag, number, percent, quantity
from reports.records import RunRecord
from reports.steps import Step, finished, growth, layer_count, layer_rows

CONSTANTS = "norms, rotations, factors"
MEMORY_KINDS = ("layers", "embedding", "head", "key-value cache", "scratch", "token slots",
                "program", "header", CONSTANTS)


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
    shown = [
        Fact("new tokens", number(len(record["token_ids"])), whose,
             f"of {record['new_tokens']}, after a prompt of {len(record['prompt_tokens'])}"
             + ("" if not note else "; chosen by golden")),
        Fact("cycles", number(record["cycles"]), Tag.SIMULATED,
             f"{number(ran)} of {number(len(record['passes']))} passes ran{note}"),
    ]
    for kind in (PREFILL, DECODE):
        if phase := record[kind]:
            each = phase["latency_s"] / phase["tokens"]
            shown.append(Fact(f"{kind}, tokens per second", number(phase["tokens_per_s"]),
                              Tag.MODELLED, f"{quantity(each, 's')} each {clock}{note}"))
    for kind in (PREFILL, DECODE):
        if phase := record[kind]:
            shown.append(Fact(f"{kind}, energy a token",
                              quantity(phase["energy_j"] / phase["tokens"], "J"), Tag.MODELLED,
                              f"{number(phase['tokens_per_j'])} tokens per joule{note}"))
    shown.append(Fact("energy of the run", quantity(record["energy_j"], "J"), Tag.MODELLED,
                      facts.energy_note(record)))
    if phase := record[DECODE]:
        shown.append(Fact("weights read a decode token",
                          quantity(phase["weight_bytes"] / phase["tokens"], "B"), Tag.SIMULATED,
                          f"keys and values included{note}"))
        shown.append(Fact("simulator time a decode token",
                          quantity(phase["wall_s_per_token"], "s", 3), Tag.MEASURED, note[2:]))
    shown.append(Fact("simulator time", quantity(record["wall_s"], "s", 3), Tag.MEASURED,
                      f"{quantity(record['cycles_per_wall_s'], 'cycles/s', 3)}; golden "
                      f"{quantity(record['golden_wall_s'], 's', 3)}"))
    return shown


def findings(record: RunRecord) -> list[Fact]:
    """Growth with context, headroom, and what a sampled run says of all layers."""
    found = []
    decode = [step for step in finished(record) if step.kind == DECODE]
    if line := growth(decode):
        found.append(Fact(
            "a position of context costs", f"{number(round(line[1], 2))} cycles", Tag.SIMULATED,
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
    shown = []
    if residual := record["residual"]:
        limit = residual["scale"] * 2.0**31
        shown += [
            Fact("residual step", number(residual["scale"]), Tag.SETTING, "int32, a power of two"),
            Fact("residual limit", number(limit), Tag.SETTING, "adds saturate there"),
            Fact("residual peak", number(residual["peak"]), Tag.SETTING,
                 "largest magnitude on the calibration text"),
            Fact("residual headroom", f"{number(residual['headroom'], 3)} times", Tag.SETTING,
                 "limit over peak"),
        ]
    shown += [
        Fact(f"{name} table, worst error", number(error, 3), Tag.SETTING,
             "of the first layer, over all int16 inputs, in the function's units")
        for name, error in record.build.get("function_errors", {}).items()
    ]
    return shown


def verdict(record: RunRecord) -> str:
    """Whether the RTL that ran and golden agree, or how the run ended."""
    if record["bit_exact"]:
        return (f"all {number(sum(record['beats'].values()))} words written equal golden; "
                f"{record['scope']}")
    place = f" in {record['failed_pass']}" if record["failed_pass"] else ""
    if record["status"] != "done":
        return f"the circuit stopped{place}: {' '.join([record['status'], *record['errors']])}"
    if record["first_mismatch"] is None:
        ran = sum(row["simulated"] for row in record["passes"])
        return f"the run is not complete: {ran} passes ran, all equal golden"
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


def step_rows(steps: Sequence[Step]) -> list[dict[str, str]]:
    """Numbers of each step as text; those that ran nothing in RTL have dashes."""
    rows = []
    for step in steps:
        row = {"positions": step.positions, "kind": step.kind, "ran": f"{len(step.ran)}/"
               f"{step.passes}", "token": "" if step.token is None else str(step.token)}
        names = ("cycles", "each", "energy", "bytes", "others", "weights", "wall")
        row |= dict.fromkeys(names, "–")
        if step.ran:
            row |= {
                "cycles": number(step.cycles), "each": number(round(step.cycles / step.tokens)),
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


def what_ran(record: RunRecord) -> list[Fact]:
    """Model, scheme, hardware, memory and simulator of a run."""
    # Of a block's multiply-adds the layers say the number; of a decoder's the counters do.
    rows = [fact for fact in facts.what_ran(record)
            if fact.label not in ("tokens", "multiply-adds of the layers", "model")]
    positions = sum(record[kind]["tokens"] for kind in (PREFILL, DECODE) if record[kind])
    return [
        Fact("model", record["model"], Tag.SETTING, scope(record)),
        Fact("prompt", f"{len(record['prompt_tokens'])} tokens", Tag.SETTING),
        Fact("new tokens asked for", number(record["new_tokens"]), Tag.SETTING),
        Fact("key-value capacity", f"{number(record['capacity'])} positions", Tag.SETTING),
        Fact("positions run in RTL", number(positions), Tag.SIMULATED, alone(record)[2:]),
        Fact("passes taken from an earlier run", number(record["resumed_passes"]), Tag.SETTING),
        *rows,
    ]


def memory_sections(record: RunRecord) -> list[dict[str, Any]]:
    """Sections of the memory with their kind, and whether they are image, cache or scratch."""
    rows = []
    for row in record["memory_map"]:
        first = row["section"].partition(".")[0].partition(" ")[0]
        kind = {"cache": "key-value cache", "token": "token slots", "positions": "embedding",
                "head_input": "head"}.get(first, first)
        if kind not in MEMORY_KINDS:
            kind = CONSTANTS
        use = "cache" if first == "cache" else \
            "scratch" if kind in ("scratch", "token slots") else "image"
        rows.append({**row, "kind": kind, "use": use})
    return rows


def memory_kinds(record: RunRecord) -> list[dict[str, Any]]:
    """Bytes of each kind of section, the largest first."""
    sizes: dict[str, int] = {}
    for row in memory_sections(record):
        sizes[row["kind"]] = sizes.get(row["kind"], 0) + row["bytes"]
    return [{"kind": kind, "bytes": size}
            for kind, size in sorted(sizes.items(), key=lambda item: -item[1])]
