"""Dequantizer: sums to int32 values and int16 activations."""

from __future__ import annotations

import numpy as np

from hw.fixed import Ints, round_shift, saturate, saturate16, wrapped

INT32_MAX = (1 << 31) - 1
TOKEN_SCALE_BITS = 24
"""A token's scale: the quantizer's peak or the softmax's reciprocal, unsigned."""


def dequantize32(
    sums: Ints, zero: Ints, multiplier: Ints, bias: Ints, shift1: int, shift2: int,
    token_scale: Ints | None = None, bias_shift: int = 0, sum_bits: int | None = None,
) -> Ints:
    """``saturate(round_shift(stage1 * token_scale, shift2)) + (bias << bias_shift)``, saturated.

    ``stage1 = saturate(round_shift((sums + zero) * multiplier, shift1))``; every saturation is to
    ``+-(2**31 - 1)``. sums: int [tokens, M]; zero: int32 [M]; multiplier: int16 [M], not negative;
    bias: int16 [M]; bias_shift: 0..16; token_scale: 24-bit unsigned [tokens], or None for 1.
    sum_bits: the accumulator's, to which ``sums + zero`` wraps around, so that sums need only be
    right modulo ``2**sum_bits``; None where it is known to fit. Returns int32 [tokens, M]. No
    product exceeds 63 bits.
    """
    centred = sums.astype(np.int64) + zero
    if sum_bits is not None:
        centred = wrapped(centred, sum_bits)
    total = centred * multiplier.astype(np.int64)
    stage1 = saturate(round_shift(total, shift1), INT32_MAX)
    scale = 1 if token_scale is None else token_scale.astype(np.int64)[:, None]
    y = saturate(round_shift(stage1 * scale, shift2), INT32_MAX)
    return saturate(y + (bias.astype(np.int64) << bias_shift), INT32_MAX).astype(np.int32)


def dequantize(
    sums: Ints, zero: Ints, multiplier: Ints, bias: Ints, shift1: int, shift2: int,
    token_scale: Ints | None = None, bias_shift: int = 0, sum_bits: int | None = None,
) -> Ints:
    """`dequantize32` saturated to int16 [tokens, M]."""
    return saturate16(dequantize32(
        sums, zero, multiplier, bias, shift1, shift2, token_scale, bias_shift, sum_bits))
