"""Resource estimate from the configuration: a model, to be read with its uncertainty.

Each component takes memories and multipliers by rule (`hw.resource_blocks`) and a sum of terms
(`hw.resource_formulas`) whose coefficients, in `configs/resources` for each flow, were fitted to
synthesis with Yosys; docs/resources.md and docs/resources-ecp5.md have formula against synthesis. A
vendor's tool finds other, often fewer, LUTs: `LUT_RANGE`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hw.config import HardwareConfig
from hw.errors import ConfigError
from hw.presets import CONFIGS, check_keys, load_yaml
from hw.resource_blocks import URAM_DEPTH, Resources, memory, mux_luts
from hw.resource_formulas import COMPONENTS, TERMS, Component

__all__ = [
    "FILL", "FITTED", "FLOWS", "LUT_RANGE", "URAM_DEPTH", "Device", "Resources",
    "Target", "coefficients", "component_blocks", "estimate", "instance", "load_device",
    "term_sizes", "total", "whole",
]

LUT_RANGE = (0.64, 1.0)
"""LUTs of a device for each function that Yosys counts: the densest of two public implementation
reports of LUT-LLM (317,635 LUTs hold 494,334 functions, V80), and one each."""
FILL = {"lut": 0.70, "ff": 0.50, "bram36": 0.80, "uram": 0.80, "dsp": 0.80}
"""Shares up to which AMD expects a design to be placed and routed without trouble
(``report_failfast`` of its UltraFast methodology, UG949)."""
FLOWS = {"xilinx": "xilinx", "versal": "xilinx", "ecp5": "ecp5"}
"""Device families, and the flow of `hw.synthesis` that their coefficients were fitted to."""
FITTED = {"xilinx": ("lut", "lut_cells", "ff"), "ecp5": ("lut", "ff")}
"""Resources with fitted coefficients, by flow; functions of ECP5 have a table each."""

Factors = Mapping[str, Mapping[str, float]]
Rows = list[tuple[str, float, float, float]]
Amounts = tuple[float, float, float, float, float, float]
"""Fields of `Resources`: thousands of objects a second would cost more than the arithmetic."""


def whole(count: float) -> str:
    """A count with thousands; a half block RAM shows."""
    return f"{count:,.1f}".removesuffix(".0")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What components are built from: primitives of a family of `FLOWS`, UltraRAM if there is any.

    Without UltraRAM, a flow's own name is what `hw.synthesis` builds for, and what the formulas
    are held to.
    """

    family: str
    uram: bool = False


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a device holds, and the energy table that describes its process.

    family: of `FLOWS`; `hw.resource_blocks.Resources` says what its counts are of.
    """

    name: str
    title: str
    family: str
    lut: int
    ff: int
    bram36: float
    uram: int
    dsp: int
    memory_gb_per_s: float
    energy: str
    source: str

    def shares(self, resources: Resources) -> dict[str, float]:
        """Used share of each resource; infinite where the device has none of it."""
        counts = resources.rounded()
        return {name: count / getattr(self, name) if getattr(self, name)
                else float("inf") if count else 0.0 for name, count in counts.items()}

    def fits(self, resources: Resources) -> bool:
        """Whether every resource count is within the device."""
        return max(self.shares(resources).values()) <= 1

    def verdict(self, resources: Resources) -> str:
        """Whether the resources fit, which do not and by how much, and which leave no headroom."""
        counts, shares = resources.rounded(), self.shares(resources)
        missing = [f"{name} by {whole(count - getattr(self, name))} ({whole(count)} of "
                   f"{whole(getattr(self, name))})"
                   for name, count in counts.items() if shares[name] > 1]
        if missing:
            return f"does not fit {self.title}: exceeds {', '.join(missing)}"
        tight = [f"{name} {share:.0%} (recommended at most {FILL[name]:.0%})"
                 for name, share in shares.items() if share > FILL[name]]
        if tight:
            return f"fits {self.title} without headroom: {', '.join(tight)}"
        return f"fits {self.title}"


@functools.cache
def _devices() -> dict[str, dict[str, Any]]:
    path = CONFIGS / "devices.yaml"
    table = load_yaml(path)
    for name, device in table.items():
        if device.get("family") not in FLOWS:
            raise ConfigError(f"{path} {name}: family must be {', '.join(FLOWS)}, "
                              f"not {device.get('family')!r}")
    return table


@functools.cache
def _target(device: str) -> Target:
    """What a device builds from; one that the table lacks is taken for UltraScale+."""
    found = _devices().get(device, {})
    return Target(family=found.get("family", "xilinx"), uram=found.get("uram", 0) > 0)


def load_device(name: str) -> Device:
    """Device by its name in configs/devices.yaml; raises ConfigError."""
    table, path = _devices(), CONFIGS / "devices.yaml"
    check_keys(f"{path} (device of the hardware configuration)", {name: None}, set(table), set())
    return Device(name=name, **table[name])


@functools.cache
def coefficients(flow: str) -> dict[str, Factors]:
    """Fitted factors of each component's terms, by resource; raises ConfigError."""
    path, resources = CONFIGS / "resources" / f"{flow}.yaml", FITTED[flow]
    table = load_yaml(path)
    check_keys(path, table, set(COMPONENTS), set(COMPONENTS))
    for name, component in COMPONENTS.items():
        check_keys(f"{path} {name}", table[name], set(resources), set(resources))
        for resource in resources:
            terms = set(component.terms(resource, flow))
            check_keys(f"{path} {name} {resource}", table[name][resource], terms, terms)
    return table


def component_blocks(c: HardwareConfig, name: str, target: Target) -> Resources:
    """What of an instance follows rules: memories, multiplexers, multipliers."""
    return Resources(*_blocks(c, COMPONENTS[name], target))


def instance(
    c: HardwareConfig, name: str, factors: Factors, sizes: Mapping[str, float], target: Target
) -> Resources:
    """One instance of a component; ``sizes``: the values of `TERMS`."""
    return Resources(*_instance(c, COMPONENTS[name], _rows(factors), sizes, target))


def _blocks(c: HardwareConfig, component: Component, target: Target) -> Amounts:
    lut = ff = bram36 = uram = 0.0
    for shape, instances in component.memories(c):
        block = memory(shape, target.family, target.uram)
        lut += block.lut * instances
        ff += block.ff * instances
        bram36 += block.bram36 * instances
        uram += block.uram * instances
    for bits, inputs in component.choices(c):
        lut += bits * mux_luts(inputs, target.family)
    return lut, lut, ff, bram36, uram, component.multipliers(target.family)(c)


def _instance(
    c: HardwareConfig, component: Component, rows: Rows, sizes: Mapping[str, float],
    target: Target,
) -> Amounts:
    lut, cells, ff, bram36, uram, dsp = _blocks(c, component, target)
    for term, lut_factor, cells_factor, ff_factor in rows:
        size = sizes[term]
        lut += size * lut_factor
        cells += size * cells_factor
        ff += size * ff_factor
    return lut, cells, ff, bram36, uram, dsp


def _rows(factors: Factors) -> Rows:
    """Factors by term instead of by resource, as `FITTED` has them."""
    lut, ff = factors["lut"], factors["ff"]
    cells = factors.get("lut_cells", lut)
    return [(term, lut.get(term, 0.0), cells.get(term, 0.0), ff.get(term, 0.0))
            for term in dict.fromkeys((*lut, *cells, *ff))]


@functools.cache
def _table(flow: str) -> list[tuple[str, Component, Rows]]:
    return [(name, component, _rows(coefficients(flow)[name]))
            for name, component in COMPONENTS.items()]


def term_sizes(c: HardwareConfig) -> dict[str, float]:
    """Values of `TERMS`."""
    return {name: size(c) for name, size in TERMS.items()}


def estimate(c: HardwareConfig) -> dict[str, Resources]:
    """Resources by component that the accelerator has, with the blocks of its device."""
    return {name: Resources(*amounts) * count for name, count, amounts in _parts(c)}


def total(c: HardwareConfig) -> Resources:
    """Resources of the whole accelerator."""
    lut = cells = ff = bram36 = uram = dsp = 0.0
    for _, count, amounts in _parts(c):
        lut += count * amounts[0]
        cells += count * amounts[1]
        ff += count * amounts[2]
        bram36 += count * amounts[3]
        uram += count * amounts[4]
        dsp += count * amounts[5]
    return Resources(lut, cells, ff, bram36, uram, dsp)


def _parts(c: HardwareConfig) -> Iterator[tuple[str, float, Amounts]]:
    """Components that there are: name, count and what an instance takes."""
    sizes, target = term_sizes(c), _target(c.device)
    for name, component, rows in _table(FLOWS[target.family]):
        if count := component.count(c):
            yield name, count, _instance(c, component, rows, sizes, target)
