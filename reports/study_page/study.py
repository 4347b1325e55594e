"""A finished search read back: the format of ``study.json``, and questions that pages ask of it.

Point columns have one entry for each point, in the order of their ids; a metric is null where a
point has none. Metrics are in base units (s, J, W).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hw.errors import LutripError
from reports.decoder_format import OR_NULL
from reports.numbers import Tag
from reports.records import ANY_KEY, check

STUDY = "study.json"
FORMAT_NUMBER = 2
FEASIBLE, INFEASIBLE, REFUSED = "feasible", "infeasible", "refused"
STATES = (FEASIBLE, INFEASIBLE, REFUSED)
PREFILL, DECODE = "prefill", "decode"
GOALS = ("minimize", "maximize")

NUMBER_OR_NULL = (OR_NULL, float)
CONFIRMATION = {"id": int, "what": str, "phase": str, "model_cycles": float, "rtl_cycles": float,
                "error": float, "bit_exact": bool}
EVALUATION = {"id": int, "scheme": str, "row_bits": int, "key_bits": int, "value_bits": int,
              "predicted_nats": float, "measured_nats": NUMBER_OR_NULL,
              "perplexity_ratio": NUMBER_OR_NULL, "predictions": (OR_NULL, int),
              "command": (OR_NULL, str), "error": (OR_NULL, str)}
BY_POINT = ("loss_nats", "perplexity_ratio")
"""Metrics that are measured for some points and predicted for others."""
DESIGN = {
    "id": int, "name": str, "parameters": {}, "metrics": {ANY_KEY: NUMBER_OR_NULL},
    "hardware": {}, "scheme": object, "files": {ANY_KEY: str}, "commands": [str],
    "resources": {ANY_KEY: {"used": float, "available": float, "share": float}}, "verdict": str,
    "phases": [{
        "workload": str, "phase": str, "cycles": float, "latency_s": float, "tokens": int,
        "energy_j": NUMBER_OR_NULL,
        "path": [{"name": str, "bound": str, "cycles": float}],
        "energy_causes": [{"cause": str, "joules": float}],
    }],
    "accuracy": (OR_NULL, {"perplexity_ratio": NUMBER_OR_NULL, "provenance": str, "source": str}),
}
NEIGHBOUR = {"parameter": str, "from": object, "to": object, "state": str, "reason": str,
             "metrics": {ANY_KEY: NUMBER_OR_NULL}}
FORMAT: dict[str, Any] = {
    "name": str, "title": str, "question": str, "command": str, "study_text": str,
    "versions": {ANY_KEY: str}, "model": str, "accuracy_model": (OR_NULL, str),
    "search": {"sampler": str, "seed": int, "points": int, "space": (OR_NULL, int)},
    "state": str,
    "workloads": [{"name": str, "prefill": int, "decode": int, "weight": float}],
    "parameters": [{"name": str, "label": str, "values": [object]}],
    "objectives": [{"name": str, "goal": str}],
    "constraints": [{"name": str, "text": str, "met": int}],
    "metrics": {ANY_KEY: {"label": str, "unit": str, "provenance": str, "source": str}},
    "measured_error": (OR_NULL, {"command": str, "runs": int, "mean_absolute_error": float,
                                 "worst_absolute_error": float}),
    "counts": {"asked": int, "distinct": int, "refused": int, "infeasible": int, "feasible": int,
               "front": int},
    "points": {
        "id": [int], "state": [str], "reason": [str], "front": [bool],
        "parameters": {ANY_KEY: [object]}, "metrics": {ANY_KEY: [NUMBER_OR_NULL]},
        "bound_prefill": [(OR_NULL, str)], "bound_decode": [(OR_NULL, str)], "accuracy": [str],
    },
    "importance": {ANY_KEY: {ANY_KEY: float}},
    "designs": [DESIGN],
    "references": [{"name": str, "kind": str, "provenance": str, "source": str,
                    "metrics": {ANY_KEY: NUMBER_OR_NULL}, "note": str}],
    "evaluations": [EVALUATION],
    "confirmations": [CONFIRMATION],
    "findings": [str],
}
"""Keys of a study and what they hold; more keys are allowed."""


@dataclass(frozen=True)
class Study:
    """A search's results, checked by `study_of`, and the folder that holds them."""

    path: Path
    values: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @cached_property
    def rows(self) -> dict[int, int]:
        """Where each point stands in the columns, by its id."""
        return {number: row for row, number in enumerate(self["points"]["id"])}

    @cached_property
    def designs(self) -> dict[int, Mapping[str, Any]]:
        """The points in detail, by id, best first."""
        return {design["id"]: design for design in self["designs"]}

    @cached_property
    def bounds(self) -> list[str]:
        """Everything that bounds a phase of a point or an operation of a design."""
        columns = self["points"]
        paths = [step["bound"] for design in self["designs"] for phase in design["phases"]
                 for step in phase["path"]]
        found = [*columns["bound_decode"], *columns["bound_prefill"], *sorted(paths)]
        return list(dict.fromkeys(name for name in found if name))

    @cached_property
    def goals(self) -> dict[str, str]:
        """Minimize or maximize, for each objective."""
        return {objective["name"]: objective["goal"] for objective in self["objectives"]}

    @cached_property
    def front(self) -> list[int]:
        """Ids of the front: those in detail first, as the search ordered them."""
        columns = self["points"]
        on_front = [number for number, front in zip(columns["id"], columns["front"], strict=True)
                    if front]
        known = set(on_front)
        first = [number for number in self.designs if number in known]
        return [*first, *(number for number in on_front if number not in self.designs)]

    def metric(self, name: str, number: int) -> float | None:
        """A metric of a point; None where it has none."""
        value: float | None = self["points"]["metrics"][name][self.rows[number]]
        return value

    def tag(self, name: str, number: int) -> Tag:
        """Where a metric of a point comes from."""
        own = self["points"]["accuracy"][self.rows[number]] if name in BY_POINT else ""
        return Tag(own or self["metrics"][name]["provenance"])

    def label(self, name: str) -> str:
        """A metric's or a parameter's name for people."""
        if name in self["metrics"]:
            return str(self["metrics"][name]["label"])
        labels = {each["name"]: each["label"] for each in self["parameters"]}
        return str(labels.get(name, name))

    def best(self, name: str, goal: str | None = None) -> int | None:
        """The feasible point with the best value of a metric; of an objective, of the front.

        goal: of a metric that is no objective.
        """
        sign = -1.0 if (goal or self.goals[name]) == GOALS[1] else 1.0
        points = self["points"]
        numbers = self.front if name in self.goals else [
            number for number, state in zip(points["id"], points["state"], strict=True)
            if state == FEASIBLE]
        found = [(sign * value, number) for number in numbers
                 if (value := self.metric(name, number)) is not None]
        return min(found)[1] if found else None


def study_of(path: Path, values: Mapping[str, Any]) -> Study:
    """Check a study's values; raises ValueError, in one line, for the first that is wrong.

    Metrics that no point has are left out.
    """
    check(values, FORMAT, "study")
    _check_columns(values)
    values = {**values, "metrics": {name: values["metrics"][name]
                                    for name in values["points"]["metrics"]}}
    for design in values["designs"]:
        check(design.get("neighbours", []), [NEIGHBOUR], "study.designs.neighbours")
    for name in [objective["name"] for objective in values["objectives"]]:
        if name not in values["points"]["metrics"]:
            raise ValueError(f"study.points.metrics lacks the objective {name}")
    tags = [("metrics", each) for each in values["metrics"].values()]
    tags += [("references", each) for each in values["references"]]
    tags += [("designs.accuracy", each["accuracy"]) for each in values["designs"]
             if each["accuracy"]]
    for where, item in tags:
        if item["provenance"] not in set(Tag):
            raise ValueError(f"study.{where}: no provenance is called {item['provenance']!r}")
    if unknown := sorted(set(values["points"]["accuracy"]) - {"", *Tag}):
        raise ValueError(f"study.points.accuracy: no provenance is called {unknown[0]!r}")
    for objective in values["objectives"]:
        if objective["goal"] not in GOALS:
            raise ValueError(f"study.objectives: {objective['goal']!r} is no goal")
    ids = set(values["points"]["id"])
    for where in ("designs", "evaluations", "confirmations"):
        for item in values[where]:
            if item["id"] not in ids:
                raise ValueError(f"study.{where}: there is no point {item['id']}")
    return Study(path=path, values=values)


def _check_columns(values: Mapping[str, Any]) -> None:
    points = values["points"]
    count = len(points["id"])
    if len(set(points["id"])) != count:
        raise ValueError("study.points.id holds a number twice")
    named = {each["name"] for each in values["parameters"]}
    if unknown := sorted(set(points["parameters"]) ^ named):
        raise ValueError(f"study.parameters and study.points.parameters differ in {unknown[0]}")
    if unknown := sorted(set(points["metrics"]) - set(values["metrics"])):
        raise ValueError(f"study.metrics lacks {unknown[0]}, which study.points.metrics has")
    columns: dict[str, Sequence[Any]] = {
        name: points[name] for name in ("state", "reason", "front", "accuracy", "bound_prefill",
                                        "bound_decode")}
    columns |= {f"{kind}.{name}": column for kind in ("parameters", "metrics")
                for name, column in points[kind].items()}
    for name, column in columns.items():
        if len(column) != count:
            raise ValueError(f"study.points.{name} has {len(column)} entries, not {count}")
    if unknown := sorted(set(points["state"]) - set(STATES)):
        raise ValueError(f"study.points.state: {unknown[0]!r} is none of {', '.join(STATES)}")


def _not_a_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def load_study(folder: Path) -> Study:
    """Read a study's folder; raises LutripError in one line when it holds no whole study."""
    path = folder / STUDY
    try:
        values = json.loads(path.read_bytes(), parse_constant=_not_a_number)
    except (FileNotFoundError, NotADirectoryError):
        raise LutripError(f"{folder}: holds no study (no {STUDY}); run 'lutrip explore' with "
                          f"--out {folder} first") from None
    except OSError as error:
        raise LutripError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise LutripError(f"{path}: damaged ({error}); run 'lutrip explore' again") from None
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT_NUMBER:
        raise LutripError(f"{path}: has format {found!r:.20}, this version of lutrip reads "
                          f"{FORMAT_NUMBER}; run 'lutrip explore' again")
    try:
        return study_of(folder, values)
    except ValueError as error:
        raise LutripError(f"{path}: damaged ({error}); run 'lutrip explore' again") from None


def finite(values: Sequence[float | None]) -> list[float]:
    """The values that are there."""
    return [value for value in values if value is not None and math.isfinite(value)]
