"""Quantized weights before they meet a circuit: what every weight method makes.

Rows are output columns M, in the order of the hardware; columns are inputs D in the model's order.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from compiler.quant.kmeans import Floats
from hw.fixed import Ints


@dataclass(frozen=True, kw_only=True)
class GroupedWeights:
    """Integers in groups of inputs: ``code * scale + minimum``.

    codes: int8 [M, D filled up to whole groups]; scales, minima: float32 [M, groups], minima or
    None; inputs: D.
    """

    codes: Ints
    scales: Floats
    minima: Floats | None
    inputs: int

    @property
    def group(self) -> int:
        """Inputs that share a scale."""
        return int(self.codes.shape[1] // self.scales.shape[1])

    def dense(self) -> Floats:
        """float32 [M, D]."""
        shape = (*self.scales.shape, self.group)
        y = self.codes.reshape(shape) * self.scales[..., None]
        if self.minima is not None:
            y = y + self.minima[..., None]
        return y.reshape(self.codes.shape)[:, :self.inputs].astype(np.float32)

    def rows(self, order: Ints) -> GroupedWeights:
        """The rows in another order, zeros where it is -1."""
        there = (order >= 0)[:, None]
        return GroupedWeights(
            codes=np.where(there, self.codes[order], 0).astype(np.int8),
            scales=np.where(there, self.scales[order], 0).astype(np.float32),
            minima=None if self.minima is None
            else np.where(there, self.minima[order], 0).astype(np.float32), inputs=self.inputs)


@dataclass(frozen=True, kw_only=True)
class VectorWeights:
    """Vectors of ``v`` consecutive inputs, each the entry of a codebook times its column's scale.

    codebooks: int8 [P, groups, c_w, v], one for each position and ``group_columns`` output
    columns; indices: uint8 [P, M]; scales: float32 [M]; inputs: D, of which the last vector may
    hold fewer. centroids: float32 [P, c_a, v], the activation codebooks to which the weights were
    fitted, or None.
    """

    codebooks: Ints
    indices: Ints
    scales: Floats
    group_columns: int
    inputs: int
    centroids: Floats | None = None

    def dense(self) -> Floats:
        """float32 [M, D]."""
        positions, columns = self.indices.shape
        groups = np.arange(columns) // self.group_columns
        chosen = self.codebooks[np.arange(positions)[:, None], groups, self.indices]
        y = chosen.transpose(1, 0, 2).reshape(columns, -1)[:, :self.inputs]
        return (y * self.scales[:, None]).astype(np.float32)

    def rows(self, order: Ints) -> VectorWeights:
        """The rows in another order, zeros where it is -1.

        Raises ValueError where a row would leave its group of columns.
        """
        there = order >= 0
        groups = np.arange(len(order)) // self.group_columns
        if (order[there] // self.group_columns != groups[there]).any():
            raise ValueError("rows cannot leave their group of columns")
        return dataclasses.replace(
            self, indices=np.ascontiguousarray(self.indices[:, order]),
            scales=np.where(there, self.scales[order], 0).astype(np.float32))


QuantizedWeights = GroupedWeights | VectorWeights
