"""The likely range of an energy: what each table value's uncertainty does, added in squares.

A table value is off the same way wherever it is used, so its share of all causes adds up linearly.
Different values come from different measurements and are taken as independent, so their effects
add up in squares. Values of one vendor report may share an error of that report; the widest range
(`sim.energy.Energy.total`) holds even then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from hw.config import HardwareConfig
from hw.resources import Resources
from sim.energy import Energy, energy
from sim.energy_table import Bounds, EnergyTable


def effects(
    evaluate: Callable[[EnergyTable], float], table: EnergyTable
) -> dict[str, tuple[float, float]]:
    """How far a result moves down and up when each table value alone goes to its bounds."""
    value = evaluate(table)
    moved = {}
    for key, item in table.values.items():
        ends = [evaluate(table.at(key, end)) - value
                for end in (item.bounds.lower, item.bounds.upper)]
        moved[key] = (min(0.0, *ends), max(0.0, *ends))
    return moved


def likely(evaluate: Callable[[EnergyTable], float], table: EnergyTable) -> Bounds:
    """A result with its likely range."""
    value, moved = evaluate(table), effects(evaluate, table).values()
    return Bounds(value, value - math.hypot(*(down for down, _ in moved)),
                  value + math.hypot(*(up for _, up in moved)))


def _on_chip(result: Energy) -> float:
    return result.total.value


def _card(result: Energy) -> float:
    return result.card.value


def likely_energy(
    counters: Mapping[str, int], config: HardwareConfig, resources: Resources, table: EnergyTable,
    toggles: Mapping[str, float] | None = None,
) -> tuple[Bounds, Bounds]:
    """Likely range of a run's energy, on chip and with the card; arguments as for `energy`."""

    def of(scope: Callable[[Energy], float]) -> Bounds:
        return likely(
            lambda changed: scope(energy(counters, config, resources, changed, toggles)), table)

    return of(_on_chip), of(_card)
