"""Studies beside each other: their fronts, best designs and settings."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from compiler.image.image import write_atomically
from reports.canvas import PALETTE, legend_below, new_figure
from reports.differences import Result, Setting, result, settings_of
from reports.numbers import Tag
from reports.page import REPORT
from reports.study_page import tables
from reports.study_page.chart_data import packed_json, rounded
from reports.study_page.figures import metric_axis
from reports.study_page.page import Drawing, chart_environment, drawing, write_drawings
from reports.study_page.study import Study

SYMBOLS = "oD^sv<>P"


def labels(studies: Sequence[Study]) -> list[str]:
    """A short name for each study, unlike the others': its own, its folder's, or with a number."""
    for names in ([study["name"] for study in studies], [study.path.name for study in studies]):
        if len(set(names)) == len(names):
            return names
    return [f"{study['name']} ({place})" for place, study in enumerate(studies, 1)]


def shared_metrics(studies: Sequence[Study]) -> list[str]:
    """Metrics that every study has, objectives of the first first."""
    names = [*studies[0].goals, *studies[0]["metrics"]]
    return [name for name in dict.fromkeys(names)
            if all(name in study["metrics"] for study in studies)]


def study_settings(study: Study) -> dict[str, Any]:
    """What was chosen for a study."""
    chosen: dict[str, Any] = {
        "question": study["question"], "model": study["model"],
        "accuracy on": study["accuracy_model"],
        "workloads": "; ".join(f"{each['name']}: {each['prefill']} prompt, {each['decode']} new, "
                               f"weight {each['weight']:g}" for each in study["workloads"]),
        "objectives": ", ".join(f"{study.label(name)} ({goal})"
                                for name, goal in study.goals.items()),
        "constraints": "; ".join(each["text"] for each in study["constraints"]) or "none",
    }
    chosen |= {f"search {name}": value for name, value in study["search"].items()}
    chosen |= {f"values of {each['label']}": ", ".join(map(tables.setting, each["values"]))
               for each in study["parameters"]}
    chosen |= {f"version of {name}": text for name, text in study["versions"].items()}
    return chosen


def _tag(name: str, studies: Sequence[Study], best: Sequence[int | None]) -> Tag:
    """Where the best values come from; predicted where one of them is."""
    tags = [study.tag(name, number) for study, number in zip(studies, best, strict=True)
            if number is not None]
    if not tags:
        return Tag(studies[0]["metrics"][name]["provenance"])
    return Tag.PREDICTED if Tag.PREDICTED in tags else tags[0]


def study_results(studies: Sequence[Study]) -> list[Result]:
    """Best value of each study's objectives that all have a number for, then the counts."""
    rows = []
    goals: dict[str, str] = {}
    for study in studies:
        goals |= {name: goal for name, goal in study.goals.items() if name not in goals}
    for name, goal in goals.items():
        if name not in shared_metrics(studies):
            continue
        best = [study.best(name, goal) for study in studies]
        unit, label = studies[0]["metrics"][name]["unit"], studies[0].label(name)
        rows.append(result(
            f"best {label}", _tag(name, studies, best),
            [None if number is None else study.metric(name, number)
             for study, number in zip(studies, best, strict=True)],
            partial(tables.shown, unit=unit),
            ["" if number is None else tables.name_of(study, number)
             for study, number in zip(studies, best, strict=True)]))
    for name, label in (("distinct", "points tried"), ("feasible", "feasible points"),
                        ("front", "designs on the front")):
        rows.append(result(label, Tag.COMPUTED, [study["counts"][name] for study in studies],
                           lambda value: f"{value:,}"))
    return rows


def file_differences(studies: Sequence[Study], names: Sequence[str]) -> list[tuple[str, str]]:
    """Each later study's file against the first's, as a unified diff; equal files are left out."""
    first = studies[0]["study_text"].splitlines()
    found = []
    for study, name in zip(studies[1:], names[1:], strict=True):
        lines = difflib.unified_diff(first, study["study_text"].splitlines(), names[0], name,
                                     lineterm="")
        if text := "\n".join(lines):
            found.append((name, text))
    return found


def fronts(studies: Sequence[Study], names: Sequence[str], metrics: Sequence[str]) -> Figure:
    """All fronts over the first two shared metrics."""
    figure, axes = new_figure(7.5, 4.6)
    chosen = (metrics[0], metrics[min(1, len(metrics) - 1)])
    drawn: tuple[list[float], list[float]] = ([], [])
    for place, (study, name) in enumerate(zip(studies, names, strict=True)):
        found = sorted((x, y) for number in study.front
                       if (x := study.metric(chosen[0], number)) is not None
                       and (y := study.metric(chosen[1], number)) is not None)
        axes.scatter([x for x, _ in found], [y for _, y in found], s=28, label=name,
                     color=PALETTE[place % len(PALETTE)], marker=SYMBOLS[place % len(SYMBOLS)],
                     edgecolor="white", linewidth=0.5)
        drawn[0].extend(x for x, _ in found)
        drawn[1].extend(y for _, y in found)
    for metric, end, values in zip(chosen, "xy", drawn, strict=True):
        metric_axis(studies[0], metric, axes, end, values)
    legend_below(figure, 3)
    return figure


def front_columns(study: Study, name: str, metrics: Sequence[str]) -> dict[str, Any]:
    """A study's front for the page's scripts."""
    parameters = study["points"]["parameters"]
    return {
        "name": name, "points": [tables.name_of(study, number) for number in study.front],
        "columns": {metric: [rounded(study.metric(metric, number)) for number in study.front]
                    for metric in metrics},
        "text": ["<br>".join(f"{study.label(key)}: {tables.setting(column[study.rows[number]])}"
                             for key, column in parameters.items()
                             if key in tables.varied(study))
                 for number in study.front]}


def chart_values(studies: Sequence[Study], names: Sequence[str],
                 metrics: Sequence[str]) -> dict[str, Any]:
    """Everything that the page's scripts need."""
    return {"metrics": {name: {"label": studies[0].label(name),
                               "unit": studies[0]["metrics"][name]["unit"]} for name in metrics},
            "studies": [front_columns(study, name, metrics)
                        for study, name in zip(studies, names, strict=True)]}


def compare_studies(studies: Sequence[Study]) -> tuple[str, dict[str, Drawing]]:
    """The page of studies side by side and its figures."""
    names, metrics = labels(studies), shared_metrics(studies)
    drawings = {}
    if metrics:
        drawings["fronts"] = drawing(fronts(studies, names, metrics), "fronts",
                                     "Fronts of the studies", Tag.MODELLED)
    settings: list[Setting] = settings_of([study_settings(study) for study in studies])
    text = chart_environment().get_template("study_comparison.html").render(
        title="Studies side by side", studies=studies, names=names, metrics=metrics,
        settings=settings, results=study_results(studies),
        file_differences=file_differences(studies, names),
        pictures={name: each.picture for name, each in drawings.items()},
        data=packed_json(chart_values(studies, names, metrics)))
    return text, drawings


def write_study_comparison(studies: Sequence[Study], out: Path) -> list[Path]:
    """Write ``report.html`` and ``figures`` into ``out``; returns the page, then the figures."""
    text, drawings = compare_studies(studies)
    out.mkdir(parents=True, exist_ok=True)
    figures = write_drawings(out, drawings)
    write_atomically(out / REPORT, text.encode())
    return [out / REPORT, *figures]
