"""Quantized linear layers: integers exactly as the golden functions take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw.fixed import Ints


@dataclass(frozen=True, kw_only=True)
class Dequantization:
    """Arguments of `hw.golden.dequant.dequantize` that do not depend on the tokens.

    zero: int32 [M]; multiplier: int16 [M], not negative; bias: int16 [M] in output steps.
    token_scale: the quantizer's peak of the token multiplies the result. bias_shift: bias steps
    are ``2**bias_shift`` output steps (residual outputs only).
    """

    zero: Ints
    multiplier: Ints
    bias: Ints
    shift1: int
    shift2: int
    token_scale: bool
    bias_shift: int = 0


@dataclass(frozen=True, kw_only=True)
class SearchInput:
    """How an input is vector-quantized: ``centroids`` int16 [P, c_a, v] in steps of ``x_scale``.

    ``P * v`` is D filled up to whole vectors; the filled-up inputs have centroid coordinate 0.
    """

    x_scale: float
    centroids: Ints
    l2: bool


@dataclass(frozen=True, kw_only=True)
class PositionSkip:
    """Positions of ``vector_length`` integer inputs that are all 0 are skipped in decode.

    thresholds: int16 [D_padded]; a position without an input above its threshold in magnitude
    counts as 0, in prefill too (`hw.golden.sparsity`). None: only rounding makes inputs 0.
    """

    vector_length: int
    thresholds: Ints | None


def same_skip(one: PositionSkip | None, other: PositionSkip | None) -> bool:
    """Whether two inputs skip the same positions."""
    if one is None or other is None or one is other:
        return one is other
    if one.thresholds is None or other.thresholds is None:
        return one.thresholds is other.thresholds and one.vector_length == other.vector_length
    return one.vector_length == other.vector_length and bool(
        np.array_equal(one.thresholds, other.thresholds))


@dataclass(frozen=True, kw_only=True)
class IntegerInput:
    """How an input becomes int8 or int4: channel exponents and the order of the channels.

    alphas: uint8 [D_padded / chunk]; order: int [D_padded], the input channel at each place
    (-1: none, zero). skip: positions of it are skipped, or None.
    """

    x_scale: float
    alphas: Ints
    order: Ints
    bits: int
    skip: PositionSkip | None = None


@dataclass(frozen=True, kw_only=True)
class Lut2dLinear:
    """Weights of ``lut2d``: ``tables`` uint8 [P, c_a, groups, c_w], ``indices`` uint8 [P, M]."""

    input: SearchInput
    tables: Ints
    indices: Ints
    group_columns: int
    entry_bits: int
    gather: bool
    y_scale: float
    dequantization: Dequantization


@dataclass(frozen=True, kw_only=True)
class RowgenLinear:
    """Weights of ``rowgen``: ``codebooks`` int8 [P, groups, c_w, v], ``indices`` uint8 [P, M].

    Its ``zero`` holds for P positions; filled-up positions of the hardware add their own offsets
    (`hw.golden.lookup.ROW_OFFSET` each), which lowering takes off.
    """

    input: IntegerInput
    codebooks: Ints
    indices: Ints
    group_columns: int
    y_scale: float
    dequantization: Dequantization


@dataclass(frozen=True, kw_only=True)
class SimdLinear:
    """Weights of ``simd`` in the input's channel order.

    weights: int8 [M, D_padded]; scales: int16 [D_padded / group, M]; minima: the same or None;
    group: inputs that share a scale; shift: rounding shift of every group's sum.
    """

    input: IntegerInput
    weights: Ints
    weight_bits: int
    scales: Ints
    minima: Ints | None
    group: int
    shift: int
    y_scale: float
    dequantization: Dequantization


QuantizedLinear = Lut2dLinear | RowgenLinear | SimdLinear
