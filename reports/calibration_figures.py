"""Figures of calibration statistics, all over the layers of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from reports.canvas import FAINT, INK, PALETTE, legend_below, new_figures, style

Layers = Sequence[Mapping[str, Any]]
SIGMAS, MASSIVE, OVER_MEDIAN = 6, 100, 1000
SHOWN_POSITIONS = 4


def whole_layers(axes: Any) -> None:
    """An axis of layers."""
    axes.set_xlabel("layer")
    axes.xaxis.get_major_locator().set_params(integer=True)


def by_input(
    layers: Layers, names: Mapping[str, str], left: tuple[str, str], right: tuple[str, str]
) -> Figure:
    """Two numbers of every linear's input, key and label each, on logarithmic axes."""
    figure, both = new_figures(10, 3.4, [1, 1], across=True)
    for axes, (key, label) in zip(both, (left, right), strict=True):
        for colour, (name, linears) in zip(PALETTE, names.items(), strict=False):
            values = [layer["inputs"][name][key] for layer in layers]
            axes.plot(values, "o-", color=colour, markersize=3, linewidth=1.2,
                      label=linears if axes is both[0] else None)
        axes.set_yscale("log" if min(layer["inputs"][name][key] for layer in layers
                                     for name in names) > 0 else "symlog")
        axes.set_ylabel(label)
        whole_layers(axes)
    legend_below(figure, 4)
    return figure


def outliers(layers: Layers, names: Mapping[str, str]) -> Figure:
    """Peaks over the standard deviation, and how many channels exceed six of them."""
    figure = by_input(layers, names, ("peak_over_sigma", "largest value over sigma"),
                      ("outlier_channels", f"channels beyond {SIGMAS} sigma"))
    figure.axes[0].axhline(SIGMAS, color=FAINT, linewidth=1, linestyle="--")
    return figure


def kurtosis(layers: Layers, names: Mapping[str, str]) -> Figure:
    """Of the whole tensor, and of a typical channel alone."""
    figure = by_input(layers, names, ("kurtosis", "kurtosis of all values"),
                      ("channel_kurtosis_median", "median kurtosis of a channel"))
    for axes in figure.axes:
        axes.axhline(3, color=FAINT, linewidth=1, linestyle="--")
    return figure


def spectra(layers: Layers, names: Mapping[str, str]) -> Figure:
    """Effective rank of the second moments, and the share of the largest eighth."""
    figure = by_input(layers, names, ("effective_rank", "effective rank"),
                      ("top_share", "share of the largest 1/8 of eigenvalues"))
    figure.axes[1].set_yscale("linear")
    figure.axes[1].set_ylim(0, 1.03)
    return figure


def massive(layers: Layers) -> Figure:
    """Largest residual values beside the median, and where in the text they stand."""
    figure, (sizes, places) = new_figures(10, 3.4, [1, 1], across=True)
    found = [layer["massive"] for layer in layers]
    sizes.plot([each["peak"] for each in found], "o-", color=PALETTE[3], markersize=3,
               label="largest value")
    sizes.plot([each["median"] for each in found], "o-", color=PALETTE[0], markersize=3,
               label="median magnitude")
    sizes.plot([max(MASSIVE, OVER_MEDIAN * each["median"]) for each in found], "--", color=FAINT,
               label="massive from here")
    sizes.set(yscale="log", ylabel="magnitude behind the layer")
    for position in range(SHOWN_POSITIONS):
        places.plot([each["peak_by_position"][position] for each in found], "o-", markersize=3,
                    color=PALETTE[position], label=f"position {position}")
    places.plot([max([each["peak_of_later_positions"],
                      *each["peak_by_position"][SHOWN_POSITIONS:]]) for each in found],
                "o-", markersize=3, color=INK, label="later positions")
    places.set(yscale="symlog", ylabel="largest value")
    for axes in (sizes, places):
        whole_layers(axes)
        axes.legend(frameon=False, fontsize=8)
    return figure


def sinks(layers: Layers) -> Figure:
    """Attention on the first token: mean, and the range over heads."""
    figure, (axes,) = new_figures(10, 2.8, [1])
    masses = [layer["first_token_mass"] for layer in layers]
    places = range(len(masses))
    axes.fill_between(places, [min(each) for each in masses], [max(each) for each in masses],
                      color=PALETTE[0], alpha=0.2, linewidth=0, label="lowest to highest head")
    axes.plot([sum(each) / len(each) for each in masses], "o-", color=PALETTE[0], markersize=3,
              label="mean of heads")
    axes.set(ylabel="attention on the first token", ylim=(0, 1.02))
    whole_layers(axes)
    axes.legend(frameon=False, fontsize=8)
    return figure


def robustness(layers: Layers, names: Mapping[str, str], others: Sequence[str]) -> Figure:
    """Other texts against the first: angle of the second moments, ratio of the ranges."""
    figure = Figure(figsize=(10, 2.7 * len(others)), layout="constrained")
    grid = figure.subplots(len(others), 2, squeeze=False)
    for row, other in zip(grid, others, strict=True):
        for axes, (key, label) in zip(row, (("hessian_cosine", "cosine of second moments"),
                                            ("range_ratio", "ratio of channels' ranges")),
                                      strict=True):
            style(axes)
            for colour, (name, linears) in zip(PALETTE, names.items(), strict=False):
                of = [layer["texts"][other]["inputs"][name] for layer in layers]
                axes.plot([each[key] for each in of], "o-", color=colour, markersize=3,
                          linewidth=1.2, label=linears if axes is grid[0][0] else None)
            axes.axhline(1, color=FAINT, linewidth=1, linestyle="--")
            axes.set_ylabel(label, fontsize=9)
            axes.set_title(other, fontsize=9, loc="left")
            whole_layers(axes)
    legend_below(figure, 4)
    return figure
