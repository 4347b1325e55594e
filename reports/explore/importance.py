"""How much each parameter alone matters for each objective."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from reports.explore.evaluate import Outcome
from reports.explore.space import Point
from reports.explore.study import Study

FEWEST = 8
"""Feasible points from which on anything is said."""


def importance(study: Study, outcomes: Mapping[Point, Outcome]) -> dict[str, dict[str, float]]:
    """Part of the variance of each objective's logarithm that each parameter explains alone.

    The main effects of a functional analysis of variance (Hutter et al., ICML 2014, section 3),
    over the feasible points themselves instead of a model of them. Parameters that do not vary are
    left out; objectives that do not vary too.
    """
    feasible = [point for point, outcome in outcomes.items() if outcome.state == "feasible"]
    found: dict[str, dict[str, float]] = {}
    if len(feasible) < FEWEST:
        return found
    places = np.array(feasible)
    for metric in study.objectives:
        values = np.array([outcomes[point].metrics[metric] for point in feasible])
        # A loss can be 0, everything else is positive.
        scaled = np.log(values) if (values > 0).all() else values
        if (total := float(scaled.var())) < 1e-12:
            continue
        found[metric] = {
            parameter.name: _explained(places[:, number], scaled) / total
            for number, parameter in enumerate(study.parameters)
            if len(np.unique(places[:, number])) > 1}
    return found


def _explained(place: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> float:
    """Variance of the means of the points with one value each."""
    mean = values.mean()
    return float(sum(
        (place == one).mean() * (values[place == one].mean() - mean) ** 2
        for one in np.unique(place)))
