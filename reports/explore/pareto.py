"""The designs that no other beats in every objective."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from reports.explore.evaluate import Outcome
from reports.explore.search import objectives_of, signed
from reports.explore.space import Point
from reports.explore.study import Study

Floats = npt.NDArray[np.float64]


def front(values: Floats) -> list[int]:
    """Rows [N, objectives], smaller better, that no other row dominates; of equal rows the first.

    A row dominates another that it is nowhere worse than and somewhere better.
    """
    # A row can only be dominated by one that comes before it in this order.
    order = np.lexsort(values.T[::-1])
    kept: list[int] = []
    for index in order:
        rows = values[kept]
        if not len(rows) or not bool((rows <= values[index]).all(axis=1).any()):
            kept.append(int(index))
    return sorted(kept)


def front_points(study: Study, outcomes: Mapping[Point, Outcome]) -> list[Point]:
    """Points of the Pareto front, best first by the study's choice; one for each design."""
    feasible = sorted(point for point, outcome in outcomes.items()
                      if outcome.state == "feasible")
    distinct: dict[str, Point] = {}
    for point in feasible:
        distinct.setdefault(outcomes[point].key, point)
    points = list(distinct.values())
    if not points:
        return []
    values = np.array([objectives_of(study, outcomes[point]) for point in points])
    kept = [points[index] for index in front(values)]
    return sorted(kept, key=lambda point: (
        signed(study.choose, outcomes[point].metrics[study.choose]),
        objectives_of(study, outcomes[point]), point))


def best_points(study: Study, outcomes: Mapping[Point, Outcome]) -> list[Point]:
    """The front's best in the metric that orders it, and in each objective."""
    points = front_points(study, outcomes)
    return list(dict.fromkeys(
        min(points, key=lambda point: signed(metric, outcomes[point].metrics[metric]))
        for metric in (study.choose, *study.objectives) if points))


def leading_points(study: Study, outcomes: Mapping[Point, Outcome]) -> list[Point]:
    """The best of each objective, then the front in its order."""
    return list(dict.fromkeys([*best_points(study, outcomes), *front_points(study, outcomes)]))
