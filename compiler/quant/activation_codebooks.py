"""Activation codebooks of ``lut2d``: weighted k-means in the space in which the device searches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit, prange

from compiler.quant.kmeans import Floats, kmeans
from compiler.quant.vector import positions
from hw.fixed import Ints

TOKENS = 4096
"""Tokens from which codebooks are clustered, evenly spread over the calibration text."""
REFINEMENTS = 4
"""Rounds of assignment by the device's own distance."""


def search_divisors(weights: Sequence[Floats], length: int) -> Floats:
    """What each channel is divided by, so that equal distances cost the output the same.

    The distance takes the elements of a vector alike (the Chebyshev distance of LUT-LLM), but the
    error of an input reaches the output times the norm of its weight column. Only the ratio within
    a vector matters. weights: float32 [M, D] of the linears that read the input. Returns [D].
    """
    squares = np.sum([(weight.astype(np.float64)**2).sum(axis=0) for weight in weights], axis=0)
    norms = positions(np.maximum(squares, squares.max() * 1e-8 + 1e-30)[None] ** 0.5, length)
    if len(squares) % length:
        norms[-1, 0, len(squares) % length - length:] = 1.0
    typical = np.exp(np.log(norms).mean(axis=2, keepdims=True))
    divisors: Floats = (typical / norms).reshape(-1)[:len(squares)].astype(np.float32)
    return np.clip(divisors, 0.125, 8.0)


@njit(cache=True, parallel=True)
def _search(points: Floats, centres: Floats, l2: bool, codes: Ints) -> None:
    for p in prange(len(points)):
        for n in range(points.shape[1]):
            best, chosen = np.inf, 0
            for c in range(centres.shape[1]):
                distance = 0.0
                for i in range(points.shape[2]):
                    gap = abs(points[p, n, i] - centres[p, c, i])
                    if l2:
                        distance += gap * gap
                    elif gap > distance:
                        distance = gap
                if distance < best:
                    best, chosen = distance, c
            codes[p, n] = chosen


def search_codes(points: Floats, centres: Floats, l2: bool) -> Ints:
    """Nearest centre of each point by the device's distance: int16 [P, n]."""
    codes = np.zeros(points.shape[:2], np.int16)
    _search(np.ascontiguousarray(points, np.float32), centres, l2, codes)
    return codes


@njit(cache=True, parallel=True)
def _means(points: Floats, counts: Floats, codes: Ints, centres: Floats) -> None:
    for p in prange(len(points)):
        sums = np.zeros(centres.shape[1:])
        totals = np.zeros(centres.shape[1])
        for n in range(points.shape[1]):
            totals[codes[p, n]] += counts[n]
            for i in range(points.shape[2]):
                sums[codes[p, n], i] += points[p, n, i] * counts[n]
        for c in range(centres.shape[1]):
            if totals[c] > 0:
                for i in range(points.shape[2]):
                    centres[p, c, i] = sums[c, i] / totals[c]


def activation_codebooks(
    x: Floats, counts: Floats, divisors: Floats, length: int, codes: int, l2: bool, seed: int
) -> Floats:
    """Centroids float32 [P, c_a, v] of an input, in its own units.

    x: [tokens, D]; counts: how much a token's error counts, [tokens]; divisors: of
    `search_divisors`. k-means in the divided space, then rounds of the device's assignment and
    weighted means.
    """
    step = -(-len(x) // TOKENS)
    points = positions(x[::step] / divisors, length)
    weights = np.ascontiguousarray(counts[::step], np.float32)
    centres, _ = kmeans(points, codes, seed=seed, counts=weights)
    for _ in range(REFINEMENTS):
        _means(points, weights, search_codes(points, centres, l2), centres)
    by_place = positions(divisors[None], length)
    made: Floats = (centres * by_place).astype(np.float32)
    return made


def vector_quantized(x: Floats, centroids: Floats, divisors: Floats, l2: bool) -> Floats:
    """The input as the tables see it: each vector replaced by its centroid, [tokens, D]."""
    count, _, length = centroids.shape
    places = positions(divisors[None], length)
    codes = search_codes(positions(x / divisors, length), centroids / places, l2)
    chosen = centroids[np.arange(count)[:, None], codes]
    made: Floats = chosen.transpose(1, 0, 2).reshape(len(x), -1)[:, :x.shape[1]]
    return np.ascontiguousarray(made)
