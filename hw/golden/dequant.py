"""Dequantizer: 32-bit sums to int16 activations."""

from __future__ import annotations

import numpy as np

from hw.fixed import Ints, round_shift, saturate, saturate16

INT32_MAX = (1 << 31) - 1


def dequantize(
    sums: Ints, zero: Ints, multiplier: Ints, bias: Ints, shift1: int, shift2: int,
    token_scale: Ints | None = None,
) -> Ints:
    """``saturate16(round_shift(stage1 * token_scale, shift2) + bias)``.

    ``stage1 = saturate(round_shift((sums + zero) * multiplier, shift1), 2**31 - 1)``.
    sums: int [tokens, M], 32-bit values; zero: int32 [M]; multiplier: int16 [M], not negative;
    bias: int16 [M]; token_scale: 19-bit unsigned [tokens], or None for 1.
    Returns int16 [tokens, M]. No product exceeds 63 bits.
    """
    total = (sums.astype(np.int64) + zero) * multiplier.astype(np.int64)
    stage1 = saturate(round_shift(total, shift1), INT32_MAX)
    scale = 1 if token_scale is None else token_scale.astype(np.int64)[:, None]
    return saturate16(round_shift(stage1 * scale, shift2) + bias)
