"""Bits that the weights of a quantized decoder take."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.model import Architecture
from compiler.quant.quantized import Lut2dLinear, QuantizedLinear, SimdLinear
from hw.config import index_width

SCALE_BITS, CODE_BITS = 16, 8


def linear_bits(linear: QuantizedLinear) -> int:
    """Bits of a linear's weights, indices, codebooks or tables, scales and minima.

    Without the dequantizer's multipliers, of which every scheme has one for an output column.
    Indices take what the narrowest hardware that has as many entries stores of them.
    """
    if isinstance(linear, SimdLinear):
        scales = linear.scales.size * (1 if linear.minima is None else 2)
        return int(linear.weights.size * linear.weight_bits + scales * SCALE_BITS)
    if isinstance(linear, Lut2dLinear):
        entries = linear.tables.shape[3]
        shared = linear.tables.size * linear.entry_bits
    else:
        entries = linear.codebooks.shape[2]
        shared = linear.codebooks.size * CODE_BITS
    return int(linear.indices.size * index_width(entries) + shared)


def layer_bits(
    architecture: Architecture, linears: Mapping[str, QuantizedLinear]
) -> tuple[int, int]:
    """Bits of a layer's linears, and weights that the model has for them.

    Rows and inputs that only fill up words count as bits, not as weights.
    """
    weights = sum(outputs * inputs for outputs, inputs in map(architecture.linear_shape, linears))
    return sum(linear_bits(linear) for linear in linears.values()), weights
