"""RMSNorm and LayerNorm in fixed point, with a digit-exact reciprocal square root."""

from __future__ import annotations

import numpy as np

from hw.fixed import Ints, round_shift, saturate16

PEAK_BITS = 16
"""A row is shifted until its largest magnitude has this many bits."""
UP_SHIFT_MAX = 8
"""A row of small values is shifted up by at most this much."""
ROOT_BITS = 24
"""Bits of the square root."""
RECIPROCAL_BITS = 40
"""The reciprocal is ``2**40 // root``, 17 to 18 bits."""
UNIT_BITS = 22
"""Fraction bits of a normalized value before its weight."""
INVERSE_BITS = 31
"""The mean is ``round_shift(sum * inverse, 31)`` with ``inverse = round(2**31 / D)``."""
EPSILON_BITS = 40


def bit_lengths(values: Ints) -> Ints:
    """Bit length of each value, 0 for 0; values below 2**62."""
    lengths = np.zeros(values.shape, np.int64)
    rest = values.astype(np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        large = rest >> step > 0
        lengths += np.where(large, step, 0)
        rest = np.where(large, rest >> step, rest)
    return lengths + (rest > 0)


def shift_either(values: Ints, down: Ints) -> Ints:
    """``round_shift(value, down)``, or a shift up where ``down`` is negative."""
    positive = np.maximum(down, 0)
    half = np.where(positive > 0, np.int64(1) << np.maximum(positive - 1, 0), 0)
    return np.where(down > 0, (values + half) >> positive, values << np.maximum(-down, 0))


def normalize(
    x: Ints, weight: Ints, bias: Ints, shift: int, inverse: int, epsilon: int, center: bool
) -> Ints:
    """Rows over the root of their mean square (less their mean if ``center``), times ``weight``.

    x: int16 or int32 [rows, D], magnitudes below 2**31; weight, bias: int16 [D]; inverse:
    round(2**31 / D) (used if ``center``); epsilon: 40-bit, D * eps in squared steps of x.
    With ``e = max(bits(peak) - 16, -8)`` of a row: ``xs = x / 2**e`` rounded (17 bits and sign),
    less ``round_shift(sum(xs) * inverse, 31)`` if ``center``;
    ``V = sum(xs**2) + epsilon / 2**(2e)`` (at least 1); ``k = ceil((bits(V) - 32) / 2)``;
    ``root = isqrt((V / 2**(2k)) << 16)`` and ``r = 2**40 // root``; then
    ``u = round_shift((xs * r) << 6, 16 + k)``, which is ``xs / sqrt(V)`` with 22 fraction bits,
    and ``y = saturate16(round_shift(u * weight, shift) + bias)``.
    The weight therefore holds ``w * sqrt(D) / output step * 2**(shift - 22)``.
    Returns int16 [rows, D].
    """
    wide = x.astype(np.int64)
    peak = np.abs(wide).max(axis=1, keepdims=True)
    e = np.maximum(bit_lengths(peak) - PEAK_BITS, -UP_SHIFT_MAX)
    xs = shift_either(wide, np.broadcast_to(e, wide.shape))
    if center:
        xs = xs - round_shift(xs.sum(axis=1, keepdims=True) * inverse, INVERSE_BITS)
    epsilon_shifted = np.where(
        e >= 0, np.int64(epsilon) >> np.minimum(2 * np.maximum(e, 0), 63),
        np.int64(epsilon) << 2 * np.maximum(-e, 0))
    total = np.maximum((xs * xs).sum(axis=1, keepdims=True) + epsilon_shifted, 1)
    k = -((32 - bit_lengths(total)) // 2)
    mantissa = np.where(k >= 0, total >> 2 * np.maximum(k, 0), total << 2 * np.maximum(-k, 0))
    root = np.floor(np.sqrt((mantissa << 16).astype(np.float64))).astype(np.int64)
    reciprocal = (np.int64(1) << RECIPROCAL_BITS) // root
    u = shift_either((xs * reciprocal) << 6, np.broadcast_to(16 + k, xs.shape))
    y = round_shift(u * weight.astype(np.int64), shift) + bias
    return saturate16(y)
