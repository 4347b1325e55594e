"""Vector quantization without codebooks of its own: integer points of small L1 norm.

Fischer 1986, "A pyramid vector quantizer"; van der Ouderaa et al. 2024, "Pyramid vector
quantization for LLMs". Every position has the same entries, so that nothing but indices and a
scale for each output column has to be stored.
"""

from __future__ import annotations

import numpy as np

from compiler.quant.codebooks import CODE_MAX, nearest_entries
from compiler.quant.descent import descend
from compiler.quant.feedback import feed_back
from compiler.quant.gptvq import fitted_scales
from compiler.quant.kmeans import Floats
from compiler.quant.vectors import VectorProblem, vector_problem
from compiler.quant.weights import VectorWeights
from hw.fixed import Ints

STEPS = np.geomspace(0.02, 2.5, 60)
"""Distances of the points that are tried, in root mean squares of a row."""
SAMPLE = 2048
"""Vectors on which they are compared."""
SWEEPS = 2


def pyramid_points(length: int, codes: int) -> Ints:
    """The ``codes`` integer points of v elements with the least L1 norm, int8 [c_w, v].

    Of a shell that is needed only in part, points of the least L2 norm come first, each as far
    from those before it as it can be. Where int8 has too few points, the rest are zeros.
    """
    points, shell = np.zeros((0, length), np.int64), _shell(length, 0)
    for radius in range(1, CODE_MAX + 1):
        if len(points) + len(shell) >= codes:
            break
        points, shell = np.concatenate([points, shell]), _shell(length, radius)
    made = np.zeros((codes, length), np.int8)
    made[:len(points)] = points
    norms, far = np.square(shell).sum(axis=1), np.zeros(len(shell))
    for place in range(len(points), min(codes, len(points) + len(shell))):
        best = int(np.argmax(np.where(norms == norms.min(), far, -1)))
        made[place] = shell[best]
        gaps = np.square(shell - shell[best]).sum(axis=1)
        far = gaps if place == len(points) else np.minimum(far, gaps)
        norms[best] = np.iinfo(norms.dtype).max
    return made


def _shell(length: int, radius: int) -> Ints:
    """Integer points with an L1 norm of ``radius``, [n, v]."""
    if length == 1:
        return np.array([[first] for first in sorted({-radius, radius})])
    parts = [(first, _shell(length - 1, radius - abs(first)))
             for first in range(-radius, radius + 1)]
    return np.concatenate([np.insert(part, 0, first, axis=1) for first, part in parts])


def best_step(targets: Floats, points: Ints) -> float:
    """Distance between points at which they are nearest a sample of the vectors.

    targets: float32 [M, P * v], rows with a root mean square of 1.
    """
    vectors = targets.reshape(-1, points.shape[1])
    vectors = vectors[::-(-len(vectors) // SAMPLE)]
    errors = []
    for step in STEPS:
        scaled = (points * step).astype(np.float32)
        chosen = scaled[nearest_entries(vectors, scaled)]
        errors.append(float(np.square(chosen - vectors).sum()))
    return float(STEPS[int(np.argmin(errors))])


class Points:
    """Quantizes the vectors of a position to the nearest points; `compiler.quant.feedback`.

    indices: uint8 [P, M].
    """

    def __init__(self, problem: VectorProblem, points: Floats) -> None:
        self.problem, self.points = problem, points
        self.indices = np.zeros((problem.positions, len(problem.targets)), np.uint8)

    def __call__(self, position: int, vectors: Floats, roots: Floats) -> Floats:
        """Points [M, v] for vectors [M, v]."""
        for rows, root in zip(self.problem.rows, roots, strict=True):
            self.indices[position, rows] = nearest_entries(
                vectors[rows] @ root, self.points @ root)
        chosen: Floats = self.points[self.indices[position]]
        return chosen


def pyramid(
    weight: Floats, hessians: Floats, length: int, codes: int, group_columns: int
) -> VectorWeights:
    """Error feedback to the nearest points, coordinate descent, scales by least squares.

    weight: float32 [M, D]; hessians: float32 [B, D, D], one for each M / B rows; length: v;
    codes: c_w.
    """
    problem = vector_problem(weight, hessians, length, group_columns)
    integers = pyramid_points(length, codes)
    step = best_step(problem.targets, integers)
    problem = problem.scaled(np.full(len(weight), step, np.float32))
    entries = integers.astype(np.float32)
    points = Points(problem, entries)
    feed_back(problem, points)
    shape = (problem.positions, problem.groups, codes, length)
    books = np.ascontiguousarray(np.broadcast_to(entries, shape))
    for _ in range(SWEEPS):
        problem = fitted_scales(problem, problem.chosen(books, points.indices))
        descend(problem, books, points.indices, 1)
    problem = fitted_scales(problem, problem.chosen(books, points.indices))
    return problem.weights(books.astype(np.int8), points.indices, problem.scales)
