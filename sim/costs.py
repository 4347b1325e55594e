"""Energy of counters on one piece of hardware, with its device, size and table."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from hw.config import HardwareConfig
from hw.resources import load_device, total
from sim.energy import Energy, energy
from sim.energy_range import likely_energy
from sim.energy_table import Bounds, EnergyTable, load_energy


@functools.cache
def _table(name: str, device: str) -> EnergyTable:
    """A shipped table, read once."""
    return load_energy(name, device)


class Costs:
    """Energy of runs; toggles: measured changes of a bit in a step, by engine (`sim.activity`)."""

    def __init__(
        self, config: HardwareConfig, toggles: Mapping[str, float] | None = None
    ) -> None:
        self.config, self.toggles = config, toggles
        self.device = load_device(config.device)
        self.resources = total(config)
        self._table = _table(self.device.energy, config.device)

    def energy(self, counters: Mapping[str, int]) -> Energy:
        """Energy of a run."""
        return energy(counters, self.config, self.resources, self._table, self.toggles)

    def likely(self, counters: Mapping[str, int]) -> tuple[Bounds, Bounds]:
        """Likely range of a run's energy, on chip and with the card."""
        return likely_energy(counters, self.config, self.resources, self._table, self.toggles)
