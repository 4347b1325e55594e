"""Multiplier array: grouped low-bit dot products with power-of-two channel factors (TRIP).

Agile-Quant (section on TRIP) gives every channel a power-of-two factor; on the array the factor
becomes a shift of the accumulator between chunks of channels instead of a wider operand. Here the
shifted operands are made first, as int16, so that one loop of int16 products remains.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from hw.fixed import Ints

PARALLEL_WORK = 1 << 20
"""Products above which threads pay for their start."""
BLOCK_TOKENS = 32
BLOCK_COLUMNS = 16
"""Operands of a block stay in the caches: 32 tokens and 16 columns."""


@njit(cache=True, error_model="numpy")
def _dot(x: Ints, weights: Ints) -> Any:
    total = np.int32(0)
    for i in range(len(weights)):
        total += np.int32(x[i]) * np.int32(weights[i])
    return total


@njit(cache=True, error_model="numpy")
def _four_dots(
    x0: Ints, x1: Ints, x2: Ints, x3: Ints, weights: Ints
) -> tuple[Any, Any, Any, Any]:
    total0, total1, total2, total3 = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    for i in range(len(weights)):
        weight = np.int32(weights[i])
        total0 += np.int32(x0[i]) * weight
        total1 += np.int32(x1[i]) * weight
        total2 += np.int32(x2[i]) * weight
        total3 += np.int32(x3[i]) * weight
    return total0, total1, total2, total3


@njit(cache=True, error_model="numpy")
def _block(
    block: int, x: Ints, masses: Ints, weights: Ints, scales: Ints, minima: Ints, group: int,
    shift: int, sums: Ints,
) -> None:
    """Columns of one block for all tokens, four tokens at a time."""
    tokens, groups = masses.shape
    half = np.int64(1) << (shift - 1) if shift else np.int64(0)
    columns = range(block * BLOCK_COLUMNS, min((block + 1) * BLOCK_COLUMNS, len(weights)))
    for start in range(0, tokens, BLOCK_TOKENS):
        stop = min(start + BLOCK_TOKENS, tokens)
        fours = start + (stop - start) // 4 * 4
        for m in columns:
            for t in range(start, fours, 4):
                for g in range(groups):
                    part = slice(g * group, (g + 1) * group)
                    scale, minimum = np.int64(scales[g, m]), np.int64(minima[g, m])
                    dots = _four_dots(x[t, part], x[t + 1, part], x[t + 2, part], x[t + 3, part],
                                      weights[m, part])
                    sums[t, m] += (dots[0] * scale + masses[t, g] * minimum + half) >> shift
                    sums[t + 1, m] += (dots[1] * scale + masses[t + 1, g] * minimum + half) >> shift
                    sums[t + 2, m] += (dots[2] * scale + masses[t + 2, g] * minimum + half) >> shift
                    sums[t + 3, m] += (dots[3] * scale + masses[t + 3, g] * minimum + half) >> shift
            for t in range(fours, stop):
                total = np.int64(0)
                for g in range(groups):
                    part = slice(g * group, (g + 1) * group)
                    dot = np.int64(_dot(x[t, part], weights[m, part]))
                    total += (dot * np.int64(scales[g, m])
                              + masses[t, g] * np.int64(minima[g, m]) + half) >> shift
                sums[t, m] = total


@njit(cache=True, error_model="numpy")
def _blocks(
    blocks: int, x: Ints, masses: Ints, weights: Ints, scales: Ints, minima: Ints, group: int,
    shift: int, sums: Ints,
) -> None:
    for block in range(blocks):
        _block(block, x, masses, weights, scales, minima, group, shift, sums)


@njit(cache=True, parallel=True, error_model="numpy")
def _blocks_parallel(
    blocks: int, x: Ints, masses: Ints, weights: Ints, scales: Ints, minima: Ints, group: int,
    shift: int, sums: Ints,
) -> None:
    for block in prange(blocks):
        _block(block, x, masses, weights, scales, minima, group, shift, sums)


def group_sums(
    x: Ints, weights: Ints, alphas: Ints, scales: Ints, minima: Ints, group: int, shift: int
) -> Ints:
    """Sum over groups of ``round_shift(dot * scale + mass * minimum, shift)``.

    ``dot`` is the group's sum of ``x * weight * 2**alpha`` and ``mass`` that of ``x * 2**alpha``.
    x: int8 [tokens, D]; weights: int8 [M, D]; alphas: uint8 [D / chunk], each 0..4 and not
    increasing within a group (the array shifts its accumulator left between chunks);
    scales, minima: int16 [D / group, M]. D is a multiple of ``group``, ``group`` of the chunk.
    Returns int64 [tokens, M]; the compiler proves that it fits ``sum_bits``.
    """
    chunk = x.shape[1] // len(alphas)
    shifted = x.astype(np.int16) << np.repeat(alphas.astype(np.int16), chunk)
    masses = shifted.reshape(len(x), -1, group).sum(axis=2, dtype=np.int64)
    sums = np.zeros((len(x), len(weights)), np.int64)
    run = _blocks if len(x) * weights.size < PARALLEL_WORK else _blocks_parallel
    run(-(-len(weights) // BLOCK_COLUMNS), shifted, masses, weights, scales, minima, group, shift,
        sums)
    return sums
