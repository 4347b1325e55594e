"""A study from its first point to its last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from reports.explore.details import neighbours_of
from reports.explore.evaluate import Outcome
from reports.explore.journal import Journal
from reports.explore.pareto import front
from reports.explore.search import Search, objectives_of, signed
from reports.explore.space import Point
from reports.explore.study import Study
from reports.explore.workers import Workers


@dataclass
class Explored:
    """How far a search is.

    asked: points, with repetitions. outcomes: by point, in the order in which they were asked for.
    evaluated, best: of this run so far; feasible value of the metric that orders the front.
    """

    study: Study
    asked: int = 0
    evaluated: int = 0
    best: float | None = None
    outcomes: dict[Point, Outcome] = field(default_factory=dict)

    def note(self, outcomes: Sequence[Outcome]) -> None:
        """Look for a better one."""
        metric = self.study.choose
        for outcome in outcomes:
            if outcome.state == "feasible" and (
                    self.best is None
                    or signed(metric, outcome.metrics[metric]) < signed(metric, self.best)):
                self.best = outcome.metrics[metric]


Progress = Callable[[Explored], None]


def explore(
    study: Study, search: Search, journal: Journal, workers: Workers,
    progress: Progress = lambda state: None,
) -> Explored:
    """Ask, evaluate what nobody evaluated before, tell; until the search ends.

    Then the neighbours of the best design in each objective are tried, until none of them is new.
    """
    state = Explored(study)

    def done(found: Sequence[tuple[Point, Outcome]]) -> None:
        journal.add(found)
        state.evaluated += len(found)
        state.note([outcome for _, outcome in found])
        progress(state)

    def evaluated(points: Sequence[Point]) -> list[Outcome]:
        fresh = [point for point in dict.fromkeys(points) if point not in journal.known]
        if fresh:
            workers.run(fresh, done)
        outcomes = [journal.known[point] for point in points]
        state.outcomes.update(zip(points, outcomes, strict=True))
        state.note(outcomes)
        return outcomes

    while batch := search.ask():
        outcomes = evaluated(batch)
        search.tell(outcomes)
        state.asked += len(batch)
        progress(state)
    while True:
        near = [changed for point in best_points(study, state.outcomes)
                for _, _, changed in neighbours_of(point, study)]
        fresh = [point for point in dict.fromkeys(near) if point not in state.outcomes]
        if not fresh:
            return state
        evaluated(fresh)


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
