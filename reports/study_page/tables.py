"""What a study's page says in tiles and tables, derived from its values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from reports.numbers import Fact, Tag, number, quantity
from reports.study_page.study import GOALS, INFEASIBLE, REFUSED, Study, finite

SCALED_UNITS = ("s", "J", "W", "B", "Hz")
PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
SHOWN_ON_FRONT = 100
"""Rows of the front's table; front.csv holds all."""


@dataclass(frozen=True)
class Scale:
    """What people read a metric in: ``factor`` base units."""

    unit: str
    factor: float


@dataclass(frozen=True)
class Ratio:
    """A value, and how many times that of the design it stands beside."""

    value: float | None
    ratio: float | None


def shown(value: float | None, unit: str, digits: int = 4) -> str:
    """A metric's value with its unit; a dash where there is none."""
    if value is None:
        return "–"
    if unit in SCALED_UNITS:
        return quantity(value, unit, digits)
    return f"{number(value, digits)} {unit}".rstrip()


def setting(value: Any) -> str:
    """A parameter's value as a reader knows it from the study file."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def scale_of(study: Study, name: str) -> Scale:
    """The unit with the prefix that suits most of a metric's values."""
    unit = study["metrics"][name]["unit"]
    values = [abs(value) for value in finite(study["points"]["metrics"][name]) if value]
    if unit not in SCALED_UNITS or not values:
        return Scale(unit, 1.0)
    middle = median(values)
    factor, prefix = next((pair for pair in PREFIXES if middle >= pair[0]), PREFIXES[-1])
    return Scale(prefix + unit, factor)


def named(study: Study, name: str) -> list[tuple[str, float]]:
    """References' values of a metric with their names, FPGAs before GPUs."""
    ordered = sorted(study["references"], key=lambda reference: reference["kind"] != "fpga")
    return [(reference["name"], value) for reference in ordered
            if (value := reference["metrics"].get(name)) is not None]


def gain(study: Study, name: str, value: float, other: float) -> float:
    """How many times better ``value`` is than ``other``."""
    return value / other if goal_of(study, name) == GOALS[1] else other / value


def goal_of(study: Study, name: str) -> str:
    """Which direction of a metric is better."""
    return str(study.goals.get(name) or study["metrics"][name].get("goal", GOALS[0]))


def headline(study: Study) -> list[tuple[Fact, int]]:
    """The best value of each objective, with the id of its design."""
    found = []
    for name in study.goals:
        design = study.best(name)
        if design is None:
            continue
        value = study.metric(name, design)
        assert value is not None
        metric = study["metrics"][name]
        note = ""
        if value > 0 and (others := [pair for pair in named(study, name) if pair[1] > 0]):
            other, its = others[0]
            note = f"{number(gain(study, name, value, its), 3)} times as good as {other}"
        word = "highest" if study.goals[name] == GOALS[1] else "lowest"
        found.append((Fact(f"{word} {metric['label']}", shown(value, metric["unit"]),
                           study.tag(name, design), note), design))
    return found


def measured_losses(study: Study) -> int:
    """Designs of the front whose loss is measured on the whole model."""
    accuracy = study["points"]["accuracy"]
    return sum(accuracy[study.rows[number]] == Tag.MEASURED for number in study.front)


def best_designs(study: Study) -> dict[int, list[str]]:
    """For each design that is the best in something, the labels of these objectives."""
    found: dict[int, list[str]] = {}
    for name in study.goals:
        if (design := study.best(name)) is not None:
            found.setdefault(design, []).append(study.label(name))
    return found


def name_of(study: Study, design: int) -> str:
    """A point's name."""
    return str(study.designs[design]["name"]) if design in study.designs else f"design {design}"


def front_metrics(study: Study) -> list[str]:
    """Columns of the front's table: objectives first, then what constraints are on."""
    bound = [item["name"] for item in study["constraints"] if item["name"] in study["metrics"]]
    return list(dict.fromkeys([*study.goals, *bound]))


def varied(study: Study) -> list[str]:
    """Parameters that differ among the points, in their order."""
    return [name for name, column in study["points"]["parameters"].items()
            if len({str(value) for value in column}) > 1]


def reference_metrics(study: Study) -> list[str]:
    """Metrics that the study and at least one reference have."""
    return [name for name in study["metrics"] if named(study, name)]


def beside_references(study: Study) -> list[dict[str, Any]]:
    """Best designs, then references; ratios are to the first row."""
    names = reference_metrics(study)
    rows: list[dict[str, Any]] = [
        {"name": name_of(study, design), "id": design, "kind": "this study",
         "note": f"best in {', '.join(labels)}",
         "metrics": {name: study.metric(name, design) for name in names},
         "tags": {name: study.tag(name, design) for name in names}, "source": ""}
        for design, labels in best_designs(study).items()]
    rows += [{"name": item["name"], "id": None, "kind": item["kind"].upper(), "note": item["note"],
              "metrics": item["metrics"], "source": item["source"],
              "tags": dict.fromkeys(names, item["provenance"])} for item in study["references"]]
    for row in rows:
        first = rows[0]["metrics"]
        row["cells"] = {
            name: Ratio(value, value / first[name] if value is not None and first.get(name)
                        else None)
            for name in names for value in [row["metrics"].get(name)]}
    return rows


def importance_rows(study: Study) -> list[tuple[str, list[float]]]:
    """Parameters with their share in each objective that has shares, largest first."""
    shares = study["importance"]
    names = list(dict.fromkeys(name for each in shares.values() for name in each))
    rows = [(name, [float(each.get(name, 0.0)) for each in shares.values()]) for name in names]
    return sorted(rows, key=lambda row: -max(row[1]))


def map_parameters(study: Study) -> list[str]:
    """The two parameters that matter most; fewer where fewer vary."""
    ranked = [name for name, _ in importance_rows(study)]
    free = varied(study)
    return [name for name in dict.fromkeys([*ranked, *free]) if name in free][:2]


def reasons(study: Study) -> list[dict[str, Any]]:
    """Why points were refused or break a constraint, grouped by the reason without its numbers."""
    columns = study["points"]
    groups: dict[tuple[str, str], list[str]] = {}
    for state, reason in zip(columns["state"], columns["reason"], strict=True):
        if state in (REFUSED, INFEASIBLE):
            plain = re.sub(r"\b\d[\d,.]*\b", "…", reason) or "no reason given"
            groups.setdefault((state, plain), []).append(reason)
    counted = Counter({key: len(found) for key, found in groups.items()})
    return [{"state": state, "reason": plain, "count": count, "example": groups[state, plain][0]}
            for (state, plain), count in counted.most_common()]


def largest(
    rows: Sequence[Mapping[str, Any]], key: str, name: str, most: int
) -> list[dict[str, Any]]:
    """The largest rows by ``key``, then the rest together, called so under ``name``.

    Each with its share of the whole, and the length of its bar beside the longest.
    """
    ordered = sorted((row for row in rows if row[key]), key=lambda row: -row[key])
    kept = [dict(row) for row in ordered[:most]]
    if rest := ordered[most:]:
        kept.append({name: f"{len(rest)} smaller", "bound": "",
                     key: sum(row[key] for row in rest)})
    whole, longest = sum(row[key] for row in kept), max((row[key] for row in kept), default=0)
    return [row | {"share": row[key] / whole, "length": row[key] / longest} for row in kept]


def bound_shares(study: Study, steps: Sequence[dict[str, Any]]) -> list[tuple[str, float]]:
    """Share of a critical path that each cause bounds, largest first."""
    sums: Counter[str] = Counter()
    for step in steps:
        sums[step["bound"]] += step["cycles"]
    whole = sum(sums.values()) or 1.0
    return [(name or "other steps", cycles / whole) for name, cycles in sums.most_common()]
