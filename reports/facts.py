"""What a report says of a run: facts with their tags, derived from its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hw.config import HardwareConfig
from hw.errors import LutripError
from hw.register_map import register_map
from hw.resources import Device, load_device
from reports.numbers import Fact, Tag, number, percent, quantity
from reports.records import RunRecord

ATTENTION_NAMES = {"qkvo": "q, k, v and o projections", "mlp": "MLP block"}
RESOURCE_NAMES = {
    "lut": "LUTs", "ff": "flip-flops", "bram36": "block RAMs (36 Kb)", "uram": "UltraRAMs",
    "dsp": "DSP slices",
}


def labels(records: Sequence[RunRecord]) -> list[str]:
    """A short name for each run, unlike the others': scheme, then hardware, folder or number."""
    candidates = (
        [record.name for record in records],
        [f"{record.name} on {record['hardware']['name']}" for record in records],
        [record.path.name for record in records],
    )
    for names in candidates:
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({place})" for place, name in enumerate(candidates[0], 1)]


def scope(record: RunRecord) -> str:
    """The part of the model that ran, in words."""
    first, _, end = str(record["layers"]).partition(":")
    last = int(end) - 1 if end.isdigit() else first
    layers = f"layer {first}" if str(last) == first else f"layers {first} to {last}"
    return f"{layers}: {', '.join(ATTENTION_NAMES.get(part, part) for part in record['parts'])}"


def energy_range(record: RunRecord) -> tuple[float, float]:
    """Joules with every cause at the low and at the high end of its uncertainty."""
    causes = record["energy"]["causes"]
    return (sum(cause["low_joules"] for cause in causes),
            sum(cause["high_joules"] for cause in causes))


def energy_note(record: RunRecord) -> str:
    """The likely range and the card's energy, or for a run without them the widest range."""
    found = record["energy"]
    if "likely_low_j" not in found:
        low, high = energy_range(record)
        return f"{quantity(low, 'J', 3)} to {quantity(high, 'J', 3)}"
    return (f"on chip, likely {quantity(found['likely_low_j'], 'J', 3)} to "
            f"{quantity(found['likely_high_j'], 'J', 3)}; with the card "
            f"{quantity(found['card_j'], 'J', 3)}")


def largest_error(record: RunRecord) -> dict[str, Any] | None:
    """The tensor with the largest error against float, or None where none was compared."""
    return max(record["accuracy"], key=lambda row: float(row["relative_error"]), default=None)


def verdict(record: RunRecord) -> str:
    """Whether RTL and golden agree, and where they first do not."""
    miss = record["first_mismatch"]
    if record["bit_exact"]:
        return f"all {number(sum(record['beats'].values()))} words written equal golden"
    stopped = "" if record["status"] == "done" else " ".join(
        ["; the circuit stopped:", record["status"], *record["errors"]])
    if miss is None:
        return f"the run is not complete{stopped}"
    if miss["instruction"] is None:
        return f"first mismatch: {miss['detail']}{stopped}"
    return (f"first mismatch: instruction {miss['instruction']} {miss['opcode']} {miss['op']}, "
            f"element {miss['element']}, expected {miss['expected']}, got {miss['got']}, "
            f"cycle {miss['cycle']}{stopped}")


def energy_groups(record: RunRecord) -> dict[str, float]:
    """Joules by group: what stands before the colon of a cause, or the cause itself."""
    groups: dict[str, float] = {}
    for cause in record["energy"]["causes"]:
        group = cause["cause"].partition(":")[0]
        groups[group] = groups.get(group, 0.0) + cause["joules"]
    return groups


def findings(record: RunRecord) -> list[Fact]:
    """What the counters say bounds this run: the busiest engine and port, the largest cause."""
    roof, cycles = record["roofline"], record["cycles"]
    reachable = min(roof["peak_operations_per_cycle"],
                    roof["operations_per_byte"] * roof["bytes_per_cycle"])
    side = "bandwidth" if reachable < roof["peak_operations_per_cycle"] else "compute"
    found = [Fact(
        "multiply-adds per cycle", number(roof["operations_per_cycle"]), Tag.SIMULATED,
        f"{percent(roof['operations_per_cycle'], reachable)} of the {side} roof",
    )]
    if record["engines"]:
        engine = max(record["engines"], key=lambda row: int(row["busy_cycles"]))
        found.append(Fact("busiest engine", engine["engine"], Tag.SIMULATED,
                          f"{percent(engine['busy_cycles'], cycles)} of the cycles"))
    if record["ports"]:
        port = max(record["ports"],
                   key=lambda row: row["bytes_per_cycle"] / (row["limit_bytes_per_cycle"] or 1))
        share = percent(port["bytes_per_cycle"], port["limit_bytes_per_cycle"])
        found.append(Fact("busiest port", port["port"], Tag.SIMULATED, f"{share} of its limit"))
    if record["energy"]["causes"]:
        cause = max(record["energy"]["causes"], key=lambda row: float(row["joules"]))
        share = percent(cause["joules"], record["energy_j"])
        found.append(Fact("largest energy", cause["cause"].rpartition(": ")[2], Tag.MODELLED,
                          f"{share} of the whole"))
    return found


def headline(record: RunRecord) -> list[Fact]:
    """The numbers that a reader looks for first."""
    bits = record["bits_per_weight"]
    clock = f"at {record['clock_mhz']:g} MHz"
    tokens = f"{record['tokens']} tokens, these layers only"
    facts = [
        Fact("cycles", number(record["cycles"]), Tag.SIMULATED, f"for {record['tokens']} tokens"),
        Fact("latency", quantity(record["latency_s"], "s"), Tag.MODELLED, clock),
        Fact("tokens per second", number(record["tokens_per_s"]), Tag.MODELLED, tokens),
        Fact("energy", quantity(record["energy_j"], "J"), Tag.MODELLED, energy_note(record)),
        Fact("tokens per joule", number(record["tokens_per_j"]), Tag.MODELLED, tokens),
        Fact("bits read per weight", number(bits["weights"], 3), Tag.SIMULATED,
             f"and {number(bits['centroids'], 3)} for centroids, by all tokens together"),
    ]
    if worst := largest_error(record):
        facts.append(Fact("largest error", percent(worst["relative_error"], 1), Tag.SIMULATED,
                          f"{worst['tensor']} against float"))
    facts.append(Fact("simulator time", quantity(record["wall_s"], "s", 3), Tag.MEASURED,
                      f"{quantity(record['cycles_per_wall_s'], 'cycles/s', 3)}"))
    return facts


def what_ran(record: RunRecord) -> list[Fact]:
    """Model, scheme, hardware, memory and simulator of a run."""
    hardware, memory = record["hardware"], record["memory"]
    skipped = record["counters"].get("skipped_rows", 0)
    return [
        Fact("model", record["model"], Tag.SETTING, scope(record)),
        Fact("scheme", record["scheme"], Tag.SETTING),
        Fact("tokens", number(record["tokens"]), Tag.SETTING),
        Fact("hardware", hardware["name"], Tag.SETTING,
             f"configuration {record['configuration_hash']}"),
        Fact("clock", f"{record['clock_mhz']:g} MHz", Tag.SETTING, "assumed, not from timing"),
        Fact("memory", f"{number(memory['bytes_per_cycle'])} bytes per cycle and port",
             Tag.SETTING, f"latency {number(memory['latency_cycles'])} cycles, "
             f"{memory['outstanding']} reads outstanding"),
        Fact("simulator", record["simulator"], Tag.SETTING),
        Fact("program", f"{number(record['instructions'])} instructions", Tag.SETTING),
        Fact("table lookups", number(record["lookups"]), Tag.SIMULATED),
        *([Fact("positions skipped", number(skipped), Tag.SIMULATED,
                "all their activations are 0; codebooks and indices were not read")]
          if skipped else []),
        Fact("products", number(record["products"]), Tag.SIMULATED),
        Fact("multiply-adds of the layers", number(record["roofline"]["operations"]),
             Tag.SETTING),
        Fact("bytes read through weight ports", number(record["roofline"]["bytes"]), Tag.SIMULATED),
        Fact("wall time", quantity(record["wall_s"], "s", 3), Tag.MEASURED,
             f"{quantity(record['cycles_per_wall_s'], 'cycles/s', 3)}"),
    ]


def device_of(record: RunRecord) -> Device | None:
    """The device that resources are compared with, or None when the table no longer has it."""
    try:
        return load_device(record["device"])
    except LutripError:
        return None


def resource_rows(record: RunRecord) -> list[dict[str, str]]:
    """Estimated resources beside what the device holds."""
    device = device_of(record)
    rows = []
    for name, title in RESOURCE_NAMES.items():
        used = record["resources"][name]
        holds = getattr(device, name) if device else 0
        rows.append({"name": title, "used": number(used),
                     "holds": number(holds) if device else "–", "share": percent(used, holds)})
    return rows


def counter_rows(record: RunRecord) -> list[dict[str, str]]:
    """Counters that are not zero, with what they count."""
    try:
        registers = register_map(HardwareConfig(**record["hardware"]))
        meanings = {register.name: register.description for register in registers}
    except (TypeError, LutripError):
        meanings = {}
    return [{"name": name, "value": number(value), "meaning": meanings.get(name, "")}
            for name, value in record["counters"].items() if value]
