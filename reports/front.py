"""Figure of a mix's front: predicted loss over cost, single schemes beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from reports.canvas import FAINT, PALETTE, legend_below, new_figure

LABELS = {"bytes": "bytes that a pass reads for the layers' linears",
          "cycles": "cycles of the linear engine in a pass",
          "energy": "joules of the layers' linears in a pass"}


def front_figure(values: Mapping[str, Any]) -> Figure:
    """Points of ``front.json`` (`lutrip.mixing.mix`), measured divergences where there are any."""
    figure, axes = new_figure(7.5, 4.5)
    points, singles = values["points"], values["single"]
    axes.plot([point["cost"] for point in points], [point["predicted_loss"] for point in points],
              "o-", color=PALETTE[0], label="mixes, predicted")
    axes.plot([point["cost"] for point in singles], [point["predicted_loss"] for point in singles],
              "s", color=PALETTE[1], label="single schemes, predicted")
    measured = [point for point in [*points, *singles] if point["measured"] is not None]
    if measured:
        axes.plot([point["cost"] for point in measured],
                  [point["measured"]["kl_divergence_nats"] for point in measured], "x",
                  color=PALETTE[3], label="measured on golden")
    for point in singles:
        axes.annotate(point["scheme"], (point["cost"], point["predicted_loss"]), fontsize=8,
                      color=FAINT, textcoords="offset points", xytext=(5, 4))
    axes.set_xlabel(LABELS[values["cost"]])
    axes.set_ylabel("divergence from float, nats per token")
    axes.set_yscale("log")
    axes.set_title(f"{values['model']} on {values['hardware']}, pass of {values['tokens']} "
                   f"token{'s' if values['tokens'] > 1 else ''}", fontsize=10)
    legend_below(figure, 3)
    return figure
