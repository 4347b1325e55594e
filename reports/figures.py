"""Figures of a report, drawn with matplotlib's object interface (no global state)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from reports.records import RunRecord

ENGINES = ("load", "search", "quantize", "linear", "drain", "activate", "store")
COLOURS = dict(zip(
    ENGINES, ("#4e79a7", "#59a14f", "#9c755f", "#e15759", "#f28e2b", "#b07aa1", "#76b7b2"),
    strict=True,
))
STATES = {"busy": "#59a14f", "waiting": "#f28e2b", "idle": "#d9d9d9"}


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def engine_states(record: RunRecord) -> Figure:
    """Busy, waiting and idle cycles of each engine."""
    figure, axes = _figure(8, 2.8)
    names = [engine["engine"] for engine in record["engines"]]
    left = [0] * len(names)
    for state, colour in STATES.items():
        widths = [engine[f"{state}_cycles"] for engine in record["engines"]]
        axes.barh(names, widths, left=left, color=colour, label=state)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("cycles")
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.18), frameon=False)
    return figure


def timeline(record: RunRecord) -> Figure:
    """When each engine ran which instruction."""
    figure, axes = _figure(10, 2.8)
    for row, engine in enumerate(ENGINES):
        spans = [span for span in record.spans if span.engine == engine]
        axes.broken_barh(
            [(span.start_cycle, max(span.end_cycle - span.start_cycle, 1)) for span in spans],
            (row - 0.4, 0.8), facecolors=COLOURS[engine], edgecolor="white", linewidth=0.3,
        )
    axes.set_yticks(range(len(ENGINES)), ENGINES)
    axes.invert_yaxis()
    axes.set_xlim(0, max(record["cycles"], 1))
    axes.set_xlabel("cycle")
    return figure


def port_bandwidth(record: RunRecord) -> Figure:
    """Average bandwidth of each memory port beside what the port can carry."""
    figure, axes = _figure(8, 2.8)
    names = [port["port"] for port in record["ports"]]
    axes.bar(names, [port["bytes_per_cycle"] for port in record["ports"]], color="#4e79a7",
             label="average")
    axes.plot(names, [port["limit_bytes_per_cycle"] for port in record["ports"]], "_",
              color="#e15759", markersize=24, markeredgewidth=2, label="limit")
    axes.set_ylabel("bytes per cycle")
    axes.legend(frameon=False)
    return figure


def roofline(records: Sequence[RunRecord]) -> Figure:
    """Operations per cycle over operations per byte, with the roofs of the hardware."""
    figure, axes = _figure(8, 4)
    roofs = records[0]["roofline"]
    peak, bandwidth = roofs["peak_operations_per_cycle"], roofs["bytes_per_cycle"]
    intensities = [record["roofline"]["operations_per_byte"] for record in records]
    low, high = min([*intensities, peak / bandwidth]) / 4, max([*intensities, peak / bandwidth]) * 4
    axes.plot([low, peak / bandwidth, high], [low * bandwidth, peak, peak], color="#555555",
              label=f"roof: {bandwidth:g} B/cycle, {peak:g} operations/cycle")
    for record in records:
        point = record["roofline"]
        axes.plot(point["operations_per_byte"], point["operations_per_cycle"], "o",
                  label=record.name)
    axes.set(xscale="log", yscale="log", xlabel="multiply-adds replaced or done per byte read",
             ylabel="per cycle")
    axes.legend(frameon=False, fontsize=8)
    return figure


def energy(records: Sequence[RunRecord]) -> Figure:
    """Energy of each run by cause."""
    figure, axes = _figure(8, 1.4 + 0.5 * len(records))
    causes = list(dict.fromkeys(
        cause["cause"] for record in records for cause in record["energy"]["causes"]
    ))
    names = [record.name for record in records]
    left = [0.0] * len(records)
    for cause in causes:
        widths = [
            1e3 * sum(c["joules"] for c in record["energy"]["causes"] if c["cause"] == cause)
            for record in records
        ]
        axes.barh(names, widths, left=left, label=cause)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("mJ")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def comparison(records: Sequence[RunRecord], key: str, label: str) -> Figure:
    """One bar for each run."""
    figure, axes = _figure(8, 0.8 + 0.4 * len(records))
    bars = axes.barh([record.name for record in records], [record[key] for record in records],
                     color="#4e79a7")
    axes.bar_label(bars, fmt="{:,.4g}", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.margins(x=0.15)
    return figure


def accuracy(records: Sequence[RunRecord]) -> Figure:
    """Relative error of each tensor against the float reference."""
    figure, axes = _figure(8, 3.2)
    width = 0.8 / len(records)
    for number, record in enumerate(records):
        names = [row["tensor"] for row in record["accuracy"]]
        places = [place + (number + 0.5) * width - 0.4 for place in range(len(names))]
        axes.bar(places, [row["relative_error"] for row in record["accuracy"]], width,
                 label=record.name)
        axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("relative error")
    axes.legend(frameon=False, fontsize=8)
    return figure
