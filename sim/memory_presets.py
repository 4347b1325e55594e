"""External memories by name: nanoseconds and gigabytes, with where they are from."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.config import HardwareConfig
from hw.errors import ConfigError
from hw.presets import check_keys, find, load_yaml
from hw.resources import load_device
from sim.records import LATENCY_MIN, OUTSTANDING_MAX, MemoryModel

DEFAULT = {"u280": "hbm2-u280", "v80": "hbm2e-v80", "kv260": "ddr4-kv260"}
"""Memory of a device, where there is a preset of it."""
LIMITS = {
    "latency_ns": (0, 1e6), "gb_per_s": (0.1, 1e6), "row_bytes": (1, 1 << 30),
    "row_miss_ns": (0, 1e6), "refresh_interval_ns": (0, 1e9), "refresh_ns": (0, 1e9),
    "outstanding": (1, OUTSTANDING_MAX),
}
"""Lowest and highest value that a file may give."""
WHOLE = ("row_bytes", "outstanding")
OTHER_PORTS = 3
"""Besides the weight ports: centroids, aux and writes."""


@dataclass(frozen=True, kw_only=True)
class MemoryPreset:
    """One port's view of a memory.

    latency_ns: from an address to its first word.
    gb_per_s: peak of what one port reaches.
    row_bytes: bytes of a memory row.
    row_miss_ns: what a burst in another row costs the data bus.
    refresh_interval_ns, refresh_ns: of every interval, no data moves for refresh_ns.
    outstanding: bursts ahead.
    sources: where each value is from.
    """

    name: str
    latency_ns: float
    gb_per_s: float
    row_bytes: int
    row_miss_ns: float
    refresh_interval_ns: float
    refresh_ns: float
    outstanding: int
    sources: dict[str, str]

    def at(self, config: HardwareConfig) -> MemoryModel:
        """In cycles of a configuration's clock."""
        cycles = config.clock_mhz / 1e3
        peak = self.gb_per_s / cycles
        return MemoryModel(
            latency_cycles=max(LATENCY_MIN, math.ceil(self.latency_ns * cycles)),
            bytes_per_cycle=None if peak >= config.port_bytes else peak,
            outstanding=self.outstanding, row_bytes=self.row_bytes,
            row_miss_cycles=round(self.row_miss_ns * cycles),
            refresh_interval_cycles=round(self.refresh_interval_ns * cycles),
            refresh_cycles=round(self.refresh_ns * cycles))

    def ports_gb_per_s(self, config: HardwareConfig) -> float:
        """What all ports of a configuration move at most, each at its own rate."""
        most = config.port_bytes * config.clock_mhz / 1e3
        return (config.weight_ports + OTHER_PORTS) * min(self.gb_per_s, most)

    def device_gb_per_s(self) -> float | None:
        """Peak of the whole memory, where this is the memory of a known device."""
        for device, name in DEFAULT.items():
            if name == self.name:
                return load_device(device).memory_gb_per_s
        return None

    def streaming_fraction(self) -> float:
        """Part of the peak that long reads in order reach."""
        if not self.refresh_interval_ns:
            return 1.0
        return 1 - self.refresh_ns / self.refresh_interval_ns

    def random_fraction(self, burst_bytes: int) -> float:
        """Part of the peak that bursts in rows of their own reach."""
        moved = burst_bytes / self.gb_per_s
        return self.streaming_fraction() * moved / (moved + self.row_miss_ns)


def load_memory(name: str) -> MemoryPreset:
    """Preset by name or YAML file; raises ConfigError in one line."""
    path: Path = find("memory", name)
    value: dict[str, Any] = load_yaml(path)
    keys = set(MemoryPreset.__dataclass_fields__) - {"name"}
    check_keys(path, value, keys, keys)
    for key, (lowest, highest) in LIMITS.items():
        given, kinds = value[key], int if key in WHOLE else int | float
        # A value that is not a number is not between bounds either.
        if isinstance(given, bool) or not isinstance(given, kinds) or not (
                lowest <= given <= highest):
            kind = "a whole number" if key in WHOLE else "a number"
            raise ConfigError(f"{path}: {key} must be {kind} from {lowest:,} to {highest:,}, "
                              f"not {given!r}")
    if value["row_bytes"] & (value["row_bytes"] - 1):
        raise ConfigError(f"{path}: row_bytes must be a power of two, not {value['row_bytes']}")
    if value["refresh_ns"] and value["refresh_ns"] >= value["refresh_interval_ns"]:
        raise ConfigError(f"{path}: refresh_ns must be less than refresh_interval_ns "
                          f"({value['refresh_interval_ns']:g}), not {value['refresh_ns']:g}")
    if not isinstance(value["sources"], dict):
        raise ConfigError(f"{path}: sources must map the other keys to where they are from")
    return MemoryPreset(name=path.stem, **value)


def default_memory(config: HardwareConfig) -> MemoryPreset:
    """Memory of a configuration's device, else an ideal one."""
    return _shipped(DEFAULT.get(config.device, "ideal"))


@functools.cache
def _shipped(name: str) -> MemoryPreset:
    """A shipped preset, read once."""
    return load_memory(name)
