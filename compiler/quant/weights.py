"""Quantized weights before they meet a circuit: what every weight method makes.

Rows are output columns M, in the order of the hardware; columns are inputs D in the model's order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.quant.kmeans import Floats
from hw.fixed import Ints


@dataclass(frozen=True, kw_only=True)
class GroupedWeights:
    """Integers in groups of inputs: ``code * scale + minimum``.

    codes: int8 [M, D]; scales, minima: float32 [M, D / group], minima or None.
    """

    codes: Ints
    scales: Floats
    minima: Floats | None

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
        return y.reshape(self.codes.shape).astype(np.float32)

    def rows(self, order: Ints) -> GroupedWeights:
        """The rows in another order."""
        return GroupedWeights(codes=self.codes[order], scales=self.scales[order],
                              minima=None if self.minima is None else self.minima[order])


@dataclass(frozen=True, kw_only=True)
class VectorWeights:
    """Vectors of ``v`` consecutive inputs, each the entry of a codebook times its column's scale.

    codebooks: int8 [P, groups, c_w, v], one for each position and ``group_columns`` output
    columns; indices: uint8 [P, M]; scales: float32 [M]; inputs: D, of which the last vector may
    hold fewer.
    """

    codebooks: Ints
    indices: Ints
    scales: Floats
    group_columns: int
    inputs: int

    def dense(self) -> Floats:
        """float32 [M, D]."""
        positions, columns = self.indices.shape
        groups = np.arange(columns) // self.group_columns
        chosen = self.codebooks[np.arange(positions)[:, None], groups, self.indices]
        y = chosen.transpose(1, 0, 2).reshape(columns, -1)[:, :self.inputs]
        return (y * self.scales[:, None]).astype(np.float32)

    def rows(self, order: Ints) -> VectorWeights:
        """The rows in another order, each within its group of columns (ValueError otherwise)."""
        if (order // self.group_columns != np.arange(len(order)) // self.group_columns).any():
            raise ValueError("rows cannot leave their group of columns")
        return VectorWeights(
            codebooks=self.codebooks, indices=np.ascontiguousarray(self.indices[:, order]),
            scales=self.scales[order], group_columns=self.group_columns, inputs=self.inputs)


QuantizedWeights = GroupedWeights | VectorWeights
