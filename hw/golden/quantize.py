"""Activation quantizer: int16 to int8 or int4, one scale for each token."""

from __future__ import annotations

import numpy as np

from hw.config import ALPHA_MAX
from hw.fixed import Ints, round_shift

NORMAL_BITS = 19
"""A token's largest magnitude, times ``2**ALPHA_MAX``, is shifted up to this many bits."""
INVERSE_BITS = 26


def quantize(x: Ints, alphas: Ints, bits: int) -> tuple[Ints, Ints]:
    """Divide each token by its largest magnitude after the channel factors.

    x: int16 [tokens, D], -32767..32767; alphas: uint8 [D / chunk], 0..4; bits: 8 or 4.
    With ``y = x << (ALPHA_MAX - alpha)`` and ``peak = max |y|`` of a token:
    ``q = round_shift((y << n) * (((2**(bits-1) - 1) << 26) // (peak << n)), 26)`` where ``n``
    brings the peak to 19 bits, so that ``x ~ q * 2**(alpha - ALPHA_MAX) * peak / (2**(bits-1)-1)``.
    Returns int8 [tokens, D] within +-(2**(bits-1) - 1) and the peaks, int64 [tokens].
    """
    limit = (1 << (bits - 1)) - 1
    chunk = x.shape[1] // len(alphas)
    up = np.repeat(ALPHA_MAX - alphas.astype(np.int64), chunk)
    y = x.astype(np.int64) << up
    peak = np.abs(y).max(axis=1)
    lengths = np.array([int(value).bit_length() for value in peak], np.int64)
    n = np.where(peak > 0, NORMAL_BITS - lengths, 0)
    inverse = (limit << INVERSE_BITS) // np.maximum(peak << n, 1)
    inverse[peak == 0] = 0
    q = round_shift((y << n[:, None]) * inverse[:, None], INVERSE_BITS)
    return q.astype(np.int8), peak
