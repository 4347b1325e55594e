"""Codebooks of weight vectors: clustered, fitted to the layer's output, rounded to int8."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from compiler.ir.matmul import CENTROID_SUM_MAX
from compiler.quant.kmeans import Floats, first_centres
from compiler.quant.vectors import VectorProblem
from hw.fixed import Ints

CODE_MAX = 127
RANGES = (1.0, 0.85, 0.7, 0.6, 0.5, 0.42, 0.35)
"""Parts of the entries' range that int8 codebooks may span."""


@njit(cache=True, parallel=True, nogil=True, fastmath=True)
def _nearest(points: Floats, centres: Floats, codes: Ints) -> None:
    """Codes [n] of points [n, v] among centres [v, c]."""
    length, count = centres.shape
    norms = np.zeros(count, np.float32)
    for i in range(length):
        norms += centres[i] * centres[i]
    for n in prange(len(points)):
        costs = norms.copy()
        for i in range(length):
            twice = 2 * points[n, i]
            for c in range(count):
                costs[c] -= twice * centres[i, c]
        least, best = costs[0], 0
        for c in range(count):
            if costs[c] < least:
                least, best = costs[c], c
        codes[n] = best


def nearest_entries(points: Floats, entries: Floats) -> Ints:
    """Nearest entry [c_w, v] of each point [n, v]: uint8 [n]."""
    codes = np.zeros(len(points), np.uint8)
    _nearest(np.ascontiguousarray(points), np.ascontiguousarray(entries.T), codes)
    return codes


@njit(cache=True, nogil=True)
def _cluster(
    points: Floats, weights: Floats, iterations: int, centres: Floats, codes: Ints
) -> None:
    """Lloyd's iterations; a centre is the weighted mean of its points."""
    for step in range(iterations):
        _nearest(points, np.ascontiguousarray(centres.T), codes)
        if step == iterations - 1:
            break
        sums = np.zeros(centres.shape, np.float64)
        totals = np.zeros(len(centres), np.float64)
        for n in range(len(points)):
            totals[codes[n]] += weights[n]
            for i in range(points.shape[1]):
                sums[codes[n], i] += weights[n] * points[n, i]
        for c in range(len(centres)):
            if totals[c] > 0:
                for i in range(points.shape[1]):
                    centres[c, i] = sums[c, i] / totals[c]


class Clustering:
    """Makes the codebooks of a position when its vectors are quantized.

    The distance is the cost of an error in the layer's output, once the inputs behind have made it
    good as far as they can; a row counts by the square of its scale (GPTVQ, section 3.2, where the
    weights of k-means are ``1 / [H^-1]_ii``; here the whole block of a vector).

    books: float32 [P, groups, c_w, v]; indices: uint8 [P, M].
    """

    def __init__(self, problem: VectorProblem, codes: int, iterations: int, seed: int) -> None:
        self.problem, self.iterations, self.seed = problem, iterations, seed
        self.books = np.zeros((problem.positions, problem.groups, codes, problem.length),
                              np.float32)
        self.indices = np.zeros((problem.positions, len(problem.targets)), np.uint8)
        self.row_weights = np.square(problem.scales)

    def __call__(self, position: int, vectors: Floats, roots: Floats) -> Floats:
        """Cluster and quantize the vectors [M, v] of a position; `compiler.quant.feedback`."""
        problem, chosen = self.problem, np.empty_like(vectors)
        # Centres have one metric. Where blocks of rows have several, it is the mean.
        root = roots[0] if len(roots) == 1 else np.linalg.cholesky(
            np.mean(roots @ roots.transpose(0, 2, 1), axis=0, dtype=np.float64)).astype(np.float32)
        points = np.ascontiguousarray(vectors @ root)
        for group in range(problem.groups):
            here = slice(group * problem.group_columns, (group + 1) * problem.group_columns)
            centres = np.zeros(self.books.shape[2:], np.float32)
            first_centres(points[here], self.row_weights[here], centres, self.seed)
            codes = self.indices[position, here]
            _cluster(points[here], self.row_weights[here], self.iterations, centres, codes)
            book = (centres @ np.linalg.inv(root)).astype(np.float32)
            self.books[position, group] = book
            chosen[here] = book[codes]
        return chosen


@njit(cache=True, parallel=True, nogil=True)
def _gather(values: Floats, weights: Floats, indices: Ints, columns: int, sums: Floats) -> None:
    """Sums [P, groups, c_w, v] of ``weights[m] * values[m]`` over the rows that chose an entry."""
    length = sums.shape[3]
    for p in prange(len(sums)):
        for m in range(len(values)):
            entry = sums[p, m // columns, indices[p, m]]
            for i in range(length):
                entry[i] += weights[m] * values[m, p * length + i]


def entry_moments(problem: VectorProblem, indices: Ints, codes: int) -> Floats:
    """Moments of every codebook entry by itself: float32 [P, groups, c_w, v, v]."""
    positions, length = problem.positions, problem.length
    made = np.zeros((positions, problem.groups, codes, length, length), np.float32)
    blocks = problem.moments.reshape(-1, positions, length, positions, length)
    places = np.arange(positions)
    for rows, moment in zip(problem.rows, blocks, strict=True):
        weights = np.zeros(len(problem.scales), np.float32)
        weights[rows] = np.square(problem.scales[rows])
        counts = np.zeros((positions, problem.groups, codes, 1), np.float32)
        _gather(np.ones((len(weights), positions), np.float32), weights, indices,
                problem.group_columns, counts)
        made += counts[..., None] * moment[places, :, places][:, None, None]
    return made


def fit_books(problem: VectorProblem, books: Floats, indices: Ints, steps: int) -> Floats:
    """Codebooks with the least cost at these indices: conjugate gradients, not to the end.

    GPTVQ (section 3.3, "codebook update") descends the same cost by gradients. Preconditioned by
    the moments of every entry by itself. books: float32 [P, groups, c_w, v]; an entry that no row
    has chosen stays as it is.
    """
    weights = np.square(problem.scales)

    def gather(values: Floats) -> Floats:
        sums = np.zeros_like(books)
        _gather(problem.times_moments(values), weights, indices, problem.group_columns, sums)
        return sums

    moments = entry_moments(problem, indices, books.shape[2])
    unused = np.trace(moments, axis1=3, axis2=4) <= 0
    moments[unused] = np.eye(problem.length)
    inverse = np.linalg.inv(moments)
    made = books.copy()
    residual = gather(problem.targets - problem.chosen(made, indices))
    step = np.einsum("pgcvw,pgcw->pgcv", inverse, residual)
    size = float(np.vdot(residual, step))
    for _ in range(steps):
        if size <= 0:
            break
        image = gather(problem.chosen(step, indices))
        length = np.float32(size / float(np.vdot(step, image)))
        made += length * step
        residual -= length * image
        scaled = np.einsum("pgcvw,pgcw->pgcv", inverse, residual)
        previous, size = size, float(np.vdot(residual, scaled))
        step = scaled + np.float32(size / previous) * step
    return made


def row_integers(entries: Floats) -> Floats:
    """Entries [..., v] rounded to int8 whose products with int8 inputs fit a row's 16 bits."""
    rounded = np.clip(np.round(entries), -CODE_MAX, CODE_MAX)
    sums = np.abs(rounded).sum(axis=-1, keepdims=True)
    return np.where(sums > CENTROID_SUM_MAX,
                    np.trunc(rounded * (CENTROID_SUM_MAX / np.maximum(sums, 1))), rounded)


def round_books(books: Floats, importance: Floats) -> tuple[Ints, Floats]:
    """int8 codebooks ("codebook compression", GPTVQ, section 3.3) and a step for each group.

    A step is the best of a few, most of which let rare large entries saturate.

    books, importance: float32 [P, groups, c_w, v]. Returns int8 of the same shape and float32
    [groups].
    """
    codebooks = np.zeros(books.shape, np.int8)
    steps = np.ones(books.shape[1], np.float32)
    for group in range(books.shape[1]):
        book, best = books[:, group], np.inf
        peak = float(np.abs(book).max())
        for part in RANGES:
            step = peak * part / CODE_MAX or 1.0
            rounded = row_integers(book / step)
            cost = float((importance[:, group] * np.square(rounded * step - book)).sum())
            if cost < best:
                best, steps[group], codebooks[:, group] = cost, step, rounded
    return codebooks, steps
