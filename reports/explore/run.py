"""A study from its first point to its last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reports.explore.details import neighbours_of
from reports.explore.evaluate import Outcome
from reports.explore.front_loss import FrontLosses
from reports.explore.journal import Journal
from reports.explore.pareto import best_points
from reports.explore.search import Search, signed
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


@dataclass(frozen=True)
class Points:
    """Evaluates points, each once: the journal has what is known of them."""

    journal: Journal
    workers: Workers
    progress: Progress = lambda state: None

    def evaluate(self, points: Sequence[Point], state: Explored) -> list[Outcome]:
        """Outcomes, put into the state as they come."""
        def done(found: Sequence[tuple[Point, Outcome]]) -> None:
            self.journal.add(found)
            state.evaluated += len(found)
            state.note([outcome for _, outcome in found])
            self.progress(state)

        fresh = [point for point in dict.fromkeys(points) if point not in self.journal.known]
        if fresh:
            self.workers.run(fresh, done)
        outcomes = [self.journal.known[point] for point in points]
        state.outcomes.update(zip(points, outcomes, strict=True))
        state.note(outcomes)
        return outcomes


def explore(study: Study, search: Search, points: Points) -> Explored:
    """Ask, evaluate what nobody evaluated before, tell; until the search ends.

    Then the neighbours of the best design in each objective are tried, until none of them is new.
    """
    state = Explored(study)
    while batch := search.ask():
        outcomes = points.evaluate(batch, state)
        search.tell(outcomes)
        state.asked += len(batch)
        points.progress(state)
    while near := new_neighbours(state):
        points.evaluate(near, state)
    return state


def new_neighbours(state: Explored) -> list[Point]:
    """Points one change away from the best that nobody tried."""
    near = [changed for point in best_points(state.study, state.outcomes)
            for _, _, changed in neighbours_of(point, state.study)]
    return [point for point in dict.fromkeys(near) if point not in state.outcomes]


def measure_front(state: Explored, losses: FrontLosses, points: Points) -> None:
    """Replace predicted losses of the front by measured ones, and try the neighbours of its best.

    A scheme is evaluated only when no neighbour is new, so that an interrupted study comes by the
    same way to the same front.
    """
    while (point := losses.next_point(state.outcomes)) is not None:
        losses.measure(point, list(state.outcomes).index(point))
        state.outcomes = {point: losses.settled(point, outcome)
                          for point, outcome in state.outcomes.items()}
        while near := new_neighbours(state):
            points.evaluate(near, state)
            state.outcomes |= {point: losses.settled(point, state.outcomes[point])
                               for point in near}
