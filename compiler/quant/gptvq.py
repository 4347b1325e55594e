"""GPTVQ: weights in vectors of inputs, chosen for the output of the layer.

Van Baalen et al. 2024, "GPTVQ: the blessing of dimensionality for LLM quantization". Here every
position has a codebook of its own for each group of output columns, and a column's normalization
is the multiplier that the dequantizer has for it anyway.
"""

from __future__ import annotations

import numpy as np

from compiler.quant.codebooks import Clustering, entry_moments, fit_books, round_books
from compiler.quant.descent import descend
from compiler.quant.feedback import feed_back
from compiler.quant.integer_books import descend_books
from compiler.quant.kmeans import Floats
from compiler.quant.vectors import VectorProblem, vector_problem
from compiler.quant.weights import VectorWeights

CLUSTER_WORK = 384
"""Iterations of k-means times codes: large codebooks get fewer, the fit does the rest."""
ITERATIONS = (3, 12)
FIT_STEPS = 8
ROUNDS = 1
"""Codebook updates, each followed by a sweep of coordinate descent and new scales."""
INTEGER_ROUNDS = 3
"""Sweeps over int8 entries, each followed by one over indices."""


def fitted_scales(problem: VectorProblem, chosen: Floats) -> VectorProblem:
    """Scales of rows by least squares, given what stands for the targets [M, P * v].

    A row that would take a negative scale keeps the one it has.
    """
    image = problem.times_moments(chosen)
    sizes = np.einsum("md,md->m", image, chosen)
    factors = np.einsum("md,md->m", image, problem.targets) / np.where(sizes > 0, sizes, 1)
    return problem.scaled(np.where(factors > 0, factors, 1).astype(np.float32))


def gptvq(
    weight: Floats, hessians: Floats, length: int, codes: int, group_columns: int, seed: int,
    rounds: int = ROUNDS,
) -> VectorWeights:
    """Error feedback with codebooks clustered on the way, then codebooks and indices in turn.

    weight: float32 [M, D]; hessians: float32 [B, D, D], one for each M / B rows; length: v;
    codes: c_w, at most 256. The last rounds are on the codebooks as rounded to int8. ``rounds=0``
    takes half the time, for about 1% more error. Raises ValueError where the shapes do
    not fit.
    """
    problem = vector_problem(weight, hessians, length, group_columns)
    iterations = int(np.clip(CLUSTER_WORK // codes, *ITERATIONS))
    clustering = Clustering(problem, codes, iterations, seed)
    feed_back(problem, clustering)
    books, indices = clustering.books, clustering.indices
    for _ in range(rounds):
        books = fit_books(problem, books, indices, FIT_STEPS)
        descend(problem, books, indices, 1)
        problem = fitted_scales(problem, problem.chosen(books, indices))
    books = fit_books(problem, books, indices, FIT_STEPS)
    moments = entry_moments(problem, indices, codes)
    codebooks, steps = round_books(books, np.einsum("pgcvv->pgcv", moments))
    for _ in range(INTEGER_ROUNDS):
        descend_books(problem, codebooks, steps, indices)
        descend(problem, codebooks * steps[:, None, None], indices, 1)
    problem = fitted_scales(problem, problem.chosen(codebooks * steps[:, None, None], indices))
    of_group = np.repeat(steps, group_columns)[:len(weight)]
    return problem.weights(codebooks, indices, problem.scales * of_group)
