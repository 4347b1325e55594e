"""Keys and values on their way into the cache."""

from __future__ import annotations

import numpy as np

from hw.fixed import Ints, round_shift, saturate


def cache_shift(bits: int) -> int:
    """Shift from int16 steps to those of the cache, which are chosen for it, per head."""
    return 16 - bits


def cache_max(bits: int) -> int:
    """Largest magnitude in the cache."""
    return (1 << (bits - 1)) - 1


def cache_quantize(x: Ints, bits: int) -> Ints:
    """int16 to ``bits``, 8 or 4: rounded shift and saturation, symmetric. Returns int8."""
    return saturate(round_shift(x.astype(np.int64), cache_shift(bits)), cache_max(bits)).astype(
        np.int8)
