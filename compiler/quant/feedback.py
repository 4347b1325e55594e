"""Error feedback over vectors of inputs.

GPTQ (Frantar et al. 2022) quantizes one input after the other and moves the error of each to the
inputs that are still to come; GPTVQ (van Baalen et al. 2024, section 3.2) does so with vectors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compiler.quant.hessian import inverse_factor
from compiler.quant.kmeans import Floats
from compiler.quant.vectors import VectorProblem

BLOCK = 64
"""Inputs after which all that come later are corrected at once (GPTQ, section 3.3, step 2)."""

Choose = Callable[[int, Floats, Floats], Floats]
"""(position, vectors [M, v], roots [B, v, v]) -> what stands for the vectors, [M, v].

The cost of an error e of a row in block b is ``|e @ roots[b]|**2``.
"""


def feed_back(problem: VectorProblem, choose: Choose) -> None:
    """Let ``choose`` quantize every position once, with the errors of those before it fed back.

    Positions with the largest inputs come first (GPTQ's activation order), because their errors
    find the most inputs that can make them good.
    """
    length, width = problem.length, problem.targets.shape[1]
    sizes = np.diagonal(problem.moments, axis1=1, axis2=2).sum(axis=0)
    order = np.argsort(-sizes.reshape(-1, length).sum(axis=1), kind="stable")
    inputs = (order[:, None] * length + np.arange(length)).reshape(-1)
    current = np.ascontiguousarray(problem.targets[:, inputs])
    factors = np.stack([inverse_factor(moment[np.ix_(inputs, inputs)].astype(np.float64))
                        for moment in problem.moments]).astype(np.float32)
    blocks = list(zip(problem.rows, factors, strict=True))
    for first in range(0, width, BLOCK):
        last = min(first + BLOCK, width)
        errors = np.zeros((len(current), last - first), np.float32)
        for at in range(first, last, length):
            here = slice(at, at + length)
            roots = np.linalg.inv(factors[:, here, here])
            gaps = current[:, here] - choose(int(order[at // length]), current[:, here], roots)
            for (rows, factor), root in zip(blocks, roots, strict=True):
                error = gaps[rows] @ root
                errors[rows, at - first:at - first + length] = error
                current[rows, at + length:last] -= error @ factor[here, at + length:last]
        for rows, factor in blocks:
            current[rows, last:] -= errors[rows] @ factor[first:last, last:]
