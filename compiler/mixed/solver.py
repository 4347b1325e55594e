"""Which candidate every linear takes: the least predicted loss within a budget.

An integer program, as HAWQ-V3 (Yao et al., section 3.4) sets one up: one binary for each linear
and candidate, and one for each preparation of an input, which all linears that share it pay for
once. Solved by branch and bound (HiGHS, through `scipy.optimize.milp`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from compiler.errors import CompileError

GAP = 1e-4
"""Part of the optimum that a solution may be above it."""
SECONDS = 60.0
"""Time limit of one solution; the best one found by then counts."""
TIE = 1e-6
"""Weight of the cost in the loss, so that of equal losses the cheaper one is taken."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One candidate of one linear.

    loss: how much it adds to the predicted loss. cost: its own. preparation: key of its input's
    preparation, None without cost.
    """

    linear: Hashable
    candidate: str
    loss: float
    cost: float
    preparation: Hashable = None


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A candidate for every linear, with its predicted loss and its cost."""

    chosen: Mapping[Hashable, str]
    loss: float
    cost: float


class Problem:
    """Choices of all linears; preparations: cost by key."""

    def __init__(
        self, choices: Sequence[Choice], preparations: Mapping[Hashable, float]
    ) -> None:
        self.choices, self.preparations = list(choices), dict(preparations)
        self.linears = list(dict.fromkeys(choice.linear for choice in choices))
        keys = list(dict.fromkeys(c.preparation for c in choices if c.preparation is not None))
        count = len(self.choices)
        rows = {key: count + i for i, key in enumerate(keys)}
        self.losses = np.array([choice.loss for choice in choices] + [0.0] * len(keys))
        self.costs = np.array([choice.cost for choice in choices]
                              + [self.preparations[key] for key in keys])
        place = {linear: row for row, linear in enumerate(self.linears)}
        width = count + len(keys)
        one_each = scipy.sparse.csr_array(
            (np.ones(count), ([place[choice.linear] for choice in choices], range(count))),
            shape=(len(place), width))
        self.constraints = [LinearConstraint(one_each, 1, 1)]
        # A linear's choice needs its preparation: x - y <= 0.
        needs = [(i, rows[choice.preparation]) for i, choice in enumerate(choices)
                 if choice.preparation is not None]
        if needs:
            at = np.arange(len(needs))
            matrix = scipy.sparse.csr_array(
                (np.concatenate([np.ones(len(needs)), -np.ones(len(needs))]),
                 (np.concatenate([at, at]), np.array(needs).T.reshape(-1))),
                shape=(len(needs), width))
            self.constraints.append(LinearConstraint(matrix, -np.inf, 0))

    def selection(self, chosen: Mapping[Hashable, str]) -> Selection:
        """Loss and cost of given candidates; raises KeyError for one that is no choice."""
        known = {(choice.linear, choice.candidate): choice for choice in self.choices}
        taken = [known[item] for item in chosen.items()]
        keys = {choice.preparation for choice in taken if choice.preparation is not None}
        return Selection(
            chosen=dict(chosen), loss=float(sum(choice.loss for choice in taken)),
            cost=float(sum(choice.cost for choice in taken)
                       + sum(self.preparations[key] for key in keys)))

    def solve(self, budget: float | None, gap: float = GAP) -> Selection | None:
        """The least loss at a cost of at most ``budget``; None where nothing costs so little."""
        constraints = list(self.constraints)
        unit = float(self.costs.max(initial=0.0)) or 1.0
        if budget is not None:
            constraints.append(LinearConstraint(self.costs[None] / unit, -np.inf, budget / unit))
        tie = TIE * self.costs / (float(self.costs.sum()) or 1.0)
        return self._minimum(self.losses / (float(self.losses.max(initial=0.0)) or 1.0) + tie,
                             constraints, gap)

    def cheapest(self) -> Selection:
        """The least cost whatever the loss."""
        unit = float(self.costs.max(initial=0.0)) or 1.0
        found = self._minimum(self.costs / unit, self.constraints, GAP)
        assert found is not None
        return found

    def _minimum(
        self, objective: np.ndarray[tuple[int], np.dtype[np.float64]],
        constraints: Sequence[LinearConstraint], gap: float,
    ) -> Selection | None:
        found = milp(objective, integrality=np.ones(len(objective)), bounds=Bounds(0, 1),
                     constraints=constraints,
                     options={"mip_rel_gap": gap, "time_limit": SECONDS})
        if found.x is None:
            return None
        taken = [choice for choice, value in zip(self.choices, found.x, strict=False)
                 if value > 0.5]
        return self.selection({choice.linear: choice.candidate for choice in taken})


def solve(problem: Problem, budget: float) -> Selection:
    """The least loss within a budget; raises CompileError in one line where there is none."""
    found = problem.solve(budget)
    if found is None:
        least = problem.cheapest().cost
        raise CompileError(f"no mix of these candidates costs {budget:,.6g} or less; the cheapest "
                           f"one costs {least:,.6g}")
    return found


def front(problem: Problem, points: int) -> list[Selection]:
    """Pareto front of predicted loss and cost, the cheapest first: at most ``points`` of it.

    Budgets are spaced evenly on a logarithmic scale between the cheapest mix and the one of least
    loss, both included.
    """
    if points < 2:
        raise ValueError(f"a front has at least 2 points, not {points}")
    best = problem.solve(None)
    assert best is not None
    least = problem.cheapest().cost
    budgets = np.geomspace(max(least, 1e-30), max(best.cost, least, 1e-30), points)
    # Rounding must not put the ends out of reach.
    found = [problem.solve(budget * (1 + 1e-9)) for budget in budgets[:-1]]
    return pareto([point for point in [*found, best] if point is not None])


def pareto(points: Sequence[Selection]) -> list[Selection]:
    """The points that no other one beats, the cheapest first."""
    kept: list[Selection] = []
    for point in sorted(points, key=lambda point: (point.cost, point.loss)):
        if not kept or point.loss < kept[-1].loss:
            kept.append(point)
    return kept
