"""Operations of the intermediate representation: the engines' operations on whole tensors.

An operation names its tensors; a graph holds the constants. ``evaluate`` is the definition of an
operation, by the golden functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from compiler.errors import VerifyError
from compiler.image.layout import pad_axis
from hw.fixed import Ints
from hw.golden.activation import SEGMENTS, activate
from hw.golden.dequant import dequantize
from hw.golden.quantize import quantize
from hw.golden.search import search
from hw.golden.sparsity import drop_positions

BIAS_SHIFT_MAX = 16
SHIFT_MAX = 63


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value: name, shape and numpy type, no data."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "int16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Work an operation implies, whatever hardware runs it."""

    distances: int = 0
    lookups: int = 0
    products: int = 0
    constant_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            distances=self.distances + other.distances,
            lookups=self.lookups + other.lookups,
            products=self.products + other.products,
            constant_bytes=self.constant_bytes + other.constant_bytes,
        )


class Op(Protocol):
    """One operation: immutable, compared by value."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[Tensor, ...]: ...
    @property
    def outputs(self) -> tuple[Tensor, ...]: ...
    def verify(self) -> None: ...
    def cost(self) -> Cost: ...
    def evaluate(self, values: Sequence[Ints]) -> tuple[Ints, ...]: ...


def require(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: str) -> None:
    """Raise VerifyError unless a tensor has this shape and type."""
    if tensor.shape != shape or tensor.dtype != dtype:
        raise VerifyError(f"{name}: {tensor.name} is {tensor.dtype} {list(tensor.shape)}, "
                          f"must be {dtype} {list(shape)}")


def present(*tensors: Tensor | None) -> tuple[Tensor, ...]:
    """Tensors that are there."""
    return tuple(tensor for tensor in tensors if tensor is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Activations from memory; ``order`` gives the channel at each place (-1: zero)."""

    name: str
    source: Tensor
    order: Tensor
    out: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.source, self.order)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.out,)

    def verify(self) -> None:
        """Raise VerifyError unless the shapes agree."""
        require(self.name, self.out, (self.source.shape[0], self.order.shape[0]), "int16")

    def cost(self) -> Cost:
        """No arithmetic."""
        return Cost()

    def evaluate(self, values: Sequence[Ints]) -> tuple[Ints, ...]:
        """Reorder the channels."""
        x, order = values
        return (np.where(order >= 0, x[:, np.maximum(order, 0)], 0).astype(np.int16),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Nearest activation centroid of every position."""

    name: str
    source: Tensor
    centroids: Tensor
    l2: bool
    out: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.source, self.centroids)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.out,)

    def verify(self) -> None:
        """Raise VerifyError unless the shapes agree."""
        positions, _, length = self.centroids.shape
        require(self.name, self.out, (self.source.shape[0], positions), "uint8")
        if self.source.shape[1] > positions * length:
            raise VerifyError(f"{self.name}: {self.source.shape[1]} inputs for {positions} "
                              f"positions of {length}")

    def cost(self) -> Cost:
        """One distance for each token, position and centroid."""
        positions, codes, length = self.centroids.shape
        return Cost(distances=self.out.shape[0] * positions * codes,
                    constant_bytes=2 * positions * codes * length)

    def evaluate(self, values: Sequence[Ints]) -> tuple[Ints, ...]:
        """Search with the inputs filled up with zeros."""
        x, centroids = values
        positions, _, length = centroids.shape
        filled = pad_axis(x, 1, positions * length).reshape(len(x), positions, length)
        return (search(filled, centroids, self.l2),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize:
    """Integer activations of ``bits`` bits and the peak of each token.

    thresholds: positions of ``vector_length`` inputs without one above them become 0. lists: a
    single token's positions that are not all 0 are listed, for the row generator to follow.
    """

    name: str
    source: Tensor
    alphas: Tensor
    bits: int
    out: Tensor
    peaks: Tensor
    thresholds: Tensor | None = None
    vector_length: int = 1
    lists: bool = False

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return present(self.source, self.alphas, self.thresholds)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.out, self.peaks)

    def verify(self) -> None:
        """Raise VerifyError unless the shapes agree."""
        tokens, inputs = self.source.shape
        require(self.name, self.peaks, (tokens,), "int64")
        if self.out.shape[0] != tokens or self.out.shape[1] < inputs:
            raise VerifyError(f"{self.name}: {list(self.out.shape)} from {list(self.source.shape)}")
        if self.out.shape[1] % self.alphas.shape[0]:
            raise VerifyError(f"{self.name}: {self.out.shape[1]} inputs for "
                              f"{self.alphas.shape[0]} chunks")
        if self.thresholds is not None:
            require(self.name, self.thresholds, (self.out.shape[1],), "int16")

    def cost(self) -> Cost:
        """One product for each input."""
        return Cost(products=self.out.shape[0] * self.out.shape[1],
                    constant_bytes=(self.alphas.shape[0] + 1) // 2)

    def evaluate(self, values: Sequence[Ints]) -> tuple[Ints, ...]:
        """Quantize with the inputs filled up with zeros."""
        x = pad_axis(values[0], 1, self.out.shape[1])
        q, peaks = quantize(x, values[1], self.bits)
        if self.thresholds is not None:
            q = drop_positions(q, x, values[2], self.vector_length)
        return q, peaks


@dataclass(frozen=True, slots=True, kw_only=True)
class Dequantize:
    """Sums to int16 activations; the bias is in ``2**bias_shift`` output steps."""

    name: str
    sums: Tensor
    zero: Tensor
    multiplier: Tensor
    bias: Tensor
    peaks: Tensor | None
    shift1: int
    shift2: int
    out: Tensor
    bias_shift: int = 0

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return present(self.sums, self.zero, self.multiplier, self.bias, self.peaks)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.out,)

    def verify(self) -> None:
        """Raise VerifyError unless the shapes agree."""
        tokens, columns = self.sums.shape
        require(self.name, self.out, (tokens, columns), "int16")
        require(self.name, self.zero, (columns,), "int32")
        require(self.name, self.multiplier, (columns,), "int16")
        require(self.name, self.bias, (columns,), "int16")
        if self.peaks is not None:
            require(self.name, self.peaks, (tokens,), "int64")
        if not (0 <= self.shift1 <= SHIFT_MAX and 0 <= self.shift2 <= SHIFT_MAX):
            raise VerifyError(f"{self.name}: shifts {self.shift1}, {self.shift2} outside "
                              f"0..{SHIFT_MAX}")
        if not 0 <= self.bias_shift <= BIAS_SHIFT_MAX:
            raise VerifyError(f"{self.name}: bias shift {self.bias_shift} outside "
                              f"0..{BIAS_SHIFT_MAX}")

    def cost(self) -> Cost:
        """A product for each output, two with token scales."""
        tokens, columns = self.out.shape
        return Cost(products=tokens * columns * len(present(self.multiplier, self.peaks)),
                    constant_bytes=8 * columns)

    def evaluate(self, values: Sequence[Ints]) -> tuple[Ints, ...]:
        """Dequantize."""
        peaks = values[4] if self.peaks is not None else None
        sums, zero, multiplier, bias = values[:4]
        return (dequantize(sums, zero, multiplier, bias, self.shift1, self.shift2, peaks,
                           self.bias_shift),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activate:
    """Function table, then the product with ``factor`` where there is one."""

    name: str
    source: Tensor
    base: Tensor
    delta: Tensor
    factor: Tensor | None
    shift: int
    out: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return present(self.source, self.base, self.delta, self.factor)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.out,)

    def verify(self) -> None:
        """Raise VerifyError unless the shapes agree."""
        require(self.name, self.out, self.source.shape, "int16")
        require(self.name, self.base, (SEGMENTS,), "int16")
        require(self.name, self.delta, (SEGMENTS,), "int16")
        if self.factor is not None:
            require(self.name, self.factor, self.source.shape, "int16")
        if not 0 <= self.shift <= SHIFT_MAX:
            raise VerifyError(f"{self.name}: shift {self.shift} outside 0..{SHIFT_MAX}")

    def cost(self) -> Cost:
        """A product for the table, one for the factor."""
        count = int(np.prod(self.out.shape))
        return Cost(lookups=count, products=count * len(present(self.source, self.factor)),
                    constant_bytes=4 * SEGMENTS)

    def evaluate(self, values: Sequence[Ints]) -> tuple[Ints, ...]:
        """Activate."""
        factor = values[3] if self.factor is not None else None
        return (activate(values[0], values[1], values[2], factor, self.shift),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Activations to memory."""

    name: str
    source: Tensor
    out: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.source,)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.out,)

    def verify(self) -> None:
        """Raise VerifyError unless the shapes agree."""
        require(self.name, self.out, self.source.shape, "int16")

    def cost(self) -> Cost:
        """No arithmetic."""
        return Cost()

    def evaluate(self, values: Sequence[Ints]) -> tuple[Ints, ...]:
        """Copy."""
        return (values[0],)
