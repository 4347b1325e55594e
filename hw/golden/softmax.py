"""Softmax numerators in powers of two, and the reciprocal of their sum.

The product with V takes the numerators as they are; the dequantizer behind it multiplies by the
reciprocal. So flat attention over many positions keeps its precision, as in online softmax (Milakov
and Gimelshein, "Online normalizer calculation for softmax"). Scores are in units of log2, since
``exp(x) == 2**(x * log2(e))``.
"""

from __future__ import annotations

import numpy as np

from hw.fixed import Ints, round_shift

FRACTION_BITS = 8
"""Fraction bits of a score inside the unit."""
NUMERATOR_MAX = 127
EXP_TABLE = np.round(
    NUMERATOR_MAX * 256 * np.exp2(-np.arange(1 << FRACTION_BITS) / (1 << FRACTION_BITS))
).astype(np.int64)
"""``127 * 2**8 * 2**(-f / 256)``, 15 bits."""
LOG2_ZERO = 15
"""Code of weight 0; code q below it weighs ``2**(14 - q)``."""
LOG2_BITS = 14
RECIPROCAL_BITS = 30
LOG2_RECIPROCAL_BITS = 37
"""The reciprocal is ``2**30 // sum``, or ``2**37 // sum`` of the log2 weights: below 2**24."""
SLOPE_BITS = 16
"""Fraction bits of an ALiBi slope, in log2 units for each position."""


def log2_weights(codes: Ints) -> Ints:
    """What a log2 code multiplies by: int64, ``2**(14 - q)``, 0 for code 15."""
    wide = codes.astype(np.int64)
    return np.where(wide == LOG2_ZERO, 0, np.int64(1) << np.maximum(LOG2_BITS - wide, 0))


def softmax(
    scores: Ints, positions: Ints, window: int, slope: int, fraction: int, log2: bool
) -> tuple[Ints, Ints]:
    """Numerators of a causal softmax and the reciprocal of their sum.

    scores: int16 [rows, n], ``fraction`` (0..8) fraction bits, column j is position j;
    positions: int [rows], the position of each row, below n; window: 0, or the number of latest
    positions a row sees; slope: ALiBi, 24 bits with 16 fraction bits.
    ``s = (score << (8 - fraction)) - round_shift(slope * (position - j), 8)``; a row sees
    ``j <= position`` and, with a window, ``position - j < window``; ``d = max(s) - s`` over those.
    8-bit: ``round_shift(EXP_TABLE[d & 255], 8 + min(d >> 8, 31))``, 0..127.
    log2: code ``min(round_shift(d, 8), 15)``, 15 where a row does not see.
    Returns uint8 [rows, n] and int64 [rows].
    """
    n = scores.shape[1]
    distance = positions.astype(np.int64)[:, None] - np.arange(n)
    seen = distance >= 0
    if window:
        seen &= distance < window
    s = scores.astype(np.int64) << (FRACTION_BITS - fraction)
    if slope:
        s = s - round_shift(np.int64(slope) * distance, SLOPE_BITS - FRACTION_BITS)
    top = np.where(seen, s, np.iinfo(np.int64).min).max(axis=1, keepdims=True)
    d = np.where(seen, top - s, 0)
    if log2:
        codes = np.where(seen, np.minimum(round_shift(d, FRACTION_BITS), LOG2_ZERO), LOG2_ZERO)
        total = log2_weights(codes).sum(axis=1)
        return codes.astype(np.uint8), (np.int64(1) << LOG2_RECIPROCAL_BITS) // total
    shift = FRACTION_BITS + np.minimum(d >> FRACTION_BITS, 31)
    table = EXP_TABLE[d & ((1 << FRACTION_BITS) - 1)]
    e = np.where(seen, (table + (np.int64(1) << (shift - 1))) >> shift, 0)
    return e.astype(np.uint8), (np.int64(1) << RECIPROCAL_BITS) // e.sum(axis=1)
