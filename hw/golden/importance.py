"""Importance of the tokens of a pass, and the order that it gives them.

Agile-Quant (Shen et al., AAAI 2024) ranks tokens by the attention that they pay to the first token,
summed over the heads: those that pay little take int4 activations behind the attention, or leave.
"""

from __future__ import annotations

import numpy as np

from hw.fixed import Ints, round_shift
from hw.golden.softmax import LOG2_RECIPROCAL_BITS, RECIPROCAL_BITS, log2_weights

PROBABILITY_BITS = 16
"""Fraction bits of an attention weight in the importance."""
IMPORTANCE_BITS = 24
HEADS_MAX = 255
"""Query heads whose weights of at most 1 fit the importance."""
ORDER_ENTRIES = 256
"""Tokens whose importance and order the hardware keeps."""


def first_attention(numerators: Ints, reciprocals: Ints, log2: bool) -> Ints:
    """Attention of every row to position 0, int64 [rows] with 16 fraction bits.

    numerators: uint8 [rows, n] and reciprocals: int64 [rows] of `hw.golden.softmax.softmax`.
    ``round_shift(weight * reciprocal, 14)``, with log2 weights ``..., 21)``.
    """
    first = numerators[:, 0]
    weights = log2_weights(first) if log2 else first.astype(np.int64)
    bits = LOG2_RECIPROCAL_BITS if log2 else RECIPROCAL_BITS
    return round_shift(weights * reciprocals.astype(np.int64), bits - PROBABILITY_BITS)


def importance(attention: Ints, heads: int, before: Ints | None = None) -> Ints:
    """Sum over the heads of each token: int64 [rows / heads], 24 bits.

    attention: [rows], row ``t * heads + h``; before: what other heads gave, or None.
    """
    total = attention.reshape(-1, heads).sum(axis=1)
    if before is not None:
        total = total + before
    return np.asarray(total & ((1 << IMPORTANCE_BITS) - 1))


def token_order(values: Ints, low: int, pruned: int) -> Ints:
    """Tokens in three parts, each in ascending position: int64 [tokens].

    The last part is the ``pruned`` least important tokens, the one before it the ``low`` least
    important of the others. Of equally important tokens the earlier one counts as less important.
    """
    ranks = np.empty(len(values), np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    tokens = np.arange(len(values))
    parts = (ranks >= low + pruned, (ranks >= pruned) & (ranks < low + pruned), ranks < pruned)
    return np.concatenate([tokens[part] for part in parts])
