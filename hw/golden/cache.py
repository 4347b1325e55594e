"""Keys and values on their way into the cache."""

from __future__ import annotations

import numpy as np

from hw.fixed import Ints, round_shift, saturate

CACHE_SHIFT = 8
"""An int16 step is 1/256 of the int8 step: the tensor's step is chosen for it, per head."""


def cache_quantize(x: Ints) -> Ints:
    """int16 to int8: ``saturate(round_shift(x, 8), 127)``."""
    return saturate(round_shift(x.astype(np.int64), CACHE_SHIFT), 127).astype(np.int8)
