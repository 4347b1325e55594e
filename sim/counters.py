"""Counters of a run: how they are read, and the quantities that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hw.config import HardwareConfig
from hw.isa import Engine
from hw.register_map import COUNTERS_OFFSET, Register, register_map


def counter_registers(config: HardwareConfig) -> list[Register]:
    """Counters of the register map, ``cycles`` first."""
    return [register for register in register_map(config) if register.offset >= COUNTERS_OFFSET]


@dataclass(frozen=True, kw_only=True)
class EngineTime:
    """Cycles of one engine: running an instruction, waiting for tokens, and neither."""

    busy_cycles: int
    waiting_cycles: int
    idle_cycles: int


def engine_times(counters: Mapping[str, int]) -> dict[str, EngineTime]:
    """Breakdown of the run for each engine."""
    cycles = counters["cycles"]
    times = {}
    for engine in Engine:
        name = engine.name.lower()
        busy, waiting = counters[f"busy_{name}"], counters[f"waiting_{name}"]
        times[name] = EngineTime(busy_cycles=busy, waiting_cycles=waiting,
                                 idle_cycles=max(0, cycles - busy - waiting))
    return times


def port_bytes(counters: Mapping[str, int], config: HardwareConfig) -> dict[str, int]:
    """Bytes moved on each external port: w0.., centroid, aux and write."""
    prefix = "read_words_"
    moved = {name.removeprefix(prefix): words * config.port_bytes
             for name, words in counters.items() if name.startswith(prefix)}
    return {**moved, "write": counters["write_words"] * config.port_bytes}


def weight_bytes(counters: Mapping[str, int], config: HardwareConfig) -> int:
    """Bytes read on the weight ports: tables, indices, codebooks, weights and scales."""
    return sum(moved for name, moved in port_bytes(counters, config).items()
               if name not in ("centroid", "aux", "write"))


def lookups(counters: Mapping[str, int], config: HardwareConfig) -> int:
    """Table entries added up by the lookup engine (columns filled up to whole blocks included)."""
    return counters["lut_steps"] * config.positions * config.lanes


def products(counters: Mapping[str, int], config: HardwareConfig) -> int:
    """Products computed by the multiplier array, shifts included; W4A4 takes two tokens a step."""
    steps = (2 * counters["simd_steps_w4a4"] + counters["simd_steps_w4a8"]
             + counters["simd_steps_w8a8"] + counters["simd_steps_w8l4"])
    return steps * config.lanes * config.simd_depth


def total(runs: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counters of several runs added up."""
    result: dict[str, int] = {}
    for counters in runs:
        for name, value in counters.items():
            result[name] = result.get(name, 0) + value
    return result
