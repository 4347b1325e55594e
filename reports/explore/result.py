"""study.json: everything that the page of a study shows."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from compiler.image.image import write_atomically
from reports.explore.accuracy import Sensitivities
from reports.explore.details import design_values, neighbour_values
from reports.explore.evaluate import Outcome
from reports.explore.findings import findings_of, loss_lines
from reports.explore.importance import importance
from reports.explore.metrics import METRICS
from reports.explore.pareto import best_points, front_points, leading_points
from reports.explore.references import references_of
from reports.explore.run import Explored
from reports.explore.search import sampler_name
from reports.explore.space import Point
from reports.explore.study import Study

FILE, FORMAT = "study.json", 2
DESIGNS = 24
"""Designs of the front that are shown in detail, besides the best of each objective."""


def confirmed_points(study: Study, outcomes: Mapping[Point, Outcome]) -> list[Point]:
    """The designs that run in RTL."""
    return leading_points(study, outcomes)[:study.confirm.designs]


def label_of(name: str) -> str:
    """A parameter in words."""
    return name.replace("hardware.", "").replace("_", " ")


def points_values(
    study: Study, outcomes: Mapping[Point, Outcome], front: Sequence[Point]
) -> dict[str, Any]:
    """A column for everything that is known of all points."""
    chosen = set(front)
    rows = list(outcomes.items())
    used = [name for name in METRICS if any(name in outcome.metrics for _, outcome in rows)]
    return {
        "id": list(range(len(rows))), "state": [outcome.state for _, outcome in rows],
        "reason": [outcome.reason for _, outcome in rows],
        "front": [point in chosen for point, _ in rows],
        "parameters": {
            parameter.name: [parameter.values[point[place]] for point, _ in rows]
            for place, parameter in enumerate(study.parameters)},
        "metrics": {name: [outcome.metrics.get(name) for _, outcome in rows] for name in used},
        "accuracy": [outcome.accuracy for _, outcome in rows],
        "bound_prefill": [outcome.bounds.get("prefill") for _, outcome in rows],
        "bound_decode": [outcome.bounds.get("decode") for _, outcome in rows]}


def constraint_values(study: Study, outcomes: Mapping[Point, Outcome]) -> list[dict[str, Any]]:
    """Constraints, and how many points that were looked at for them meet them."""
    rows = [("fits", "fits its device" + (", with headroom" if study.headroom else ""))]
    rows = rows if study.fits else []
    rows += [(bound.metric, bound.text()) for bound in study.bounds]
    return [{
        "name": name, "text": text,
        "met": sum(outcome.violations.get(name) == 0 for outcome in outcomes.values()),
        "checked": sum(name in outcome.violations for outcome in outcomes.values()),
    } for name, text in rows]


def metric_values(study: Study, error: Mapping[str, Any] | None) -> dict[str, Any]:
    """Names, units and sources of the metrics."""
    said = "" if error is None else (
        f"; mean error {error['mean_absolute_error']:.2%} against RTL over {error['runs']} runs")
    return {name: {
        "label": metric.label, "unit": metric.unit, "goal": metric.goal,
        "provenance": metric.provenance,
        "source": metric.source + (said if "cycle model" in metric.source else "")}
        for name, metric in METRICS.items()}


def study_values(
    state: Explored, *, command: str, out: Path, known: Sensitivities | None,
    error: Mapping[str, Any] | None, evaluations: Sequence[Mapping[str, Any]] = (),
    confirming: Callable[[Point, int], list[dict[str, Any]]] | None = None,
) -> dict[str, Any]:
    """Values of study.json; writes the designs' files.

    known: losses of schemes. error: of the cycle model, as measured. evaluations: rows of
    `reports.explore.front_loss.FrontLosses`. confirming: runs a point, with its number, in RTL and
    returns its rows.
    """
    study, outcomes = state.study, state.outcomes
    front = front_points(study, outcomes)
    ids = {point: number for number, point in enumerate(outcomes)}
    explained = {point: neighbour_values(point, study, outcomes)
                 for point in best_points(study, outcomes)[:1]}
    designs, confirmations = [], []
    to_confirm = confirmed_points(study, outcomes) if confirming is not None else []
    shown = dict.fromkeys([*front[:DESIGNS], *best_points(study, outcomes),
                           *confirmed_points(study, outcomes)])
    for point in shown:
        number = ids[point]
        values = design_values(number, point, outcomes[point], study, out, known)
        values["neighbours"] = explained.get(point, [])
        designs.append(values)
    for point in to_confirm:
        assert confirming is not None
        rows = [{"id": ids[point], **row} for row in confirming(point, ids[point])]
        confirmations += rows
        for values in designs:
            if values["id"] == ids[point]:
                values["confirmation"] = rows
    references = references_of(study)
    states = [outcome.state for outcome in outcomes.values()]
    return {
        "format": FORMAT, "kind": "study", "name": study.name, "title": study.title,
        "question": study.question, "command": command, "study_text": study.text,
        "versions": {"lutrip": version("lutrip"), "python": platform.python_version(),
                     "numpy": version("numpy"), "optuna": version("optuna")},
        "model": study.model, "accuracy_model": study.accuracy,
        "search": {"sampler": sampler_name(study), "seed": study.seed, "points": study.budget,
                   "space": study.space},
        "state": "finished",
        "workloads": [{"name": row.name, "prefill": row.prefill, "decode": row.decode,
                       "weight": row.weight} for row in study.workloads],
        "parameters": [{"name": row.name, "label": label_of(row.name),
                        "values": list(row.values)} for row in study.parameters],
        "objectives": [{"name": name, "goal": study.goal(name)} for name in study.objectives],
        "choose": study.choose, "constraints": constraint_values(study, outcomes),
        "metrics": metric_values(study, error), "measured_error": error,
        "counts": {"asked": state.asked, "distinct": len(outcomes), "front": len(front),
                   **{name: states.count(name) for name in ("refused", "infeasible",
                                                            "feasible")}},
        "points": points_values(study, outcomes, front),
        "importance": importance(study, outcomes),
        "designs": designs, "references": references, "evaluations": list(evaluations),
        "confirmations": confirmations,
        "findings": [*findings_of(study, outcomes, front, ids, explained, references),
                     *loss_lines(study, outcomes, front, evaluations)]}


def write_study(values: Mapping[str, Any], out: Path) -> Path:
    """Write study.json; returns its path."""
    path = out / FILE
    write_atomically(path, (json.dumps(_plain(values), indent=1, allow_nan=False)
                            + "\n").encode())
    return path


def _plain(value: Any) -> Any:
    """Without numbers that JSON lacks."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
