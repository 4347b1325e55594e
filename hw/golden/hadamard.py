"""Hadamard rotation of blocks of consecutive elements."""

from __future__ import annotations

import numpy as np

from hw.fixed import Ints, round_shift, saturate16

LENGTH_BITS_MAX = 9
"""Longest block, as a power of two: 512 elements."""


def transform(x: Ints, length_bits: int) -> Ints:
    """``H x`` of every block of ``2**length_bits`` elements of the last axis, unscaled.

    H is Sylvester's matrix of ones and minus ones, ``H[i, j] = (-1)**popcount(i & j)``: symmetric,
    and ``H H`` is the block's length times the identity. Sums of int16 take
    ``16 + length_bits`` bits. The last axis is a multiple of the block. Returns int64.
    """
    y = np.asarray(x).astype(np.int64)
    shape = y.shape
    for bit in range(length_bits):
        pairs = y.reshape(-1, 2, 1 << bit)
        y = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1)
    return y.reshape(shape)


def hadamard(x: Ints, length_bits: int, shift: int) -> Ints:
    """``saturate16(round_shift(H x, shift))`` of every block of ``2**length_bits`` elements.

    x: int16 [..., n], n a multiple of the block; sums are exact before the one rounding. Returns
    int16. (The online rotation of down's input: Ashkboos et al., "QuaRot", section 4.1; Liu et al.,
    "SpinQuant", R4.)
    """
    return saturate16(round_shift(transform(x, length_bits), shift))
