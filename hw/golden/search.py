"""Centroid search: the nearest activation centroid of every position."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hw.fixed import Ints

PARALLEL_WORK = 1 << 13
"""Distances above which threads pay for their start."""


@njit(cache=True)
def _position(p: int, x: Ints, centroids: Ints, l2: bool, codes: Ints) -> None:
    tokens, _, length = x.shape
    for t in range(tokens):
        best, best_code = np.int64(1) << 62, 0
        for c in range(centroids.shape[1]):
            distance = np.int64(0)
            for i in range(length):
                gap = abs(np.int64(x[t, p, i]) - np.int64(centroids[p, c, i]))
                if l2:
                    distance += gap * gap
                elif gap > distance:
                    distance = gap
            if distance < best:
                best, best_code = distance, c
        codes[t, p] = best_code


@njit(cache=True)
def _positions(x: Ints, centroids: Ints, l2: bool, codes: Ints) -> None:
    for p in range(x.shape[1]):
        _position(p, x, centroids, l2, codes)


@njit(cache=True, parallel=True)
def _positions_parallel(x: Ints, centroids: Ints, l2: bool, codes: Ints) -> None:
    for p in prange(x.shape[1]):
        _position(p, x, centroids, l2, codes)


def search(x: Ints, centroids: Ints, l2: bool = False) -> Ints:
    """Index of the nearest centroid, the lowest index on a tie.

    x: int16 [tokens, positions, v]; centroids: int16 [positions, c_a, v].
    Distance: Chebyshev (LUT-LLM, section on the centroid search unit) or squared Euclidean.
    Returns uint8 [tokens, positions].
    """
    codes = np.zeros(x.shape[:2], np.uint8)
    run = _positions if codes.size * centroids.shape[1] < PARALLEL_WORK else _positions_parallel
    run(x, centroids, l2, codes)
    return codes
