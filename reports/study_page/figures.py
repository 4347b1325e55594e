"""Figures of a study for papers and for print, drawn with matplotlib."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import EngFormatter, NullFormatter

from reports.canvas import FAINT, INK, PALETTE, legend_below, new_figure, new_figures
from reports.study_page import tables
from reports.study_page.study import FEASIBLE, GOALS, INFEASIBLE, Study, finite

ACCENT = "#d1495b"
MOST_LINES = 250
"""Lines of the parallel coordinates; of more points every n-th is drawn, and the whole front."""
SPREAD = 10.0
"""Values over more than this ratio go on a logarithmic axis."""


def axes_of(study: Study) -> tuple[str, str]:
    """The two metrics that a front is shown over first."""
    names = [*study.goals, *(name for name in study["metrics"] if name not in study.goals)]
    return names[0], names[1] if len(names) > 1 else names[0]


def wide(values: list[float]) -> bool:
    """Whether values want a logarithmic axis."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > SPREAD


def metric_axis(study: Study, name: str, axes: Any, end: str, values: list[float]) -> None:
    """Label, scale and ticks of a metric's axis; end: x or y; no values: linear, as bars are."""
    axis = getattr(axes, f"{end}axis")
    unit = study["metrics"][name]["unit"]
    scaled = unit in tables.SCALED_UNITS
    label = study.label(name)
    axis.set_label_text(label if scaled or not unit else f"{label}, {unit}")
    if wide(values):
        axes.set(**{f"{end}scale": "log"})
        axis.set_minor_formatter(NullFormatter())
    if scaled:
        axis.set_major_formatter(EngFormatter(unit))


def front(study: Study) -> Figure:
    """All points over the first two metrics, the front and the references among them."""
    figure, axes = new_figure(7.5, 4.8)
    names = axes_of(study)
    columns = study["points"]
    xs, ys = (columns["metrics"][name] for name in names)
    drawn: tuple[list[float], list[float]] = ([], [])
    groups = (("breaks a constraint", INFEASIBLE, False, {"color": FAINT, "marker": "x", "s": 9,
                                                          "linewidth": 0.6}),
              ("feasible", FEASIBLE, False, {"color": PALETTE[0], "s": 9, "alpha": 0.6,
                                             "linewidth": 0}),
              ("on the front", FEASIBLE, True, {"color": ACCENT, "marker": "D", "s": 32,
                                                "edgecolor": "white", "linewidth": 0.6}))
    for label, state, on_front, look in groups:
        found = [(x, y) for x, y, its, kept in zip(xs, ys, columns["state"], columns["front"],
                                                   strict=True)
                 if its == state and kept == on_front and x is not None and y is not None]
        if found:
            across, up = zip(*found, strict=True)
            axes.scatter(across, up, label=label, rasterized=not on_front, **look)
            drawn[0].extend(across)
            drawn[1].extend(up)
    for place, reference in enumerate(study["references"]):
        point = [reference["metrics"].get(name) for name in names]
        if None not in point:
            axes.scatter(*point, marker="*", s=90, color=INK,
                         label=None if place else "references")
            axes.annotate(reference["name"].partition(" (")[0], point, fontsize=8, color=INK,
                          textcoords="offset points", xytext=(6, 4))
            drawn[0].append(point[0])
            drawn[1].append(point[1])
    for name, end, values in zip(names, "xy", drawn, strict=True):
        metric_axis(study, name, axes, end, values)
    if drawn[0]:
        legend_below(figure, 4)
    return figure


def parallel(study: Study) -> Figure:
    """Parameters and objectives of the feasible points, one line each."""
    figure, axes = new_figure(10, 4)
    columns = study["points"]
    rows = [row for row, state in enumerate(columns["state"]) if state == FEASIBLE]
    step = max(1, math.ceil(len(rows) / MOST_LINES))
    rows = [row for place, row in enumerate(rows) if place % step == 0 or columns["front"][row]]
    heights: list[list[float]] = []
    labels: list[str] = []
    for name in tables.varied(study):
        values = next(each["values"] for each in study["parameters"] if each["name"] == name)
        known = [*values, *(each for each in columns["parameters"][name] if each not in values)]
        top = max(1, len(known) - 1)
        heights.append([known.index(columns["parameters"][name][row]) / top for row in rows])
        for place, value in enumerate(known):
            _mark(axes, len(labels), place / top, tables.setting(value))
        labels.append(study.label(name))
    for name in study.goals:
        column = columns["metrics"][name]
        values = finite([column[row] for row in rows])
        norm = (LogNorm if wide(values) else Normalize)(*((min(values), max(values))
                                                          if values else (0, 1)))
        heights.append([float(norm(column[row])) if column[row] is not None else 0.0
                        for row in rows])
        for height in (0.0, 0.5, 1.0) if values else ():
            _mark(axes, len(labels), height, tables.shown(
                float(norm.inverse(height)), study["metrics"][name]["unit"], 3))
        labels.append(study.label(name))
    for on_front, colour, width in ((False, PALETTE[0], 0.4), (True, ACCENT, 1.2)):
        lines = [[(place, column[at]) for place, column in enumerate(heights)]
                 for at, row in enumerate(rows) if columns["front"][row] == on_front]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=width,
                                           alpha=1 if on_front else 0.35))
    for place in range(len(labels)):
        axes.axvline(place, color=FAINT, linewidth=0.8, zorder=0)
    axes.set_xticks(range(len(labels)), [label.replace(" ", "\n", 1) for label in labels])
    axes.set(yticks=[], xlim=(-0.2, len(labels) - 0.3), ylim=(-0.04, 1.08))
    axes.tick_params(axis="x", labelsize=8, length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    return figure


def _mark(axes: Any, across: float, height: float, text: str) -> None:
    axes.annotate(text, (across, height), fontsize=7, color=INK, textcoords="offset points",
                  xytext=(3, 2))


def bounds(study: Study) -> Figure | None:
    """What bounds decode of the best design of each pair of the two weightiest parameters."""
    chosen = tables.map_parameters(study)
    if len(chosen) < 2:
        return None
    columns, goal = study["points"], next(iter(study.goals))
    sign = -1.0 if study.goals[goal] == GOALS[1] else 1.0
    best: dict[tuple[str, str], tuple[float, str]] = {}
    for row, state in enumerate(columns["state"]):
        value, bound = columns["metrics"][goal][row], columns["bound_decode"][row]
        if state != FEASIBLE or value is None or bound is None:
            continue
        x, y = (tables.setting(columns["parameters"][name][row]) for name in chosen)
        best[x, y] = min(best.get((x, y), (math.inf, "")), (sign * value, bound))
    across, down = ([tables.setting(value) for each in study["parameters"] if each["name"] == name
                     for value in each["values"]] for name in chosen)
    figure, axes = new_figure(1.8 + 1.15 * len(across), 1.4 + 0.62 * len(down))
    colours = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(study.bounds)}
    unit = study["metrics"][goal]["unit"]
    for (x, y), (value, bound) in best.items():
        if x in across and y in down:
            place = (across.index(x), down.index(y))
            axes.add_patch(Rectangle((place[0] - 0.48, place[1] - 0.47), 0.96, 0.94,
                                     color=colours[bound]))
            axes.annotate(tables.shown(sign * value, unit, 3), place, ha="center", va="center",
                          fontsize=8, color="white", weight="bold")
    axes.set_xticks(range(len(across)), across)
    axes.set_yticks(range(len(down)), down)
    axes.set(xlim=(-0.55, len(across) - 0.45), ylim=(len(down) - 0.45, -0.55),
             xlabel=study.label(chosen[0]), ylabel=study.label(chosen[1]))
    counts = Counter(bound for _, bound in best.values())
    figure.legend(handles=[Patch(color=colours[bound], label=bound)
                           for bound, _ in counts.most_common()],
                  loc="outside lower left", ncols=3, frameon=False, fontsize=9)
    return figure


def importance(study: Study) -> Figure | None:
    """Each parameter's share in each objective's variation."""
    rows = tables.importance_rows(study)
    if not rows:
        return None
    names = list(study["importance"])
    figure, axes = new_figure(7, 1.3 + 0.2 * len(rows) * (1 + len(names)) / 1.5)
    height = 0.8 / len(names)
    for place, name in enumerate(names):
        axes.barh([row + place * height - 0.4 + height / 2 for row in range(len(rows))],
                  [100 * shares[place] for _, shares in rows], height * 0.92,
                  color=PALETTE[place % len(PALETTE)], label=study.label(name))
    axes.set_yticks(range(len(rows)), [study.label(name) for name, _ in rows])
    axes.invert_yaxis()
    axes.set_xlabel("share of the variation explained, %")
    legend_below(figure, 3)
    return figure


def references(study: Study) -> Figure | None:
    """Best designs beside GPUs and published designs, one axis for each shared metric."""
    names, rows = tables.reference_metrics(study), tables.beside_references(study)
    if not names or rows[0]["id"] is None:
        return None
    figure, grid = new_figures(3.2 * len(names) + 2, 1.1 + 0.34 * len(rows), [1.0] * len(names),
                               across=True)
    colours = {"this study": ACCENT, "FPGA": PALETTE[0]}
    for place, (name, axes) in enumerate(zip(names, grid, strict=True)):
        values = [row["metrics"].get(name) for row in rows]
        bars = axes.barh(range(len(rows)), [value or 0 for value in values], height=0.66,
                         color=[colours.get(row["kind"], FAINT) for row in rows])
        unit = study["metrics"][name]["unit"]
        axes.bar_label(bars, [tables.shown(value, unit) for value in values], padding=3,
                       fontsize=8, color=INK)
        metric_axis(study, name, axes, "x", [])
        axes.invert_yaxis()
        axes.margins(x=0.3)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_yticks(range(len(rows)), [row["name"].partition(" (")[0] for row in rows]
                        if place == 0 else [""] * len(rows))
    return figure


def rtl(study: Study) -> Figure | None:
    """Cycles of the model over those of RTL, and the model's error with its stated band."""
    found, stated = study["confirmations"], study["measured_error"]
    if not found:
        return None
    figure, (left, right) = new_figures(9, 3.6, [1, 1], across=True)
    cycles = [item["rtl_cycles"] for item in found]
    ends = [min(cycles) / 2, max(cycles) * 2]
    left.plot(ends, ends, color=INK, linewidth=1, label="equal")
    if stated:
        worst = stated["worst_absolute_error"]
        left.fill_between(ends, [end * (1 - worst) for end in ends],
                          [end * (1 + worst) for end in ends], color=PALETTE[0], alpha=0.2,
                          linewidth=0, label=f"worst stated error, {100 * worst:.3g} %")
        right.axhspan(-100 * worst, 100 * worst, color=PALETTE[0], alpha=0.2, linewidth=0)
    right.axhline(0, color=INK, linewidth=1)
    for place, phase in enumerate(dict.fromkeys(item["phase"] for item in found)):
        own = [item for item in found if item["phase"] == phase]
        look = {"linestyle": "none", "marker": "oD^s"[place % 4], "color": PALETTE[place],
                "markeredgecolor": "white"}
        left.plot([item["rtl_cycles"] for item in own], [item["model_cycles"] for item in own],
                  label=phase, **look)
        right.plot([item["rtl_cycles"] for item in own], [100 * item["error"] for item in own],
                   **look)
    left.set(xscale="log", yscale="log", xlim=ends, ylim=ends, ylabel="model cycles")
    right.set(xscale="log", xlim=ends, ylabel="error of the model, %")
    for axes in (left, right):
        axes.set_xlabel("RTL cycles")
    legend_below(figure, 4)
    return figure
