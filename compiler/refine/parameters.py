"""Quantized weights as torch parameters: codes stay, codebooks and scales are trained.

int8 entries of codebooks are rounded in every forward pass and their gradient passes through the
rounding unchanged (straight-through estimator; Bengio et al. 2013, "Estimating or Propagating
Gradients Through Stochastic Neurons for Conditional Computation").
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit, prange

from compiler.ir.matmul import CENTROID_SUM_MAX
from compiler.quant.kmeans import Floats
from compiler.quant.weights import GroupedWeights, QuantizedWeights, VectorWeights
from hw.fixed import Ints

CODE_MAX = 127


@njit(cache=True, parallel=True, fastmath=True)
def _nearest(vectors: Floats, entries: Floats, codes: int, columns: int, index: Ints) -> None:
    positions, length, count = vectors.shape
    for p in prange(positions):
        for first in range(0, count, columns):
            last, start = min(first + columns, count), first // columns * codes
            best = np.full(last - first, np.inf, np.float32)
            chosen = np.zeros(last - first, np.int32)
            distance = np.empty(last - first, np.float32)
            for entry in range(start, start + codes):
                distance[:] = 0
                # One pass for each element and one for the choice: all of them become vector code.
                for i in range(length):
                    row, value = vectors[p, i, first:last], entries[p, i, entry]
                    for m in range(len(row)):
                        distance[m] += (row[m] - value) * (row[m] - value)
                for m in range(last - first):
                    closer = distance[m] < best[m]
                    chosen[m] = np.int32(entry) if closer else chosen[m]
                    best[m] = distance[m] if closer else best[m]
            for m in range(last - first):
                index[p, first + m] = chosen[m]


class _Lookup(torch.autograd.Function):
    """``x [T, P v] @ entries[index]``: entries float32 [P, v, n], index int64 [P, M].

    goal: float32 [P, v, M] or None: takes the gradient of the chosen entries times ``unit`` [M].
    """

    @staticmethod
    def forward(context: Any, x: torch.Tensor, entries: torch.Tensor, index: torch.Tensor,
                goal: torch.Tensor | None, unit: torch.Tensor) -> torch.Tensor:
        chosen = entries.gather(2, index[:, None].expand(-1, entries.shape[1], -1))
        weight = chosen.flatten(0, 1).to(x.dtype)
        context.save_for_backward(x, weight, index, unit)
        context.entries = entries.shape
        return x @ weight

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, index, unit = context.saved_tensors
        to_x = gradient @ weight.T if context.needs_input_grad[0] else None
        of_weight = (x.T @ gradient).float().view(*context.entries[:2], -1)
        to_entries = torch.zeros(context.entries, device=x.device)
        to_entries.scatter_add_(2, index[:, None].expand_as(of_weight), of_weight)
        to_goal = of_weight * unit if context.needs_input_grad[3] else None
        return to_x, to_entries, None, to_goal, None


class _Grouped(torch.autograd.Function):
    """``x [T, D] @ (codes * scales + minima).T``: codes int8 [M, groups, n], scales [M, groups]."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor,
                minima: torch.Tensor) -> torch.Tensor:
        weight = (codes * scales[..., None] + minima[..., None]).flatten(1).to(x.dtype)
        context.save_for_backward(x, weight, codes)
        return x @ weight.T

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, codes = context.saved_tensors
        to_x = gradient @ weight if context.needs_input_grad[0] else None
        of_weight = (gradient.T @ x).float().view(codes.shape)
        return to_x, None, (of_weight * codes).sum(2), of_weight.sum(2)


def _tensor(values: Any, device: torch.device) -> torch.Tensor:
    return torch.tensor(np.ascontiguousarray(values), device=device)


class VectorParameters(torch.nn.Module):
    """Codebooks and column scales of `VectorWeights`.

    entries: float32 [P, v, groups c_w], int8 values over the root mean square of their group of
    columns; factors: float32 [M], of the scales. goal: float32 [P, v, M] in the unit of entries,
    with ``moving`` indices: starts as the chosen entries, follows their gradient, and has its
    nearest entry chosen by `choose` (the V step of PV-tuning with a straight-through estimator;
    Malinovskii et al. 2024, "PV-Tuning: Beyond Straight-Through Estimation").
    """

    def __init__(self, weights: VectorWeights, device: torch.device, moving: bool) -> None:
        super().__init__()
        self.weights = weights
        books = weights.codebooks.astype(np.float32)
        sizes = np.sqrt(np.square(books).mean(axis=(0, 2, 3)))
        self.sizes = _tensor(np.repeat(np.where(sizes > 0, sizes, 1), books.shape[2]), device)
        self.entries = torch.nn.Parameter(
            _tensor(books.transpose(0, 3, 1, 2).reshape(len(books), books.shape[3], -1), device)
            / self.sizes)
        self.factors = torch.nn.Parameter(torch.ones(weights.indices.shape[1], device=device))
        self.scales = _tensor(weights.scales, device)
        groups = np.arange(weights.indices.shape[1]) // weights.group_columns
        self.index = _tensor(weights.indices + groups * books.shape[2], device)
        self.unit = self.sizes[self.index[0]]
        self.goal = None
        if moving:
            with torch.no_grad():
                index = self.index[:, None].expand(-1, books.shape[3], -1)
                self.goal = torch.nn.Parameter(self.entries.gather(2, index))

    def rounded(self) -> torch.Tensor:
        """int8 entries as the circuit has them, in float32; row entries fit 16 bits."""
        exact = self.entries * self.sizes
        length = exact.shape[1]
        limited = exact.clamp(-CODE_MAX, CODE_MAX)
        totals = limited.abs().sum(1, keepdim=True)
        room = (CENTROID_SUM_MAX - length / 2) / totals.clamp(min=1)
        limited = (limited * room.clamp(max=1)).round()
        return exact + (limited - exact).detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [T, M] of x [T, D]."""
        x = torch.nn.functional.pad(x, (0, len(self.entries) * self.entries.shape[1] - x.shape[1]))
        y: torch.Tensor = _Lookup.apply(x, self.rounded(), self.index, self.goal, self.unit)
        return y.float() * (self.scales * self.factors)

    def choose(self) -> None:
        """Take the entry nearest to each vector's goal."""
        if self.goal is None:
            return
        index = np.empty(self.index.shape, np.int64)
        entries = (self.rounded() / self.sizes).detach()
        _nearest(self.goal.detach().cpu().numpy(), entries.cpu().numpy(),
                 self.weights.codebooks.shape[2], self.weights.group_columns, index)
        self.index = torch.from_numpy(index).to(self.index.device)

    def made(self) -> VectorWeights:
        """The weights as they are now."""
        before = self.weights
        positions, groups, codes, length = before.codebooks.shape
        books = self.rounded().detach().cpu().numpy().reshape(positions, length, groups, codes)
        index: Ints = self.index.cpu().numpy() % codes
        return VectorWeights(
            codebooks=np.ascontiguousarray(books.transpose(0, 2, 3, 1)).astype(np.int8),
            indices=index.astype(np.uint8),
            scales=(self.scales * self.factors).detach().cpu().numpy(),
            group_columns=before.group_columns, inputs=before.inputs)


class GroupedParameters(torch.nn.Module):
    """Scales and minima of `GroupedWeights`.

    factors: float32 [M, groups], of the scales; moves: float32 [M, groups], what is added to the
    minima, in scales.
    """

    def __init__(self, weights: GroupedWeights, device: torch.device) -> None:
        super().__init__()
        self.weights = weights
        self.scales = _tensor(weights.scales, device)
        self.codes = _tensor(weights.codes.reshape(*weights.scales.shape, -1), device)
        self.factors = torch.nn.Parameter(torch.ones_like(self.scales))
        self.minima = torch.zeros_like(self.scales)
        if weights.minima is not None:
            self.minima = _tensor(weights.minima, device)
            self.moves = torch.nn.Parameter(torch.zeros_like(self.scales))

    def _constants(self) -> tuple[torch.Tensor, torch.Tensor]:
        minima = self.minima
        if self.weights.minima is not None:
            minima = minima + self.scales * self.moves
        return self.scales * self.factors, minima

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [T, M] of x [T, D]."""
        x = torch.nn.functional.pad(x, (0, self.weights.codes.shape[1] - x.shape[1]))
        y: torch.Tensor = _Grouped.apply(x, self.codes, *self._constants())
        return y.float()

    def made(self) -> GroupedWeights:
        """The weights as they are now."""
        scales, minima = (part.detach().cpu().numpy() for part in self._constants())
        return GroupedWeights(
            codes=self.weights.codes, scales=scales, inputs=self.weights.inputs,
            minima=None if self.weights.minima is None else minima)


def parameters_of(
    weights: QuantizedWeights, device: torch.device, moving: bool
) -> VectorParameters | GroupedParameters:
    """The trained form of quantized weights; moving: of vectors' indices."""
    if isinstance(weights, VectorWeights):
        return VectorParameters(weights, device, moving)
    return GroupedParameters(weights, device)
