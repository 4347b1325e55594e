"""int8 entries of codebooks by coordinate descent on the output error.

Rounding an entry leaves an error in every row that chose it. Positions take turns: the entries of
one are fitted to what the others leave, and rounded again, so that each makes good the rounding of
those before it, as in GPTQ but over entries instead of weights.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from compiler.ir.matmul import CENTROID_SUM_MAX
from compiler.quant.codebooks import CODE_MAX, entry_moments
from compiler.quant.descent import BLOCK
from compiler.quant.kmeans import Floats
from compiler.quant.vectors import VectorProblem
from hw.fixed import Ints


@njit(cache=True, nogil=True)
def _move(codebook: Ints, moments: Floats, sums: Floats, step: float, moves: Floats) -> None:
    """Every element of the entries [c_w, v] in turn to its optimum, rounded; moves [c_w, v].

    moments: [c_w, v, v], of the entries; sums: [c_w, v], their gradients.
    """
    count, length = codebook.shape
    for c in range(count):
        size = 0
        for i in range(length):
            size += abs(int(codebook[c, i]))
        for i in range(length):
            curvature = float(moments[c, i, i])
            if curvature <= 0:
                continue
            old = int(codebook[c, i])
            room = min(CODE_MAX, CENTROID_SUM_MAX - size + abs(old))
            best = round(old - float(sums[c, i]) / (curvature * step))
            new = min(max(best, -room), room)
            size += abs(new) - abs(old)
            codebook[c, i] = new
            moves[c, i] = (new - old) * step
            for j in range(length):
                sums[c, j] += moves[c, i] * moments[c, i, j]


@njit(cache=True, parallel=True, nogil=True)
def _sweep(
    errors: Floats, gradients: Floats, moments: Floats, codebooks: Ints, entries: Floats,
    steps: Floats, weights: Floats, group_columns: int, indices: Ints,
) -> None:
    """One block of inputs n: errors, gradients [M, n]; moments [B, n, n]; codebooks [p, G, c, v].

    entries [p, G, c, v, v]: moments; steps [G]; weights [M]; indices [p, M].
    """
    length, in_block = codebooks.shape[3], len(errors) // len(moments)
    for p in range(len(codebooks)):
        sums = np.zeros(codebooks.shape[1:], np.float32)
        moves = np.zeros(codebooks.shape[1:], np.float32)
        for m in range(len(errors)):
            for i in range(length):
                sums[m // group_columns, indices[p, m], i] += (
                    weights[m] * gradients[m, p * length + i])
        for g in range(len(steps)):
            _move(codebooks[p, g], entries[p, g], sums[g], steps[g], moves[g])
        for m in prange(len(errors)):
            for i in range(length):
                move = moves[m // group_columns, indices[p, m], i]
                if move != 0:
                    errors[m, p * length + i] += move
                    for j in range(errors.shape[1]):
                        gradients[m, j] += move * moments[m // in_block, p * length + i, j]


def descend_books(problem: VectorProblem, codebooks: Ints, steps: Floats, indices: Ints) -> None:
    """One sweep over codebooks int8 [P, groups, c_w, v], in place; steps float32 [groups].

    Entries that no row has chosen stay as they are.
    """
    length = problem.length
    entries = entry_moments(problem, indices, codebooks.shape[2])
    weights = np.square(problem.scales)
    books = codebooks * steps[:, None, None]
    errors = problem.chosen(books, indices) - problem.targets
    for first in range(0, errors.shape[1], BLOCK):
        here = slice(first, first + BLOCK)
        places = slice(first // length, (first + BLOCK) // length)
        part = np.ascontiguousarray(errors[:, here])
        _sweep(part, problem.times_moments(errors, here),
               np.ascontiguousarray(problem.moments[:, here, here]), codebooks[places],
               entries[places], steps, weights, problem.group_columns, indices[places])
        errors[:, here] = part
