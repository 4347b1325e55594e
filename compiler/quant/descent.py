"""Indices of vectors by coordinate descent on the output error.

Every position of a row in turn takes the entry with the least error of the row's output, all
others fixed (QuantEase, Behdin et al. 2023; AQLM, Egiazarian et al. 2024, section 3.2 with a beam
of 1).
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from compiler.quant.kmeans import Floats
from compiler.quant.vectors import VectorProblem
from hw.fixed import Ints

BLOCK = 64
"""Inputs between which a row's gradient is kept up to date; the others' is made for a block."""


@njit(cache=True, parallel=True, nogil=True, fastmath=True)
def _sweep(
    errors: Floats, gradients: Floats, moments: Floats, books: Floats, norms: Floats,
    group_columns: int, indices: Ints,
) -> None:
    """One block of inputs n: errors, gradients [M, n]; moments [B, n, n]; books [p, G, v, c].

    norms [B, p, G, c]: ``entry @ H @ entry``.
    """
    count, length, codes = len(books), books.shape[2], books.shape[3]
    in_block = len(errors) // len(moments)
    for m in prange(len(errors)):
        b, g = m // in_block, m // group_columns
        gradient, error, moment = gradients[m], errors[m], moments[b]
        costs = np.empty(codes, np.float32)
        wish = np.empty(length, np.float32)
        for p in range(count):
            old, book, first = indices[p, m], books[p, g], p * length
            for i in range(length):
                wish[i] = gradient[first + i]
                for j in range(length):
                    wish[i] -= moment[first + i, first + j] * book[j, old]
                wish[i] *= 2
            norm = norms[b, p, g]
            for c in range(codes):
                costs[c] = norm[c]
            for i in range(length):
                for c in range(codes):
                    costs[c] += wish[i] * book[i, c]
            least = costs[old]
            new = old
            for c in range(codes):
                if costs[c] < least:
                    least, new = costs[c], c
            if new != old:
                indices[p, m] = new
                for i in range(length):
                    step = book[i, new] - book[i, old]
                    error[first + i] += step
                    for j in range(len(gradient)):
                        gradient[j] += step * moment[first + i, j]


def descend(problem: VectorProblem, books: Floats, indices: Ints, sweeps: int) -> Floats:
    """Improve indices [P, M] in place; returns what they stand for less the targets [M, P * v].

    books: float32 [P, groups, c_w, v].
    """
    length = problem.length
    errors = problem.chosen(books, indices) - problem.targets
    across = np.ascontiguousarray(books.transpose(0, 1, 3, 2))
    for _ in range(sweeps):
        for first in range(0, errors.shape[1], BLOCK):
            here = slice(first, first + BLOCK)
            places = slice(first // length, (first + BLOCK) // length)
            moments = np.ascontiguousarray(problem.moments[:, here, here])
            within = np.stack([moments[:, i:i + length, i:i + length]
                               for i in range(0, moments.shape[1], length)], axis=1)
            norms = np.einsum("pgcv,bpvw,pgcw->bpgc", books[places], within, books[places],
                              optimize=True).astype(np.float32)
            part = np.ascontiguousarray(errors[:, here])
            _sweep(part, problem.times_moments(errors, here), moments, across[places], norms,
                   problem.group_columns, indices[places])
            errors[:, here] = part
    return errors
