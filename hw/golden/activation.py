"""Activation function unit: piecewise-linear table with 256 segments, then an optional product."""

from __future__ import annotations

import numpy as np

from hw.fixed import Ints, round_shift, saturate16

SEGMENTS = 256
FRACTION_BITS = 8


def activate(x: Ints, base: Ints, delta: Ints, factor: Ints | None, shift: int) -> Ints:
    """``y = base[i] + round_shift(delta[i] * f, 8)`` with ``i, f`` the high and low byte of x.

    x: int16, any shape, whose high byte counts from -128; base, delta: int16 [256]. With
    ``factor`` (int16, shape of x) the result is ``saturate16(round_shift(y * factor, shift))``,
    without it ``saturate16(y)``.
    """
    wide = x.astype(np.int64)
    segment, fraction = (wide >> FRACTION_BITS) + SEGMENTS // 2, wide & (1 << FRACTION_BITS) - 1
    y = base.astype(np.int64)[segment]
    y = y + round_shift(delta.astype(np.int64)[segment] * fraction, FRACTION_BITS)
    if factor is None:
        return saturate16(y)
    return saturate16(round_shift(y * factor.astype(np.int64), shift))
