"""Multiplier array: grouped low-bit dot products with power-of-two channel factors (TRIP).

Agile-Quant (section on TRIP) gives every channel a power-of-two factor; on the array the factor
becomes a shift of the accumulator between chunks of channels instead of a wider operand.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hw.fixed import Ints

PARALLEL_WORK = 1 << 22
"""Products above which threads pay for their start."""


@njit(cache=True)
def _column(
    m: int, x: Ints, weights: Ints, alphas: Ints, scales: Ints, minima: Ints, chunk: int,
    group: int, shift: int, sums: Ints,
) -> None:
    tokens, inputs = x.shape
    half = np.int64(1) << (shift - 1) if shift else np.int64(0)
    for t in range(tokens):
        total = np.int64(0)
        for g in range(inputs // group):
            dot, mass = np.int64(0), np.int64(0)
            for c in range(g * group // chunk, (g + 1) * group // chunk):
                part, part_mass = np.int32(0), np.int32(0)
                for i in range(c * chunk, (c + 1) * chunk):
                    part += np.int32(x[t, i]) * np.int32(weights[m, i])
                    part_mass += np.int32(x[t, i])
                dot += np.int64(part) << np.int64(alphas[c])
                mass += np.int64(part_mass) << np.int64(alphas[c])
            total += (dot * scales[g, m] + mass * minima[g, m] + half) >> shift
        sums[t, m] = total


@njit(cache=True)
def _columns(
    x: Ints, weights: Ints, alphas: Ints, scales: Ints, minima: Ints, chunk: int, group: int,
    shift: int, sums: Ints,
) -> None:
    for m in range(len(weights)):
        _column(m, x, weights, alphas, scales, minima, chunk, group, shift, sums)


@njit(cache=True, parallel=True)
def _columns_parallel(
    x: Ints, weights: Ints, alphas: Ints, scales: Ints, minima: Ints, chunk: int, group: int,
    shift: int, sums: Ints,
) -> None:
    for m in prange(len(weights)):
        _column(m, x, weights, alphas, scales, minima, chunk, group, shift, sums)


def group_sums(
    x: Ints, weights: Ints, alphas: Ints, scales: Ints, minima: Ints, group: int, shift: int
) -> Ints:
    """Sum over groups of ``round_shift(dot * scale + mass * minimum, shift)``.

    ``dot`` is the group's sum of ``x * weight * 2**alpha`` and ``mass`` that of ``x * 2**alpha``.
    x: int8 [tokens, D]; weights: int8 [M, D]; alphas: uint8 [D / chunk], each 0..4 and not
    increasing within a group (the array shifts its accumulator left between chunks);
    scales, minima: int16 [D / group, M]. D is a multiple of ``group``, ``group`` of the chunk.
    Returns int64 [tokens, M]; the compiler proves that it fits 32 bits.
    """
    sums = np.zeros((len(x), len(weights)), np.int64)
    run = _columns if len(x) * weights.size < PARALLEL_WORK else _columns_parallel
    run(
        x, weights, alphas, scales.astype(np.int64), minima.astype(np.int64),
        x.shape[1] // len(alphas), group, shift, sums,
    )
    return sums
