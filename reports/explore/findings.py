"""Sentences that a study's numbers say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reports.explore.evaluate import Outcome
from reports.explore.metrics import METRICS, told
from reports.explore.precision import evaluated
from reports.explore.search import signed
from reports.explore.space import Point, values_of
from reports.explore.study import Study

WORSE = 1.02
"""A change that costs less than two percent is not worth a sentence."""


def settings_text(point: Point, study: Study) -> str:
    """Parameters of a point in words."""
    return ", ".join(f"{name.replace('hardware.', '')} {value}"
                     for name, value in values_of(point, study).items()
                     if len(parameter_values(study, name)) > 1)


def parameter_values(study: Study, name: str) -> tuple[Any, ...]:
    """Values that a parameter may have."""
    return next(row.values for row in study.parameters if row.name == name)


def findings_of(
    study: Study, outcomes: Mapping[Point, Outcome], front: Sequence[Point],
    ids: Mapping[Point, int], neighbours: Mapping[Point, Sequence[Mapping[str, Any]]],
    references: Sequence[Mapping[str, Any]],
) -> list[str]:
    """What stands out: the best of each objective, why not its neighbours, what bounds most."""
    lines = [best_line(study, outcomes, front, ids, metric) for metric in study.objectives
             if front]
    for point, rows in neighbours.items():
        lines += [line for row in rows if (line := change_line(study, outcomes[point], row))]
    bounds = Counter(outcome.bounds["decode"] for outcome in outcomes.values() if outcome.bounds)
    if bounds:
        total = sum(bounds.values())
        parts = [f"{bound} {count / total:.0%}" for bound, count in bounds.most_common(3)]
        lines.append(f"What bounds decoding most, over {total:,} points: {', '.join(parts)}.")
    return lines + reference_lines(outcomes, front, ids, references)


def best_line(
    study: Study, outcomes: Mapping[Point, Outcome], front: Sequence[Point],
    ids: Mapping[Point, int], metric: str,
) -> str:
    """The front's best in an objective."""
    best = min(front, key=lambda point: signed(metric, outcomes[point].metrics[metric]))
    outcome = outcomes[best]
    bounds = ", ".join(f"{phase} bound by {bound}" for phase, bound in outcome.bounds.items())
    return (f"Best {METRICS[metric].label}: {told(metric, outcome.metrics[metric])}, design "
            f"{ids[best]} ({settings_text(best, study)}); {bounds}.")


def change_line(study: Study, own: Outcome, row: Mapping[str, Any]) -> str | None:
    """Why one change of a design was not made."""
    name = row["parameter"].replace("hardware.", "")
    change = f"{name} {row['to']} instead of {row['from']}"
    if row["state"] != "feasible":
        return f"Not {change}: {row['reason']}."
    parts = []
    for metric in study.objectives:
        before, after = own.metrics[metric], row["metrics"][metric]
        if before and after and (ratio := after / before) and (
                ratio > WORSE or ratio < 1 / WORSE):
            parts.append(f"{METRICS[metric].label} times {ratio:.3g}")
    if not parts:
        return None
    bounds = ", ".join(f"{phase} bound by {bound}" for phase, bound in row["bounds"].items())
    return f"{change}: {', '.join(parts)}; {bounds}."


def reference_lines(
    outcomes: Mapping[Point, Outcome], front: Sequence[Point], ids: Mapping[Point, int],
    references: Sequence[Mapping[str, Any]],
) -> list[str]:
    """How the front's best compares with what others reach."""
    lines = []
    for reference in references:
        parts = []
        for metric, theirs in reference["metrics"].items():
            if METRICS[metric].unit not in ("s", "J") or not theirs:
                continue
            known = [point for point in front if metric in outcomes[point].metrics]
            if not known:
                continue
            best = min(known, key=lambda point: signed(metric, outcomes[point].metrics[metric]))
            ratio = theirs / outcomes[best].metrics[metric]
            said = f"{ratio:.3g} times better" if ratio >= 1 else f"{1 / ratio:.3g} times worse"
            parts.append(f"{METRICS[metric].label} {said} (design {ids[best]})")
        if parts:
            lines.append(f"Beside {reference['name']} ({reference['provenance']}): "
                         f"{', '.join(parts)}.")
    return lines


def loss_lines(
    study: Study, outcomes: Mapping[Point, Outcome], front: Sequence[Point],
    evaluations: Sequence[Mapping[str, Any]],
) -> list[str]:
    """How much of the front's losses is measured, and how far off predictions were."""
    if study.accuracy is None:
        return []
    lines = []
    measured = sum(outcomes[point].accuracy == "measured" for point in front)
    if front:
        rest = ", predicted for the others" if measured < len(front) else ""
        lines.append(f"Loss on {study.accuracy}: measured on the whole model for {measured:,} of "
                     f"{len(front):,} designs of the front{rest}.")
    for row in evaluations:
        if row["measured_nats"] is not None:
            lines.append(f"Scheme {evaluated(row)}: {row['measured_nats']:.3f} nats measured, "
                         f"{row['predicted_nats']:.3f} predicted.")
        else:
            lines.append(f"Scheme {evaluated(row)} could not be evaluated: {row['error']}.")
    return lines
