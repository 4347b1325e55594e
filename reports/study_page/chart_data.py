"""A study's points for the page's scripts: columns, repeated values as indices, six digits."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from reports.study_page import tables
from reports.study_page.study import BY_POINT, Study

DIGITS = 6


def rounded(value: float | None) -> float | int | None:
    """Whole numbers as they are, others to six digits; study.json and points.csv hold all."""
    if value is None:
        return None
    if float(value).is_integer() and abs(value) < 1e15:
        return int(value)
    return float(f"{value:.{DIGITS}g}")


def coded(column: Sequence[Any], known: Sequence[Any] = ()) -> dict[str, Any]:
    """A column as its distinct values, ``known`` first, and an index for each entry."""
    places: dict[str, int] = {}
    values: list[Any] = []
    for value in [*known, *column]:
        key = json.dumps(value, sort_keys=True)
        if key not in places:
            places[key] = len(values)
            values.append(value)
    return {"values": values,
            "codes": [places[json.dumps(value, sort_keys=True)] for value in column]}


def chart_data(study: Study) -> dict[str, Any]:
    """Everything that the scripts need."""
    points = study["points"]
    known = {each["name"]: each["values"] for each in study["parameters"]}
    described = {}
    for name, metric in study["metrics"].items():
        scale = tables.scale_of(study, name)
        described[name] = {"label": metric["label"], "unit": metric["unit"],
                           "tag": metric["provenance"], "shown": scale.unit,
                           "factor": scale.factor}
    return {
        "parameters": [
            {"name": each["name"], "label": each["label"],
             **coded(points["parameters"][each["name"]], known[each["name"]])}
            for each in study["parameters"]],
        "metrics": described, "objectives": study["objectives"], "bounds": study.bounds,
        "map": tables.map_parameters(study),
        "columns": {name: [rounded(value) for value in column]
                    for name, column in points["metrics"].items()},
        "id": points["id"], "state": coded(points["state"]), "reason": coded(points["reason"]),
        "front": [int(value) for value in points["front"]],
        "accuracy": {"metrics": BY_POINT, **coded(points["accuracy"])},
        "bound": {phase: coded(points[f"bound_{phase}"]) for phase in ("prefill", "decode")},
        "designs": {design: item["name"] for design, item in study.designs.items()},
        "references": [{"name": item["name"], "kind": item["kind"],
                        "metrics": {name: value for name, value in item["metrics"].items()
                                    if name in described}} for item in study["references"]],
        "best": list(tables.best_designs(study)),
        "confirmations": study["confirmations"],
        "error": study["measured_error"],
    }


def packed(text: str) -> Markup:
    """Text as gzip in base64, which scripts of the page unpack; equal text gives equal bytes."""
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())


def packed_json(values: Any) -> Markup:
    """Values for a page's scripts."""
    return packed(json.dumps(values, separators=(",", ":"), allow_nan=False))
