"""Parts of a run's result that every kind of build has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler.image.program import Step
from hw.config import HardwareConfig
from hw.isa import ENGINE_OF, Engine
from sim.counters import engine_times, port_bytes, weight_bytes
from sim.energy import Energy
from sim.energy_table import Bounds
from sim.locate import operation
from sim.records import MemoryModel
from sim.timeline import BUSY, Span

Counts = Mapping[str, int]


def engine_names(steps: Sequence[Step], ops: Sequence[str]) -> dict[Engine, list[str]]:
    """Operation of each engine's instructions, in order."""
    names: dict[Engine, list[str]] = {engine: [] for engine in Engine}
    for step in steps:
        names[ENGINE_OF[step.opcode]].append(operation(ops[step.index], step.iteration))
    return names


def span_values(
    found: Sequence[Span], names: Mapping[Engine, Sequence[str]], start: int = 0
) -> list[dict[str, Any]]:
    """Busy spans with the names of their operations; start: cycle that the run begins at."""
    return [
        {"engine": span.engine.name.lower(), "name": names[span.engine][span.order],
         "start_cycle": start + span.start, "end_cycle": start + span.end}
        for span in found if span.state == BUSY and span.order < len(names[span.engine])
    ]


def engine_values(counters: Counts) -> list[dict[str, Any]]:
    """Busy, waiting and idle cycles of every engine."""
    return [
        {"engine": engine, "busy_cycles": time.busy_cycles,
         "waiting_cycles": time.waiting_cycles, "idle_cycles": time.idle_cycles}
        for engine, time in engine_times(counters).items()
    ]


def port_values(
    counters: Counts, config: HardwareConfig, memory: MemoryModel
) -> list[dict[str, Any]]:
    """Traffic of every external port."""
    limit = min(memory.bytes_per_cycle or config.port_bytes, config.port_bytes)
    return [
        {"port": port, "words": moved // config.port_bytes, "bytes": moved,
         "bytes_per_cycle": moved / max(1, counters["cycles"]), "limit_bytes_per_cycle": limit}
        for port, moved in port_bytes(counters, config).items()
    ]


def memory_values(memory: MemoryModel, config: HardwareConfig) -> dict[str, Any]:
    """The memory model."""
    return {
        "latency_cycles": memory.latency_cycles,
        "bytes_per_cycle": memory.bytes_per_cycle or config.port_bytes,
        "outstanding": memory.outstanding,
    }


def energy_values(
    joules: Energy, likely: tuple[Bounds, Bounds], toggles: Mapping[str, float] | None = None,
    *, counted: str = "simulated",
) -> dict[str, Any]:
    """Energy by cause, with its widest range and the ``likely`` ones on chip and with the card.

    toggles: measured changes of a bit in a step, by engine, where they were used. counted: how the
    counters came to be.
    """
    activity = "" if toggles is None else ", activity measured"
    provenance = f"{counted} counters x table {joules.table}{activity}"
    on_chip, card = likely
    return {
        "table": joules.table, "power_w": joules.total.value / max(joules.seconds, 1e-12),
        "low_j": joules.total.lower, "high_j": joules.total.upper,
        "likely_low_j": on_chip.lower, "likely_high_j": on_chip.upper,
        "card_j": card.value, "card_likely_low_j": card.lower, "card_likely_high_j": card.upper,
        "toggles": None if toggles is None else dict(toggles),
        "causes": [
            {"cause": f"{item.group}: {item.cause}", "joules": item.joules.value,
             "low_joules": item.joules.lower, "high_joules": item.joules.upper,
             "provenance": provenance}
            for item in joules.items
        ],
    }


def roofline_values(
    operations: int, counters: Counts, config: HardwareConfig
) -> dict[str, Any]:
    """Multiply-adds against the hardware's peak and the weight ports."""
    moved = max(1, weight_bytes(counters, config))
    peaks = []
    if counters["lut_steps"]:
        peaks.append(config.positions * config.lanes * config.vector_length)
    for mode, tokens in (("w4a4", 2), ("w4a8", 1), ("w8a8", 1), ("w8l4", 1)):
        if counters[f"simd_steps_{mode}"]:
            peaks.append(config.simd_depth * config.lanes * tokens)
    return {
        "operations": operations, "bytes": moved,
        "operations_per_byte": operations / moved,
        "operations_per_cycle": operations / max(1, counters["cycles"]),
        "peak_operations_per_cycle": max(peaks, default=0),
        "bytes_per_cycle": config.weight_ports * config.port_bytes,
    }


def overlap_values(activity: Counts, counters: Counts) -> dict[str, Any]:
    """What runs beside the linear engine, as cycles and as shares of its busy cycles.

    weights_arriving: share of its busy cycles in which a weight port moves a word;
    weights_beside_linear: share of the weight ports' moving cycles in which it is busy;
    prefetched_words: port words of weights that came before their instruction started.
    """
    linear, weights = activity["linear_cycles"], activity["weight_cycles"]
    both = activity["weight_beside_linear_cycles"]
    return {
        **activity,
        "others_busy": activity["linear_beside_others_cycles"] / max(1, linear),
        "weights_arriving": both / max(1, linear),
        "weights_beside_linear": both / max(1, weights),
        "prefetched_words": counters.get("prefetched_words", 0),
    }
