"""Coefficients of the resource formulas from synthesized sizes, and the formulas' errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from hw.config import HardwareConfig
from hw.resource_formulas import COMPONENTS, TERMS
from hw.resources import FITTED, Factors, Target, component_blocks, instance, term_sizes
from tests.verify.resource_records import FIT, HELD_OUT, Record, Size

Coefficients = dict[str, dict[str, dict[str, float]]]
COUNTED = ("bram36", "uram", "dsp")
"""Resources that follow rules."""
TOLERANCE, FEW = 0.10, {"lut": 10, "lut_cells": 10, "ff": 4}
"""Allowed relative error of LUTs and flip-flops, or these few in a small component."""


def fit(records: Sequence[Record], sizes: Mapping[str, Size], family: str) -> Coefficients:
    """Coefficients by component, resource and term, from the records of the fit set.

    Non-negative least squares of relative errors; each circuit counts once. Raises ValueError for
    a component that the fit set lacks.
    """
    found: Coefficients = {}
    target = Target(family=family)
    for component, formula in COMPONENTS.items():
        chosen = list({record.circuit: record for record in records
                       if record.component == component and sizes[record.size].set == FIT}.values())
        if not chosen:
            raise ValueError(f"{component}: no size of the fit set is synthesized")
        found[component] = {}
        for resource in FITTED[family]:
            names = formula.terms(resource, family)
            rows, goals = [], []
            for record in chosen:
                config, used = sizes[record.size].config, record.used(family)[resource]
                blocks = getattr(component_blocks(config, component, target), resource)
                rows.append([TERMS[name](config) / max(used, 1) for name in names])
                goals.append((used - blocks) / max(used, 1))
            values = nnls(np.array(rows, dtype=float), np.array(goals))[0] if names else []
            found[component][resource] = {
                name: float(value) for name, value in zip(names, values, strict=True)}
    return found


def rounded(fitted: Coefficients, last: Mapping[str, Factors]) -> Coefficients:
    """Coefficients in four digits, those of ``last`` where they are as near.

    A fit through small counts often ends in a 5, and its last bits differ between processors.
    """
    def of(value: float, before: float | None) -> float:
        half = 0.5 * 10.0 ** (math.floor(math.log10(value)) - 3) if value else 0.0
        if before is not None and abs(before - value) <= half * (1 + 1e-6):
            return before
        return float(f"{value:.4g}")

    return {component: {resource: {
        name: of(value, last.get(component, {}).get(resource, {}).get(name))
        for name, value in factors.items()} for resource, factors in resources.items()}
        for component, resources in fitted.items()}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A record beside its formula.

    fitted: resources with coefficients. new: no size of the fit set has the same terms, memories
    and multipliers.
    """

    record: Record
    fitted: Sequence[str]
    new: bool
    used: Mapping[str, float]
    modelled: Mapping[str, float]

    def error(self, resource: str) -> float:
        """Relative error of the formula."""
        return (self.modelled[resource] - self.used[resource]) / max(self.used[resource], 1)

    def close(self, resource: str) -> bool:
        """Whether a fitted resource is within the tolerance."""
        gap = abs(self.modelled[resource] - self.used[resource])
        return gap <= max(TOLERANCE * self.used[resource], FEW[resource])

    @property
    def missed(self) -> list[str]:
        """Resources that are not within the bar: fitted ones close, counted ones exact."""
        return ([name for name in self.fitted if not self.close(name)]
                + [name for name in COUNTED if self.modelled[name] != self.used[name]])


def compare(
    records: Sequence[Record], sizes: Mapping[str, Size], coefficients: Coefficients, family: str
) -> list[Comparison]:
    """All different circuits beside their formulas, those of the fit set first.

    A circuit whose formula has no other inputs than one before is not repeated.
    """
    seen: set[tuple[str, tuple[object, ...]]] = set()
    found = []
    for record in sorted(records, key=lambda one: sizes[one.size].set == HELD_OUT):
        config = sizes[record.size].config
        key = (record.component, formula_inputs(config, record.component, family))
        if key in seen:
            continue
        seen.add(key)
        modelled = instance(config, record.component, coefficients[record.component],
                            term_sizes(config), Target(family=family))
        found.append(Comparison(
            record=record, fitted=FITTED[family], new=sizes[record.size].set == HELD_OUT,
            used=record.used(family), modelled={
                name: getattr(modelled, name) for name in record.used(family)}))
    return found


def formula_inputs(config: HardwareConfig, component: str, family: str) -> tuple[object, ...]:
    """Everything that a component's formula depends on."""
    formula = COMPONENTS[component]
    terms = formula.terms("lut", family) + formula.terms("ff", family)
    return (*(TERMS[name](config) for name in terms),
            *formula.memories(config), *formula.choices(config),
            formula.multipliers(family)(config))
