"""The residual stream: int32, so that massive activations fit beside small ones.

Vector memory holds it as pairs of words: the low halves of a word's elements, then the high halves.
"""

from __future__ import annotations

import numpy as np

from hw.fixed import Ints, saturate
from hw.golden.dequant import INT32_MAX


def add(residual: Ints, y: Ints) -> Ints:
    """``residual + y``, both int32, saturated to ``+-(2**31 - 1)``."""
    return saturate(residual.astype(np.int64) + y.astype(np.int64), INT32_MAX).astype(np.int32)


def embed(rows: Ints, shift: int) -> Ints:
    """int16 embedding rows as residual values: ``rows << shift``, int32 (shift at most 16)."""
    return (rows.astype(np.int64) << shift).astype(np.int32)


def to_pairs(x: Ints, elements: int) -> Ints:
    """int32 [rows, words * elements] to int16 [rows, 2 * words, elements]."""
    bits = np.ascontiguousarray(x).view(np.uint32).reshape(len(x), -1, 1, elements)
    halves = np.concatenate([bits & 0xFFFF, bits >> 16], axis=2)
    return halves.astype(np.uint16).view(np.int16).reshape(len(x), -1, elements)


def from_pairs(words: Ints) -> Ints:
    """int16 [rows, 2 * words, elements] to int32 [rows, words * elements]."""
    rows, _, elements = words.shape
    halves = words.view(np.uint16).reshape(rows, -1, 2, elements).astype(np.uint32)
    return (halves[:, :, 0] | halves[:, :, 1] << 16).view(np.int32).reshape(rows, -1)
