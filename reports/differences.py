"""What differs between runs or studies: settings and results in columns beside each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.facts import RESOURCE_NAMES, largest_error
from reports.numbers import Tag, number, percent, quantity
from reports.records import RunRecord

MISSING = "–"


@dataclass(frozen=True)
class Setting:
    """What was chosen for each column, in words."""

    label: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the columns are not all equal."""
        return len(set(self.values)) > 1


@dataclass(frozen=True)
class Result:
    """A number of each column, in words, with its ratio to the first column's."""

    label: str
    tag: Tag
    values: tuple[str, ...]
    ratios: tuple[float | None, ...]
    notes: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the columns are not all equal."""
        return len(set(self.values)) > 1


def word(value: Any) -> str:
    """A setting as a cell shows it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def settings_of(columns: Sequence[Mapping[str, Any]]) -> list[Setting]:
    """One row for each key of any column; a dash where a column lacks it."""
    names = list(dict.fromkeys(name for column in columns for name in column))
    return [Setting(name, tuple(word(column[name]) if name in column else MISSING
                                for column in columns)) for name in names]


def result(
    label: str, tag: Tag, values: Sequence[float | None], text: Callable[[float], str],
    notes: Sequence[str] = (),
) -> Result:
    """A row of numbers; None where a column has none. notes: one for each column, or none."""
    first = values[0]
    return Result(
        label, tag, tuple(MISSING if value is None else text(value) for value in values),
        tuple(value / first if value is not None and first else None for value in values),
        tuple(notes) or ("",) * len(values))


def run_settings(record: RunRecord) -> dict[str, Any]:
    """What was chosen for a run."""
    chosen = {key: record[key] for key in ("model", "scheme", "layers", "parts", "tokens",
                                           "device", "simulator")}
    for group in ("hardware", "memory"):
        chosen |= {f"{group} {name.replace('_', ' ')}": value
                   for name, value in record[group].items()}
    return chosen


def run_results(records: Sequence[RunRecord]) -> list[Result]:
    """What came out of runs."""
    worst = [largest_error(record) for record in records]

    def row(label: str, tag: Tag, key: str, unit: str = "") -> Result:
        return result(label, tag, [record[key] for record in records],
                      (lambda value: quantity(value, unit)) if unit else number)

    rows = [row("cycles", Tag.SIMULATED, "cycles"),
            row("latency", Tag.MODELLED, "latency_s", "s"),
            row("tokens per second", Tag.MODELLED, "tokens_per_s"),
            row("energy", Tag.MODELLED, "energy_j", "J"),
            row("tokens per joule", Tag.MODELLED, "tokens_per_j"),
            result("bits read per weight", Tag.SIMULATED,
                   [record["bits_per_weight"]["weights"] for record in records], number),
            result("largest relative error", Tag.SIMULATED,
                   [each["relative_error"] if each else None for each in worst],
                   lambda value: percent(value, 1)),
            row("wall time", Tag.MEASURED, "wall_s", "s")]
    return rows + [
        result(title, Tag.MODELLED, [record["resources"][name] for record in records],
               lambda value: number(round(value))) for name, title in RESOURCE_NAMES.items()]
