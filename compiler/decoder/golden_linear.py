"""Linears of the golden decoder, prepared once and run for any number of tokens."""

from __future__ import annotations

import numpy as np

from compiler.decoder.quantized import FloatLinear
from compiler.decoder.token_rule import LOW_BITS
from compiler.integer_codes import filled, integer_codes
from compiler.quant.quantized import Dequantization, Lut2dLinear, QuantizedLinear, RowgenLinear
from compiler.rounded_rows import RoundedRowgenLinear, computed_sums
from hw.fixed import Ints, saturate, saturate16
from hw.golden.dequant import INT32_MAX, dequantize, dequantize32
from hw.golden.lookup import ROW_OFFSET, table_sums
from hw.golden.multiplier import group_sums
from hw.golden.search import search
from hw.golden.sparsity import drop_positions


class PreparedLinear:
    """One quantized linear.

    bytes: what its weights take in memory.
    """

    def __init__(self, linear: QuantizedLinear) -> None:
        self.linear = linear
        if isinstance(linear, Lut2dLinear):
            self.bytes = linear.tables.nbytes + linear.indices.nbytes
        elif isinstance(linear, RoundedRowgenLinear):
            self.bytes = linear.codebooks.nbytes + linear.indices.nbytes
        elif isinstance(linear, RowgenLinear):
            self.weights = dense_weights(linear)
            self.bytes = self.weights.nbytes
        else:
            self.bytes = linear.weights.nbytes + 2 * linear.scales.nbytes
            self.minima = (np.zeros_like(linear.scales) if linear.minima is None
                           else linear.minima)

    def __call__(self, x: Ints, wide: bool, low: Dequantization | None = None) -> Ints:
        """int16 [T, M] of int16 [T, D] in the linear's channel order; int32 if ``wide``.

        low: the dequantization behind int4 activations, which they are then.
        """
        sums, scales = self.sums(x, None if low is None else LOW_BITS)
        steps = self.linear.dequantization if low is None else low
        run = dequantize32 if wide else dequantize
        return run(sums, steps.zero, steps.multiplier, steps.bias, steps.shift1, steps.shift2,
                   scales if steps.token_scale else None, steps.bias_shift)

    def sums(self, x: Ints, bits: int | None = None) -> tuple[Ints, Ints | None]:
        """Accumulator [T, M] and the tokens' scales; bits: of integer inputs, or the linear's."""
        linear = self.linear
        if isinstance(linear, Lut2dLinear):
            positions, _, length = linear.input.centroids.shape
            vectors = filled(x, positions * length).reshape(len(x), positions, length)
            codes = search(vectors, linear.input.centroids, linear.input.l2)
            return table_sums(codes, linear.tables, linear.indices, linear.group_columns), None
        q, peaks = integer_codes(linear.input, x, bits)
        if isinstance(linear, RoundedRowgenLinear):
            return computed_sums(linear, q), peaks
        if isinstance(linear, RowgenLinear):
            inputs, columns = self.weights.shape[1], len(self.weights)
            products = group_sums(
                np.ascontiguousarray(q[:, :inputs]), self.weights, np.zeros(1, np.uint8),
                np.ones((1, columns), np.int16), np.zeros((1, columns), np.int16), inputs, 0)
            return products + len(linear.codebooks) * ROW_OFFSET, peaks
        return group_sums(q, linear.weights, linear.input.alphas, linear.scales, self.minima,
                          linear.group, linear.shift), peaks


def dense_weights(linear: RowgenLinear) -> Ints:
    """int8 [M, P * v]: the centroid that each index chooses.

    Their products with int8 inputs are `hw.golden.lookup.rowgen_sums` of exact rows, less every
    row's offset.
    """
    positions, columns = linear.indices.shape
    groups = np.arange(columns) // linear.group_columns
    chosen = linear.codebooks[np.arange(positions)[:, None], groups, linear.indices]
    return np.ascontiguousarray(chosen.transpose(1, 0, 2).reshape(columns, -1))


def exact_linear(linear: FloatLinear, x: Ints, wide: bool) -> Ints:
    """The float linear, rounded to output steps."""
    if linear.skip is not None and linear.skip.thresholds is not None:
        full = filled(x, len(linear.skip.thresholds))
        x = drop_positions(full, full, linear.skip.thresholds,
                           linear.skip.vector_length)[:, :x.shape[1]]
    y = (x.astype(np.float32) * np.float32(linear.x_scale)) @ linear.weight.T + linear.bias
    steps = np.round(y.astype(np.float64) / linear.y_scale).astype(np.int64)
    return saturate(steps, INT32_MAX).astype(np.int32) if wide else saturate16(steps)
