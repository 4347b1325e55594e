"""Input range of the activation table of a gated MLP, and channels that are folded into it."""

from __future__ import annotations

import numpy as np

from compiler.activation_table import Function, function_table
from compiler.errors import CompileError
from compiler.expression import Floats
from compiler.quant.scales import HEADROOM
from hw.fixed import INT16_MAX, saturate16
from hw.golden.activation import activate

NARROWINGS = (1.0, 1.4, 2.0, 2.8, 4.0, 5.6)
"""Fractions 1/n of the calibrated range that are tried."""
USUAL_ROOM = 2.0
"""Range over the peak of nine tokens in ten, as other texts reach further."""
SINK_WEIGHT = 32
"""The first token, an attention sink, counts for so many."""


def gate_range(function: Function, gate: Floats, factor: Floats) -> tuple[float, Floats]:
    """int16 step of the gate and what every channel of it is divided by.

    gate, factor: float [tokens, channels] of the calibration text. The table's pieces are 1/256 of
    the range, so that one massive gate makes the function coarse for all. A channel beyond the
    range is divided by k and its factor multiplied by k: ``k * f(x / k)`` is near ``f(x)`` for
    large x, as the usual functions are straight there. The range is the one with the least
    squared error of the product, relative to each token's.
    """
    exact = function(gate) * factor
    sizes = np.maximum((exact**2).sum(axis=1), 1e-30)
    peaks = np.abs(gate).max(axis=0)
    usual = float(np.quantile(np.abs(gate).max(axis=1), 0.9)) * USUAL_ROOM
    widest = max(float(peaks.max()) * HEADROOM, usual) or 1.0
    best: tuple[float, Floats] = widest / INT16_MAX, np.ones(gate.shape[1])
    best_error = np.inf
    for narrowing in NARROWINGS:
        end = max(widest / narrowing, usual, 1e-6)
        divisors = np.maximum(peaks * HEADROOM / end, 1.0)
        scale = end / INT16_MAX
        values = np.abs(function(np.linspace(-end, end, 4097)))
        try:
            # Values, and a slope over any piece, fit 16 bits.
            table = function_table(function, scale, float(values.max()) / (INT16_MAX - 64))
        except CompileError:
            continue
        steps = saturate16(np.round(gate / divisors / scale))
        made = activate(steps, table.base, table.delta, None, 0) * table.out_scale
        errors = ((made * divisors * factor - exact) ** 2).sum(axis=1) / sizes
        error = float(errors.sum() + SINK_WEIGHT * errors[0])
        if error < best_error:
            best, best_error = (scale, divisors), error
    return best
