"""Figures of a report, drawn with matplotlib's object interface (no global state)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from reports.canvas import INK, PALETTE, STATES, legend_below, new_figure, thousands
from reports.facts import energy_groups, energy_range, labels
from reports.numbers import number
from reports.records import ENGINES, RunRecord

COLOURS = dict(zip(ENGINES, PALETTE, strict=True))
OUTLINED_SPANS = 300
"""Up to this many spans have outlines in the timeline; more would be nothing but outline."""
CROWDED_TICKS = 12
"""More labels than this under an axis are turned."""
BYTES_PER_CYCLE = "bytes per cycle"


def engine_states(record: RunRecord) -> Figure:
    """Busy, waiting and idle cycles of each engine."""
    figure, axes = new_figure(8, 2.9)
    names = [engine["engine"] for engine in record["engines"]]
    left = [0] * len(names)
    for state, colour in STATES.items():
        widths = [engine[f"{state}_cycles"] for engine in record["engines"]]
        axes.barh(names, widths, left=left, color=colour, label=state, height=0.7)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("cycles")
    axes.set_xlim(0, max([1, *left]))
    thousands(axes.xaxis)
    legend_below(figure, 3)
    return figure


def timeline(record: RunRecord) -> Figure:
    """When each engine ran which instruction."""
    figure, axes = new_figure(10, 2.7)
    width = 0.4 if len(record.spans) <= OUTLINED_SPANS else 0.0
    for row, engine in enumerate(ENGINES):
        spans = [span for span in record.spans if span.engine == engine]
        axes.broken_barh(
            [(span.start_cycle, max(span.end_cycle - span.start_cycle, 1)) for span in spans],
            (row - 0.36, 0.72), facecolors=COLOURS[engine], edgecolor="white", linewidth=width,
        )
    axes.set_yticks(range(len(ENGINES)), ENGINES)
    axes.set_ylim(len(ENGINES) - 0.4, -0.6)
    axes.set_xlim(0, max([record["cycles"], 1, *(span.end_cycle for span in record.spans)]))
    axes.set_xlabel("cycle")
    thousands(axes.xaxis)
    return figure


def port_bandwidth(record: RunRecord) -> Figure:
    """Average bandwidth of each memory port beside what the port can carry."""
    figure, axes = new_figure(8, 2.9)
    names = [port["port"] for port in record["ports"]]
    axes.bar(names, [port["limit_bytes_per_cycle"] for port in record["ports"]],
             color=STATES["idle"], width=0.7, label="limit")
    bars = axes.bar(names, [port["bytes_per_cycle"] for port in record["ports"]],
                    color=STATES["busy"], width=0.7, label="average of the run")
    axes.bar_label(bars, fmt="{:.3g}", padding=2, fontsize=8, color=INK)
    axes.set_ylabel(BYTES_PER_CYCLE)
    legend_below(figure, 2)
    return figure


def roofline(records: Sequence[RunRecord]) -> Figure:
    """Multiply-adds per cycle over multiply-adds per byte, with the roofs of the hardware."""
    figure, axes = new_figure(8.5, 3.6)
    roofs = {
        (record["roofline"]["peak_operations_per_cycle"], record["roofline"]["bytes_per_cycle"]):
            record["hardware"]["name"] for record in records
    }
    points = [(record["roofline"]["operations_per_byte"],
               record["roofline"]["operations_per_cycle"]) for record in records]
    ridges = [peak / bandwidth for peak, bandwidth in roofs if peak and bandwidth] or [1.0]
    positive = [x for x, _ in points if x > 0]
    low, high = min([*positive, *ridges]) / 4, max([*positive, *ridges]) * 4
    for place, ((peak, bandwidth), hardware) in enumerate(roofs.items()):
        if not peak or not bandwidth:
            continue
        axes.plot([low, peak / bandwidth, high], [low * bandwidth, peak, peak], color=INK,
                  linestyle=("-", "--", ":")[place % 3], linewidth=1.3,
                  label=f"{hardware}: {bandwidth:g} bytes, {peak:g} multiply-adds per cycle")
    for place, (name, (x, y)) in enumerate(zip(labels(records), points, strict=True)):
        if not x or not y:
            continue
        axes.plot(x, y, "os^Dv<>P"[place % 8], markersize=8, color=PALETTE[place % len(PALETTE)],
                  markeredgecolor="white", label=name, linestyle="none")
    axes.set(xscale="log", yscale="log", ylabel="multiply-adds per cycle",
             xlabel="multiply-adds per byte of weights read")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:,g}")
        axis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, which="major", color="#e3e5e8", linewidth=0.6)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def energy(records: Sequence[RunRecord]) -> Figure:
    """Energy of each run by group of causes, with the uncertainty of the sum."""
    figure, axes = new_figure(8, 1.7 + 0.42 * len(records))
    sums = [energy_groups(record) for record in records]
    groups = list(dict.fromkeys(group for each in sums for group in each))
    names = labels(records)
    left = [0.0] * len(records)
    for place, group in enumerate(groups):
        widths = [1e3 * each.get(group, 0.0) for each in sums]
        axes.barh(names, widths, left=left, label=group, height=0.66,
                  color=PALETTE[place % len(PALETTE)],
                  hatch="" if place < len(PALETTE) else "///", edgecolor="white", linewidth=0.3)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    ranges = [energy_range(record) for record in records]
    axes.errorbar(left, names, fmt="none", ecolor=INK, capsize=3, linewidth=1, xerr=(
        [max(0.0, total - 1e3 * low) for total, (low, _) in zip(left, ranges, strict=True)],
        [max(0.0, 1e3 * high - total) for total, (_, high) in zip(left, ranges, strict=True)],
    ))
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("mJ")
    legend_below(figure, 4)
    return figure


def comparison(
    records: Sequence[RunRecord], value: Callable[[RunRecord], float], label: str
) -> Figure:
    """One bar for each run."""
    figure, axes = new_figure(6, 0.9 + 0.36 * len(records))
    colours = [PALETTE[place % len(PALETTE)] for place in range(len(records))]
    values = [value(record) for record in records]
    bars = axes.barh(labels(records), values, color=colours, height=0.68)
    axes.bar_label(bars, [number(each) for each in values], padding=3, fontsize=9, color=INK)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.margins(x=0.18)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter("{x:,g}")
    return figure


def accuracy(records: Sequence[RunRecord]) -> Figure:
    """Relative error of each tensor against the float reference."""
    figure, axes = new_figure(8, 2.6 if len(records) == 1 else 3.2)
    tensors = list(dict.fromkeys(row["tensor"] for record in records for row in record["accuracy"]))
    width = 0.8 / len(records)
    for place, (name, record) in enumerate(zip(labels(records), records, strict=True)):
        errors = {row["tensor"]: row["relative_error"] for row in record["accuracy"]}
        places = [group + (place + 0.5) * width - 0.4 for group in range(len(tensors))]
        axes.bar(places, [100 * errors.get(tensor, 0.0) for tensor in tensors], width * 0.92,
                 label=name, color=PALETTE[place % len(PALETTE)])
    owners = {name.rpartition(".")[0] for name in tensors}
    names = [name.rpartition(".")[2] for name in tensors] if len(owners) == 1 else tensors
    axes.set_xticks(range(len(names)), names, rotation=0 if len(names) <= CROWDED_TICKS else 90)
    axes.set_ylabel("relative error, %")
    if len(records) > 1:
        legend_below(figure, 5)
    return figure
