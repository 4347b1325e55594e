"""k-means for many small codebooks at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from hw.fixed import Ints

Floats = NDArray[Any]


@njit(cache=True)
def _assign(points: Floats, centres: Floats, codes: Ints) -> float:
    error = 0.0
    for n in range(len(points)):
        best = np.inf
        for c in range(len(centres)):
            distance = 0.0
            for i in range(points.shape[1]):
                gap = points[n, i] - centres[c, i]
                distance += gap * gap
            if distance < best:
                best, codes[n] = distance, c
        error += best
    return error


@njit(cache=True)
def first_centres(points: Floats, counts: Floats, centres: Floats, start: int) -> None:
    """Farthest-point-weighted choice without randomness: k-means++ by cumulative quantiles."""
    nearest = np.full(len(points), np.inf)
    chosen = start % len(points)
    for c in range(len(centres)):
        centres[c] = points[chosen]
        total = 0.0
        for n in range(len(points)):
            distance = 0.0
            for i in range(points.shape[1]):
                gap = points[n, i] - centres[c, i]
                distance += gap * gap
            nearest[n] = min(nearest[n], distance)
            total += nearest[n] * counts[n]
        # A golden-ratio walk through the cumulative weight spreads the choices evenly.
        target = total * ((0.5 + (c + 1) * 0.6180339887498949) % 1.0)
        chosen, running = 0, 0.0
        for n in range(len(points)):
            running += nearest[n] * counts[n]
            if running >= target:
                chosen = n
                break


@njit(cache=True, parallel=True)
def _kmeans(
    points: Floats, weights: Floats, iterations: int, seed: int, centres: Floats, codes: Ints
) -> None:
    for b in prange(len(points)):
        first_centres(points[b], weights, centres[b], seed)
        counts = np.zeros(centres.shape[1], np.float64)
        sums = np.zeros(centres.shape[1:], np.float64)
        previous = np.inf
        for _ in range(iterations):
            error = _assign(points[b], centres[b], codes[b])
            if error >= previous * (1 - 1e-4):
                break
            previous = error
            counts[:] = 0
            sums[:] = 0
            for n in range(points.shape[1]):
                counts[codes[b, n]] += weights[n]
                sums[codes[b, n]] += points[b, n] * weights[n]
            for c in range(centres.shape[1]):
                if counts[c] > 0:
                    centres[b, c] = (sums[c] / counts[c]).astype(np.float32)


def kmeans(
    points: Floats, clusters: int, *, iterations: int = 12, seed: int = 0,
    counts: Floats | None = None,
) -> tuple[Floats, Ints]:
    """Cluster each batch of points; the same seed gives the same codebooks.

    points: float32 [batches, n, dims]; counts: how often each of the n points counts, or None.
    Returns centres float32 [batches, clusters, dims] and codes [batches, n].
    """
    points = np.ascontiguousarray(points, np.float32)
    centres = np.zeros((len(points), clusters, points.shape[2]), np.float32)
    codes = np.zeros(points.shape[:2], np.uint8 if clusters <= 256 else np.uint16)
    weights = np.ones(points.shape[1], np.float32) if counts is None else counts
    _kmeans(points, weights, iterations, seed, centres, codes)
    return centres, codes


@njit(cache=True, parallel=True)
def _nearest(points: Floats, centres: Floats, codes: Ints) -> None:
    for b in prange(len(points)):
        _assign(points[b], centres[b], codes[b])


def nearest(points: Floats, centres: Floats) -> Ints:
    """Nearest centre of each point: uint8 [batches, n]."""
    codes = np.zeros(points.shape[:2], np.uint8)
    _nearest(np.ascontiguousarray(points, np.float32), centres.astype(np.float32), codes)
    return codes
