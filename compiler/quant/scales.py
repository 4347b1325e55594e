"""Scales: from float factors to the dequantizer's 15-bit multipliers and shifts."""

from __future__ import annotations

import math

import numpy as np

from compiler.errors import CompileError
from compiler.quant.kmeans import Floats
from compiler.quant.quantized import Dequantization
from hw.fixed import INT16_MAX, Ints

HEADROOM = 1.25
"""Room above the calibrated maximum of an int16 activation."""
MULTIPLIER_BITS = 15
STAGE_BITS = 31
SHIFT_MAX = 63
BIAS_SHIFT_MAX = 16

OutputScale = float | Floats
"""Output step of all columns, or of each; a column whose step is infinite is always 0."""


def int16_scale(calibration: Ints) -> float:
    """Step of an int16 activation tensor: calibrated maximum and headroom fill the range."""
    peak = float(np.abs(calibration).max(initial=0.0))
    return (peak or 1.0) * HEADROOM / INT16_MAX


def largest_step(y_scale: OutputScale) -> float:
    """The output step, the largest one where columns differ."""
    steps = np.atleast_1d(np.asarray(y_scale, np.float64))
    return float(steps[np.isfinite(steps)].max(initial=0.0))


def bias_steps(bias: Floats, y_scale: OutputScale, wide: bool, name: str) -> tuple[Ints, int]:
    """Bias int16 and its shift; only ``wide`` (int32) outputs have one that is not 0."""
    steps = np.asarray(bias / y_scale, np.float64)
    shift = 0
    while wide and np.abs(steps).max(initial=0.0) > INT16_MAX * 2.0**shift:
        shift += 1
    if shift > BIAS_SHIFT_MAX:
        raise CompileError(f"{name}: the bias is too large for the residual's step {y_scale:g}")
    rounded = np.clip(np.round(steps / 2.0**shift), -INT16_MAX, INT16_MAX)
    return rounded.astype(np.int16), shift


def dequantization(
    factors: Floats, zero: Ints, bias: Floats | None, y_scale: OutputScale, sum_bound: float, *,
    token_scale: bool, name: str, wide: bool = False,
) -> Dequantization:
    """Multipliers and shifts such that ``y = (sum + zero) * factor [* peak]``, in output steps.

    factors: float [M], not negative: output steps per unit of the sum. ``sum_bound``: largest
    magnitude of ``sum + zero``, from which the first shift keeps stage 1 within 31 bits.
    wide: the output is int32 (the residual), so that a large bias takes a shift instead of
    saturating. Raises CompileError when no shift can represent the factors.
    """
    if not np.isfinite(factors).all() or factors.min(initial=0) < 0:
        raise CompileError(f"{name}: scales must be finite and not negative")
    largest = float(factors.max(initial=0.0))
    total = MULTIPLIER_BITS - math.frexp(largest)[1] if largest else 0
    if not 0 <= total <= 2 * SHIFT_MAX:
        raise CompileError(f"{name}: output scale {largest_step(y_scale):g} is out of the "
                           "dequantizer's range")
    shift1 = 0
    if token_scale:
        grown = math.ceil(math.log2(max(sum_bound, 1.0))) + MULTIPLIER_BITS - STAGE_BITS
        shift1 = min(max(grown, 0, total - SHIFT_MAX), total)
    multiplier = np.minimum(np.round(factors * 2.0**total), (1 << MULTIPLIER_BITS) - 1)
    steps, bias_shift = np.zeros(len(factors), np.int16), 0
    if bias is not None:
        steps, bias_shift = bias_steps(bias, y_scale, wide, name)
    return Dequantization(
        zero=zero.astype(np.int32),
        multiplier=multiplier.astype(np.int16),
        bias=steps,
        shift1=shift1 if token_scale else total,
        shift2=total - shift1 if token_scale else 0,
        token_scale=token_scale,
        bias_shift=bias_shift,
    )
