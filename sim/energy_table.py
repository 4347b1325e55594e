"""Energy tables: values with unit, provenance, source and bounds, read from YAML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.errors import ConfigError
from hw.presets import check_keys, find, load_yaml

SCALES = {"fJ": 1e-15, "pJ": 1e-12, "W": 1.0, "ms": 1e-3, "GB/s": 1e9, "TOPS": 1e12}
"""Units in SI; other units count as they are."""
PROVENANCES = ("vendor report", "derived", "measured", "assumed")
ACTIVITY = ("data_toggle", "clock_enable")
DYNAMIC = (
    "clock_load_cycle", "clock_loads_per_ff", "lut_toggle", "ff_toggle", "bram_read_36",
    "bram_write_36", "uram_read", "uram_read_bit", "uram_write", "uram_write_bit", "dsp_multiply",
)
STATIC = ("static", "memory_background", "processor")
CARD = ("card_efficiency", "card_auxiliary")
"""Of the board: output over input power of the regulators, and what hangs on none of them."""


@dataclass(frozen=True)
class Bounds:
    """A quantity with its lower and upper bound.

    Operations take all of them as correlated: sums and products of lower bounds are lower bounds.
    """

    value: float
    lower: float
    upper: float

    def __add__(self, other: Bounds) -> Bounds:
        return Bounds(self.value + other.value, self.lower + other.lower, self.upper + other.upper)

    def __mul__(self, other: Bounds | float) -> Bounds:
        if not isinstance(other, Bounds):
            return Bounds(self.value * other, self.lower * other, self.upper * other)
        return Bounds(self.value * other.value, self.lower * other.lower, self.upper * other.upper)

    def __truediv__(self, other: Bounds) -> Bounds:
        return Bounds(self.value / other.value, self.lower / other.upper, self.upper / other.lower)


@dataclass(frozen=True, kw_only=True)
class TableValue:
    """One entry of a table: SI value with bounds, and where it comes from."""

    bounds: Bounds
    unit: str
    provenance: str
    source: str


@dataclass(frozen=True, kw_only=True)
class EnergyTable:
    """Energies of one device. Keys of ``values`` are those of the YAML file."""

    name: str
    title: str
    device: str
    memory: str
    values: Mapping[str, TableValue]

    def __getitem__(self, key: str) -> Bounds:
        return self.values[key].bounds

    def at(self, key: str, value: float) -> EnergyTable:
        """The table with another value (SI, without bounds) for one key."""
        changed = dataclasses.replace(self.values[key], bounds=Bounds(value, value, value))
        return dataclasses.replace(self, values={**self.values, key: changed})


def table_value(where: str, record: Any, sources: Mapping[str, str]) -> TableValue:
    """A value with its bounds and source from YAML; raises ConfigError that names ``where``."""
    if not isinstance(record, dict):
        raise ConfigError(f"{where}: must be a mapping with value, unit, provenance and source")
    needed = {"value", "unit", "provenance", "source"}
    check_keys(where, record, needed | {"uncertainty", "lower", "upper", "note"}, needed)
    if record["provenance"] not in PROVENANCES:
        raise ConfigError(f"{where}: provenance must be {', '.join(PROVENANCES)}, "
                          f"not {record['provenance']!r}")
    if record["source"] not in sources:
        raise ConfigError(f"{where}: source {record['source']!r} is not under sources")
    value = record["value"]
    if "uncertainty" in record:
        lower, upper = (value * (1 + sign * record["uncertainty"]) for sign in (-1, 1))
    elif "lower" in record and "upper" in record:
        lower, upper = record["lower"], record["upper"]
    else:
        raise ConfigError(f"{where}: needs uncertainty, or lower and upper")
    if not 0 <= lower <= value <= upper:
        raise ConfigError(f"{where}: must have 0 <= lower <= value <= upper, "
                          f"not {lower}, {value}, {upper}")
    note = f"; {record['note']}" if "note" in record else ""
    scale = SCALES.get(record["unit"], 1.0)
    return TableValue(
        bounds=Bounds(value, lower, upper) * scale, unit=record["unit"],
        provenance=record["provenance"], source=sources[record["source"]] + note,
    )


def load_energy(name: str, device: str) -> EnergyTable:
    """Table by name or file, for one of its devices; raises ConfigError in one line."""
    path: Path = find("energy", name)
    data = load_yaml(path)
    keys = {"name", "title", "sources", "activity", "dynamic", "offchip_bit", "devices"}
    check_keys(path, data, keys, keys)
    if device not in data["devices"]:
        raise ConfigError(f"{path}: no device {device!r}; known: {', '.join(data['devices'])}")
    own = data["devices"][device]
    needed = {"memory", *STATIC, *CARD}
    check_keys(f"{path}: {device}", own, needed, needed)
    check_keys(f"{path}: activity", data["activity"], set(ACTIVITY), set(ACTIVITY))
    check_keys(f"{path}: dynamic", data["dynamic"], set(DYNAMIC), set(DYNAMIC))
    if own["memory"] not in data["offchip_bit"]:
        raise ConfigError(f"{path}: {device}: memory {own['memory']!r} is not under offchip_bit")
    records = {**data["activity"], **data["dynamic"], **{key: own[key] for key in STATIC + CARD},
               "offchip_bit": data["offchip_bit"][own["memory"]]}
    return EnergyTable(
        name=data["name"], title=data["title"], device=device, memory=own["memory"],
        values={key: table_value(f"{path}: {key}", record, data["sources"])
                for key, record in records.items()},
    )
