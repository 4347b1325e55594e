"""A linear layer to be written in vectors: what every method of vector quantization works on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from compiler.quant.kmeans import Floats
from compiler.quant.weights import VectorWeights
from hw.fixed import Ints

DAMPING = 0.2
"""Part of the median moment that is added to every input's: the calibration text is short.

Of the values from 0.01 to 0.8, this one is within 4% of the least error on unseen text for six of
seven linears of SmolLM2-135M at 12288 tokens, be they small or large. The mean, which GPTQ takes,
follows a few massive inputs.
"""
FILL_MOMENT = 1e-3
"""Moment of the inputs that fill up the last vector, as a part of the median."""


@dataclass(frozen=True, kw_only=True)
class VectorProblem:
    """Rows over their scales, the inputs filled up to whole vectors, and what errors cost.

    The cost is ``sum_m scales[m]**2 (targets[m] - q[m]) H (targets[m] - q[m])^T``.

    targets: float32 [M, P * v]; scales: float32 [M], 0 for a row of zeros; moments: float32
    [B, P * v, P * v], damped, one for each M / B rows, in medians of the diagonal; length: v.
    """

    targets: Floats
    scales: Floats
    moments: Floats
    length: int
    group_columns: int
    inputs: int

    @property
    def positions(self) -> int:
        """P."""
        return int(self.targets.shape[1] // self.length)

    @property
    def groups(self) -> int:
        """Groups of output columns, each with codebooks of its own."""
        return -(-len(self.targets) // self.group_columns)

    @property
    def rows(self) -> list[slice]:
        """The rows of each of the B blocks."""
        count = len(self.targets) // len(self.moments)
        return [slice(at, at + count) for at in range(0, len(self.targets), count)]

    def times_moments(self, x: Floats, columns: slice = slice(None)) -> Floats:
        """``x[m] @ H`` with the moments of each row's block; some columns of it."""
        if len(self.moments) == 1:
            y: Floats = x @ self.moments[0][:, columns]
            return y
        return np.concatenate([x[rows] @ moment[:, columns]
                               for rows, moment in zip(self.rows, self.moments, strict=True)])

    def chosen(self, books: Floats, indices: Ints) -> Floats:
        """What codebooks [P, groups, c_w, v] and indices [P, M] stand for: [M, P * v]."""
        group = np.arange(indices.shape[1]) // self.group_columns
        vectors = books[np.arange(len(books))[:, None], group, indices]
        return np.ascontiguousarray(vectors.transpose(1, 0, 2)).reshape(indices.shape[1], -1)

    def scaled(self, factors: Floats) -> VectorProblem:
        """The same rows over ``factors`` [M] times their scales."""
        return dataclasses.replace(self, targets=self.targets / factors[:, None],
                                   scales=self.scales * factors)

    def weights(self, codebooks: Ints, indices: Ints, scales: Floats) -> VectorWeights:
        """The result; scales [M] take the place of ``self.scales``."""
        return VectorWeights(codebooks=codebooks, indices=indices,
                             scales=scales.astype(np.float32), group_columns=self.group_columns,
                             inputs=self.inputs)


def vector_problem(
    weight: Floats, hessians: Floats, length: int, group_columns: int
) -> VectorProblem:
    """weight: float32 [M, D]; hessians: [B, D, D]. Rows are divided by their root mean square.

    Raises ValueError where the shapes do not fit.
    """
    columns, inputs = weight.shape
    if hessians.shape[1:] != (inputs, inputs) or columns % len(hessians):
        raise ValueError(f"hessians {hessians.shape} do not fit a weight {weight.shape}")
    fill = -inputs % length
    scales = np.sqrt(np.mean(np.square(weight, dtype=np.float64), axis=1))
    targets = weight / np.where(scales > 0, scales, 1)[:, None]
    moments = np.zeros((len(hessians), inputs + fill, inputs + fill), np.float32)
    # One unit for all blocks: what a block weighs against another is part of the cost.
    sizes = np.diagonal(hessians, axis1=1, axis2=2)
    unit = float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 1.0
    places = np.arange(inputs)
    for made, hessian in zip(moments, hessians, strict=True):
        made[:inputs, :inputs] = hessian / unit
        made[places, places] += DAMPING
        made[range(inputs, inputs + fill), range(inputs, inputs + fill)] = FILL_MOMENT
    return VectorProblem(
        targets=np.pad(targets, ((0, 0), (0, fill))).astype(np.float32),
        scales=scales.astype(np.float32), moments=moments, length=length,
        group_columns=group_columns, inputs=inputs)
