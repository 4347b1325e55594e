"""Plain vector quantization of weights: k-means of each position and group of output columns."""

from __future__ import annotations

import numpy as np

from compiler.ir.matmul import CENTROID_SUM_MAX
from compiler.quant.codebooks import CODE_MAX, row_integers
from compiler.quant.kmeans import Floats, kmeans, nearest
from compiler.quant.weights import VectorWeights


def positions(x: Floats, length: int) -> Floats:
    """Cut the last axis into vectors: [n, D] -> [P, n, v], filled up with zeros."""
    padded = np.pad(x, ((0, 0), (0, -x.shape[1] % length)))
    return np.ascontiguousarray(padded.reshape(len(x), -1, length).transpose(1, 0, 2))


def plain_vectors(
    weight: Floats, length: int, codes: int, group_columns: int, seed: int
) -> VectorWeights:
    """k-means (Lloyd 1982), int8 codebooks with one step for a group of columns.

    weight: float32 [M, D]; length: v; codes: c_w. Indices are chosen after rounding. The step keeps
    every product of an entry with int8 inputs within 16 bits.
    """
    vectors = positions(weight, length)
    codebooks, indices, scales = [], [], []
    for first in range(0, len(weight), group_columns):
        part = vectors[:, first:first + group_columns]
        centres, _ = kmeans(part, codes, seed=seed)
        sizes = np.abs(centres)
        # Rounding adds up to half a step for each element of an entry.
        step = max(float(sizes.max()) / CODE_MAX,
                   float(sizes.sum(axis=2).max()) / (CENTROID_SUM_MAX - length / 2)) or 1.0
        rounded = row_integers(centres / step)
        codebooks.append(rounded.astype(np.int8))
        indices.append(nearest(part / step, rounded.astype(np.float32)))
        scales.append(np.full(part.shape[1], step, np.float32))
    return VectorWeights(
        codebooks=np.stack(codebooks, axis=1), indices=np.concatenate(indices, axis=1),
        scales=np.concatenate(scales), group_columns=group_columns, inputs=weight.shape[1])
