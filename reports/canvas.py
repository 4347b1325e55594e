"""What all figures share: colours, axes, legends."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

PALETTE = ("#3b6ea8", "#e08a2c", "#4f9d69", "#b2506e", "#7d6bb3", "#8c7a5b", "#4aa3b5", "#9aa0a6",
           "#c9b037")
STATES = {"busy": "#3b6ea8", "waiting": "#e6b35a", "idle": "#e3e5e8"}
INK, FAINT = "#33383e", "#9aa0a6"


def style(axes: Any) -> None:
    """Plain axes without a frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.title.set_color(INK)


def new_figure(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of one pair of axes; inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    style(axes)
    return figure, axes


def new_figures(
    width: float, height: float, ratios: list[float], *, across: bool = False
) -> tuple[Figure, list[Any]]:
    """A figure of several axes below each other, or side by side (``across``)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False) if across else \
        figure.subplots(len(ratios), 1, height_ratios=ratios, squeeze=False)
    for axes in grid.flat:
        style(axes)
    return figure, list(grid.flat)


def thousands(axis: Any) -> None:
    """Ticks as whole numbers with separators."""
    axis.set_major_formatter("{x:,.0f}")


def legend_below(figure: Figure, columns: int) -> None:
    """A legend of the whole figure under it."""
    figure.legend(loc="outside lower left", ncols=columns, frameon=False, fontsize=9)
