"""Figures of a whole model's run: its passes over position, one pass in time, overlap, memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from reports.canvas import FAINT, INK, PALETTE, STATES, legend_below, new_figures, thousands
from reports.decoder_format import DECODE, PREFILL
from reports.numbers import number, quantity
from reports.pass_spans import PassSpans
from reports.records import ENGINES, RunRecord, Span
from reports.steps import PARTS, Step, finished, growth, part_of, split_operation

PART_COLOURS = dict(zip(PARTS, PALETTE, strict=False))
WHOLE = 0.7
"""A layer that takes more than this share of its pass is not shown a second time."""
DRAWN_STEPS = 2000
"""Spans are drawn together where gaps are smaller than the axis over this."""
CHARACTER_SHARE = 0.0075
"""Width of a label's character, as a share of the axis."""


def joined(spans: Iterable[Span], gap: float) -> list[tuple[float, float]]:
    """Start and width of spans, drawn as one where less than ``gap`` lies between.

    None is narrower than twice the gap: it would vanish between two dots.
    """
    bars: list[list[float]] = []
    for span in sorted(spans, key=lambda span: span.start_cycle):
        if bars and span.start_cycle - bars[-1][1] <= gap:
            bars[-1][1] = max(bars[-1][1], span.end_cycle)
        else:
            least = span.start_cycle + max(1.0, 2 * gap)
            bars.append([span.start_cycle, max(span.end_cycle, least)])
    return [(start, end - start) for start, end in bars]


def _draw_spans(axes: Any, spans: Sequence[Span], first: int, last: int, *, close: bool) -> None:
    """Engines over time, coloured by part; close: every span by itself, named where it fits."""
    gap = -1.0 if close else (last - first) / DRAWN_STEPS
    for row, engine in enumerate(ENGINES):
        own = [span for span in spans if span.engine == engine]
        for part, colour in PART_COLOURS.items():
            bars = joined((span for span in own if part_of(span.name) == part), gap)
            if bars:
                axes.broken_barh(bars, (row - 0.38, 0.76), facecolors=colour,
                                 edgecolor="white", linewidth=0.4 if close else 0)
        if close:
            _label_spans(axes, own, row, last - first)
    axes.set_yticks(range(len(ENGINES)), ENGINES)
    axes.set_ylim(len(ENGINES) - 0.4, -0.6)
    axes.set_xlim(first, last)
    thousands(axes.xaxis)


def _label_spans(axes: Any, spans: Sequence[Span], row: int, width: int) -> None:
    for span in spans:
        words = split_operation(span.name)[1].split(".")
        label = words[2] if words[0] == "attention" and len(words) > 2 else words[0]
        if len(label) * CHARACTER_SHARE * width < span.end_cycle - span.start_cycle:
            axes.text((span.start_cycle + span.end_cycle) / 2, row, label, fontsize=7,
                      color="white", ha="center", va="center", clip_on=True)


def pass_timeline(shown: PassSpans) -> Figure:
    """Engines over one whole pass, and over one layer of it."""
    window = shown.window
    zoomed = window is not None and window[1] - window[0] < WHOLE * shown.cycles
    figure, axes = new_figures(10, 5.6 if zoomed else 3.2, [1, 1] if zoomed else [1])
    _draw_spans(axes[0], shown.spans, 0, shown.cycles, close=not zoomed)
    axes[0].set_title(f"{shown.name}, all of it", fontsize=9, loc="left")
    if zoomed and window is not None:
        axes[0].axvspan(*window, facecolor=FAINT, alpha=0.25, zorder=0)
        _draw_spans(axes[1], shown.layer_spans, *window, close=True)
        axes[1].set_title(f"layer {shown.layer} (shaded above)", fontsize=9, loc="left")
    axes[-1].set_xlabel("cycle of the pass")
    used = {part_of(span.name) for span in shown.spans}
    figure.legend(handles=[Patch(color=PART_COLOURS[part], label=part)
                           for part in PARTS if part in used],
                  loc="outside lower left", ncols=7, frameon=False, fontsize=9)
    return figure


def passes(record: RunRecord) -> Figure:
    """Cycles of each step over position: all of them from zero, and decode alone with its line."""
    steps = finished(record)
    decode = [step for step in steps if step.kind == DECODE]
    line = growth(decode)
    figure, axes = new_figures(10, 3.1, [1.2, 1] if line else [1], across=True)
    for kind, colour in ((PREFILL, PALETTE[1]), (DECODE, PALETTE[0])):
        own = [step for step in steps if step.kind == kind]
        axes[0].bar([step.first for step in own], [step.cycles for step in own],
                    [step.tokens for step in own], align="edge", color=colour, label=kind,
                    edgecolor="white", linewidth=0.5 if len(steps) <= 100 else 0)
    axes[0].set(xlabel="position", ylabel="cycles of the pass")
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    thousands(axes[0].yaxis)
    if line:
        _draw_growth(axes[1], decode, line)
    legend_below(figure, 3)
    return figure


def _draw_growth(axes: Any, decode: Sequence[Step], line: tuple[float, float]) -> None:
    start, slope = line
    first, last = decode[0].first, decode[-1].first
    axes.plot([first, last], [start + slope * first, start + slope * last], color=INK,
              linewidth=1.1, label=f"{number(round(slope, 2))} cycles for each position")
    axes.plot([step.first for step in decode], [step.cycles for step in decode], "o",
              color=PALETTE[0], markersize=5, markeredgecolor="white")
    axes.set(xlabel="position, decode alone", ylabel="cycles, not from zero")
    axes.margins(y=0.2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    thousands(axes.yaxis)


def overlap(record: RunRecord) -> Figure:
    """Cycles of the linear engine and of the weight ports, beside each other and alone."""
    counted = record["overlap"]
    linear, weights = counted["linear_cycles"], counted["weight_cycles"]
    beside, both = counted["linear_beside_others_cycles"], counted["weight_beside_linear_cycles"]
    rows = (("linear computes,\nanother engine too", beside, linear),
            ("linear computes,\nweights arrive", both, linear),
            ("weights arrive,\nlinear computes", both, weights))
    figure, (axes,) = new_figures(10, 2.4, [1])
    names = [name for name, _, _ in rows]
    axes.barh(names, [part for _, part, _ in rows], color=STATES["busy"], label="both")
    bars = axes.barh(names, [whole - part for _, part, whole in rows], color=STATES["idle"],
                     left=[part for _, part, _ in rows], label="the first alone")
    axes.bar_label(bars, [f"{part / whole:.0%} of {whole:,}" if whole else "none"
                          for _, part, whole in rows], label_type="edge", padding=4, fontsize=9,
                   color=INK)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlabel("cycles")
    thousands(axes.xaxis)
    legend_below(figure, 2)
    return figure


def memory_map(groups: Sequence[dict[str, Any]], sections: Sequence[dict[str, Any]]) -> Figure:
    """Where each kind of section lies, and how many bytes each kind takes."""
    figure, (place, sizes) = new_figures(9, 1.7 + 0.27 * len(groups), [0.75, 0.27 * len(groups)])
    colours = {group["kind"]: PALETTE[index % len(PALETTE)] for index, group in enumerate(groups)}
    for kind, colour in colours.items():
        place.broken_barh([(row["address"] / 1e6, row["bytes"] / 1e6) for row in sections
                           if row["kind"] == kind], (0, 1), facecolors=colour)
    place.set(yticks=[], xlabel="address, MB")
    place.set_xlim(0, max(row["address"] + row["bytes"] for row in sections) / 1e6)
    names = [group["kind"] for group in groups]
    bars = sizes.barh(names, [max(group["bytes"], 1) for group in groups], height=0.7,
                      color=[colours[name] for name in names])
    sizes.bar_label(bars, [quantity(group["bytes"], "B", 3) for group in groups], padding=3,
                    fontsize=9, color=INK)
    sizes.invert_yaxis()
    sizes.set(xscale="log", xlabel="bytes, by powers of ten")
    sizes.margins(x=0.12)
    return figure
