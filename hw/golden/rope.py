"""Rotary position embedding of pairs that lie side by side."""

from __future__ import annotations

import numpy as np

from hw.fixed import Ints, round_shift, saturate16

ROTATION_BITS = 14
"""Cosines and sines are int16 with this many fraction bits."""


def rotate(x: Ints, table: Ints) -> Ints:
    """Rotate pairs ``(x[2i], x[2i + 1])`` by the angles of a table.

    x: int16 [rows, n]; table: int16 [rows, n], ``cos, sin`` of pair i at places 2i, 2i + 1.
    ``y[2i] = saturate16(round_shift(x[2i] * cos - x[2i+1] * sin, 14))``,
    ``y[2i+1] = saturate16(round_shift(x[2i+1] * cos + x[2i] * sin, 14))``. Returns int16 [rows, n].
    (Su et al., "RoFormer", section 3.4.2; pairs as in the original, not split into halves.)
    """
    even, odd = x[:, 0::2].astype(np.int64), x[:, 1::2].astype(np.int64)
    cos, sin = table[:, 0::2].astype(np.int64), table[:, 1::2].astype(np.int64)
    y = np.empty(x.shape, np.int16)
    y[:, 0::2] = saturate16(round_shift(even * cos - odd * sin, ROTATION_BITS))
    y[:, 1::2] = saturate16(round_shift(odd * cos + even * sin, ROTATION_BITS))
    return y
