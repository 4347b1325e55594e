"""Losses of the front's schemes: whole models evaluated, one after the other.

During the search a scheme's loss is a prediction (`reports.explore.accuracy`). A measured one
replaces it in every point with that scheme and betters the predictions of others, so that designs
may leave the front and others come in; what is evaluated next is always of the front as it is then.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hw.errors import LutripError
from reports.explore.accuracy import Sensitivities, map_key
from reports.explore.evaluate import Outcome, broken, evaluate_design, loss_metrics
from reports.explore.metrics import ACCURACY
from reports.explore.pareto import best_points, front_points
from reports.explore.precision import Precision
from reports.explore.space import Design, Point, design_of
from reports.explore.study import Study

LEAST_NATS = 1e-3
"""Losses below are alike."""
Evaluate = Callable[[Design, int], Mapping[str, Any]]
"""Result of `lutrip evaluate` for a design with its number, and its ``command``."""


class UnavailableError(LutripError):
    """Model or text is not here: no scheme can be evaluated."""


@dataclass
class FrontLosses:
    """What was measured of a study's front; `known` grows with it.

    rows: of study.json, one for each evaluated scheme, in the order of evaluation.
    """

    study: Study
    known: Sensitivities
    evaluate: Evaluate
    rows: list[dict[str, Any]] = field(default_factory=list)
    _asked: set[tuple[str, Precision]] = field(default_factory=set)
    _unavailable: bool = False

    def next_point(self, outcomes: Mapping[Point, Outcome]) -> Point | None:
        """A design of the front whose loss is a prediction that nobody tried to replace.

        The best in an objective; else that whose loss is furthest from all measured ones.
        """
        if self._unavailable or len(self.rows) >= self.study.evaluate.schemes:
            return None
        measured = [outcome.metrics["loss_nats"] for outcome in outcomes.values()
                    if outcome.accuracy == "measured"]

        def open_points(points: Sequence[Point]) -> list[Point]:
            return [point for point in points if outcomes[point].accuracy == "predicted"
                    and _key(design_of(point, self.study)) not in self._asked]

        best = open_points(best_points(self.study, outcomes))
        others = open_points(front_points(self.study, outcomes))
        return best[0] if best else max(
            others, key=lambda point: gap(outcomes[point].metrics["loss_nats"], measured),
            default=None)

    def measure(self, point: Point, number: int) -> None:
        """Evaluate a point's scheme on the whole model; why it cannot be is kept in its row."""
        design = design_of(point, self.study)
        scheme, precision = design.scheme, Precision.of(design.scheme, design.hardware)
        self._asked.add(_key(design))
        row: dict[str, Any] = {
            "id": number, "scheme": scheme.name, **dataclasses.asdict(precision),
            "predicted_nats": self.known.loss(scheme, precision).nats, "measured_nats": None,
            "perplexity_ratio": None, "predictions": None, "command": None, "error": None}
        try:
            values = self.evaluate(design, number)
        except LutripError as error:
            row["error"] = str(error)
            self._unavailable = isinstance(error, UnavailableError)
        else:
            ratio = values["perplexity"] / values["perplexity_float"]
            row |= {"measured_nats": math.log(ratio), "perplexity_ratio": ratio,
                    "predictions": values["predictions"], "command": values["command"]}
            self.known = self.known.with_whole(scheme, precision, ratio, values["command"])
        self.rows.append(row)

    def settled(self, point: Point, outcome: Outcome) -> Outcome:
        """An outcome by what is known now."""
        if outcome.state == "refused":
            return outcome
        design = design_of(point, self.study)
        loss = self.known.loss(design.scheme, Precision.of(design.scheme, design.hardware))
        if (loss.nats, loss.provenance) == (outcome.metrics["loss_nats"], outcome.accuracy):
            return outcome
        if "request_s" not in outcome.metrics:
            # It ended before the cycle model, so that looking at it again costs little.
            return evaluate_design(design, self.study, self.known)
        metrics = outcome.metrics | loss_metrics(loss)
        violations = outcome.violations | broken(
            tuple(bound for bound in self.study.bounds if bound.metric in ACCURACY), metrics)
        reasons = [bound.text() for bound in self.study.bounds
                   if violations.get(bound.metric, 0) > 0]
        return dataclasses.replace(
            outcome, state="infeasible" if reasons else "feasible", reason="; ".join(reasons),
            metrics=metrics, violations=violations, accuracy=loss.provenance)


def gap(nats: float, measured: Sequence[float]) -> float:
    """How many times larger or smaller, as a logarithm, than the closest measured loss."""
    own = math.log(max(nats, LEAST_NATS))
    return min((abs(own - math.log(max(loss, LEAST_NATS))) for loss in measured),
               default=math.inf)


def _key(design: Design) -> tuple[str, Precision]:
    return map_key(design.scheme), Precision.of(design.scheme, design.hardware)
