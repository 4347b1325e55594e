"""Matrix operations of the intermediate representation, one for each way to compute them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from compiler.errors import VerifyError
from compiler.ir.ops import Cost, Tensor, present, require
from hw.config import EXACT_ROW_BITS, index_width
from hw.fixed import Ints, round_shift
from hw.golden.lookup import ROW_OFFSET, row_offset, rowgen_sums, table_sums
from hw.golden.multiplier import group_sums

INT32_MAX, INT8_MAX = 2**31 - 1, 127
CENTROID_SUM_MAX = (ROW_OFFSET - 1) // INT8_MAX
"""Magnitudes of a weight centroid may add up to this: its product with int8 inputs has 16 bits."""


def check_sums(name: str, bound: int) -> None:
    """Raise VerifyError when sums can leave the widest accumulator, of 32 bits."""
    if bound > INT32_MAX:
        raise VerifyError(f"{name}: sums reach {bound}, more than the 32-bit accumulator holds; "
                          "use more rounding (shift) or fewer inputs")


@dataclass(frozen=True, slots=True, kw_only=True)
class LutMatmul:
    """``sums[t, m] = sum_p tables[p, codes[t, p], m // G, indices[p, m]]``."""

    name: str
    codes: Tensor
    tables: Tensor
    indices: Tensor
    group_columns: int
    entry_bits: int
    gather: bool
    out: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.codes, self.tables, self.indices)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.out,)

    def verify(self) -> None:
        """Raise VerifyError unless the shapes agree and sums fit."""
        tokens, positions = self.codes.shape
        columns = self.indices.shape[1]
        require(self.name, self.indices, (positions, columns), "uint8")
        require(self.name, self.out, (tokens, columns), "int32")
        groups = -(-columns // self.group_columns)
        _, codes, _, entries = self.tables.shape
        require(self.name, self.tables, (positions, codes, groups, entries), "uint8")
        check_sums(self.name, positions * ((1 << self.entry_bits) - 1))

    def cost(self) -> Cost:
        """One lookup for each token, position and column."""
        tokens, columns = self.out.shape
        positions, _, _, entries = self.tables.shape
        table_bits = int(np.prod(self.tables.shape)) * self.entry_bits
        index_bits = positions * columns * index_width(entries)
        return Cost(lookups=tokens * positions * columns,
                    constant_bytes=(table_bits + index_bits) // 8)

    def evaluate(self, values: Sequence[Ints]) -> tuple[Ints, ...]:
        """Sums of table entries."""
        codes, tables, indices = values
        return (table_sums(codes, tables, indices, self.group_columns),)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowgenMatmul:
    """Sums of rows ``codebooks[p, m // G] @ x[t, p]`` made unsigned, chosen by ``indices``.

    row_bits, row_shift: rounding of the rows (`hw.golden.lookup.rows`).
    """

    name: str
    x: Tensor
    codebooks: Tensor
    indices: Tensor
    group_columns: int
    row_bits: int
    row_shift: int
    out: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.x, self.codebooks, self.indices)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.out,)

    def verify(self) -> None:
        """Raise VerifyError unless the shapes agree and sums fit."""
        tokens, inputs = self.x.shape
        positions, columns = self.indices.shape
        require(self.name, self.out, (tokens, columns), "int32")
        groups = -(-columns // self.group_columns)
        _, _, entries, length = self.codebooks.shape
        require(self.name, self.codebooks, (positions, groups, entries, length), "int8")
        if inputs < positions * length:
            raise VerifyError(f"{self.name}: {inputs} inputs for {positions} positions of {length}")
        if not 0 <= self.row_shift <= EXACT_ROW_BITS - self.row_bits:
            raise VerifyError(f"{self.name}: rows of {self.row_bits} bits are not shifted by "
                              f"{self.row_shift}")
        check_sums(self.name, positions * (2 * row_offset(self.row_bits) - 1))

    def cost(self) -> Cost:
        """One lookup for each token, position and column; the products of the rows."""
        tokens, columns = self.out.shape
        positions, _, entries, _ = self.codebooks.shape
        book = int(np.prod(self.codebooks.shape))
        index_bits = positions * columns * index_width(entries)
        return Cost(lookups=tokens * positions * columns, products=tokens * book,
                    constant_bytes=book + index_bits // 8)

    def evaluate(self, values: Sequence[Ints]) -> tuple[Ints, ...]:
        """Sums of computed rows."""
        x, codebooks, indices = values
        positions, length = len(codebooks), codebooks.shape[3]
        vectors = np.ascontiguousarray(x[:, :positions * length])
        shaped = vectors.reshape(len(x), positions, length)
        return (rowgen_sums(shaped, codebooks, indices, self.group_columns, self.row_bits,
                            self.row_shift),)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimdMatmul:
    """Grouped dot products with power-of-two channel factors; ``bound``: largest sum proved."""

    name: str
    x: Tensor
    alphas: Tensor
    weights: Tensor
    scales: Tensor
    minima: Tensor | None
    group: int
    shift: int
    weight_bits: int
    act_bits: int
    bound: int
    out: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return present(self.x, self.alphas, self.weights, self.scales, self.minima)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.out,)

    def verify(self) -> None:
        """Raise VerifyError unless the shapes agree and sums fit."""
        tokens, inputs = self.x.shape
        columns = self.weights.shape[0]
        require(self.name, self.weights, (columns, inputs), "int8")
        require(self.name, self.out, (tokens, columns), "int64")
        require(self.name, self.scales, (inputs // self.group, columns), "int16")
        if self.minima is not None:
            require(self.name, self.minima, self.scales.shape, "int16")
        if inputs % self.group or inputs % self.alphas.shape[0]:
            raise VerifyError(f"{self.name}: {inputs} inputs are not whole groups of {self.group}")
        check_sums(self.name, self.bound)

    def cost(self) -> Cost:
        """One product for each token, input and column."""
        tokens, columns = self.out.shape
        inputs = self.weights.shape[1]
        per_group = len(present(self.scales, self.minima)) * 16
        bits = columns * (inputs * self.weight_bits + inputs // self.group * per_group)
        return Cost(products=tokens * inputs * columns, constant_bytes=bits // 8)

    def evaluate(self, values: Sequence[Ints]) -> tuple[Ints, ...]:
        """Scaled sums of groups."""
        x, alphas, weights, scales = values[:4]
        minima = values[4] if self.minima is not None else np.zeros_like(scales)
        return (group_sums(x, weights, alphas, scales, minima, self.group, self.shift),)


@njit(cache=True)
def _largest_sums(
    weights: Ints, factors: Ints, scales: Ints, minima: Ints, group: int, shift: int
) -> Ints:
    result = np.zeros(weights.shape[0], np.int64)
    for m in range(weights.shape[0]):
        total, silent = 0, True
        for g in range(scales.shape[1]):
            scale, minimum, part = scales[m, g], minima[m, g], 0
            for i in range(g * group, (g + 1) * group):
                part += abs(weights[m, i] * scale + minimum) * factors[i]
            total += (part >> shift) + 1
            silent = silent and part == 0
        result[m] = 0 if silent else total
    return result


def simd_bound(
    weights: Ints, alphas: Ints, scales: Ints, minima: Ints | None, group: int, shift: int,
    act_bits: int,
) -> int:
    """Largest magnitude that a sum, or a part of it, of `group_sums` can reach."""
    return int(simd_bounds(weights, alphas, scales, minima, group, shift, act_bits).max(initial=0))


def simd_bounds(
    weights: Ints, alphas: Ints, scales: Ints, minima: Ints | None, group: int, shift: int,
    act_bits: int,
) -> Ints:
    """Largest magnitude that each column's sum of `group_sums`, or a part of it, can reach.

    Every group contributes at most ``limit * sum(2**alpha * |weight * scale + minimum|)``, rounded.
    Returns int64 [M], or [1] of columns that are one in memory.
    """
    limit = (1 << (act_bits - 1)) - 1
    if weights.strides[0] == scales.strides[1] == 0 and minima is None:
        # As `compiler.structure` makes them.
        weights, scales = weights[:1], scales[:, :1]
    chunk = weights.shape[1] // len(alphas)
    factors = np.int64(limit) << np.repeat(alphas.astype(np.int64), chunk)
    offsets = np.zeros_like(scales) if minima is None else minima
    bounds: Ints = _largest_sums(
        np.ascontiguousarray(weights), factors, np.ascontiguousarray(scales.T, np.int64),
        np.ascontiguousarray(offsets.T, np.int64), group, shift)
    return bounds


@njit(cache=True)
def _row_sums(sizes: Ints, indices: Ints, group_columns: int) -> Ints:
    result = np.zeros(indices.shape[1], np.int64)
    for p in range(indices.shape[0]):
        for m in range(indices.shape[1]):
            result[m] += sizes[p, m // group_columns, indices[p, m]]
    return result


def rowgen_bounds(
    codebooks: Ints, indices: Ints, group_columns: int, row_bits: int = EXACT_ROW_BITS,
    row_shift: int = 0,
) -> Ints:
    """Largest magnitude that each column's sum of computed rows can reach, without their offsets.

    Every position contributes at most 127 times the magnitudes of its centroid, rounded and
    saturated as rows are (`hw.golden.lookup.rows`). codebooks: int8 [P, groups, c_w, v]; indices:
    uint8 [P, M]. Returns int64 [M].
    """
    exact = np.abs(codebooks.astype(np.int64)).sum(axis=3) * INT8_MAX
    sizes = np.minimum(round_shift(exact, row_shift), row_offset(row_bits))
    bounds: Ints = _row_sums(sizes, np.ascontiguousarray(indices), group_columns)
    return bounds
