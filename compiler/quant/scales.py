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


def int16_scale(calibration: Floats) -> float:
    """Step of an int16 activation tensor: calibrated maximum and headroom fill the range."""
    peak = float(np.abs(calibration).max(initial=0.0))
    return (peak or 1.0) * HEADROOM / INT16_MAX


def dequantization(
    factors: Floats, zero: Ints, bias: Floats | None, y_scale: float, sum_bound: float, *,
    token_scale: bool, name: str,
) -> Dequantization:
    """Multipliers and shifts such that ``y = (sum + zero) * factor [* peak]``, in output steps.

    factors: float [M], not negative: output steps per unit of the sum. ``sum_bound``: largest
    magnitude of ``sum + zero``, from which the first shift keeps stage 1 within 31 bits.
    Raises CompileError when no shift can represent the factors.
    """
    if not np.isfinite(factors).all() or factors.min(initial=0) < 0:
        raise CompileError(f"{name}: scales must be finite and not negative")
    largest = float(factors.max(initial=0.0))
    total = MULTIPLIER_BITS - math.frexp(largest)[1] if largest else 0
    if not 0 <= total <= 2 * SHIFT_MAX:
        raise CompileError(f"{name}: output scale {y_scale:g} is out of the dequantizer's range")
    shift1 = 0
    if token_scale:
        grown = math.ceil(math.log2(max(sum_bound, 1.0))) + MULTIPLIER_BITS - STAGE_BITS
        shift1 = min(max(grown, 0, total - SHIFT_MAX), total)
    multiplier = np.minimum(np.round(factors * 2.0**total), (1 << MULTIPLIER_BITS) - 1)
    steps = np.zeros(len(factors)) if bias is None else np.round(bias / y_scale)
    return Dequantization(
        zero=zero.astype(np.int32),
        multiplier=multiplier.astype(np.int16),
        bias=np.clip(steps, -INT16_MAX, INT16_MAX).astype(np.int16),
        shift1=shift1 if token_scale else total,
        shift2=total - shift1 if token_scale else 0,
        token_scale=token_scale,
    )
