"""Vector quantization of weights and activations into two-dimensional tables (LUT-LLM)."""

from __future__ import annotations

import numpy as np

from compiler.quant.kmeans import Floats, kmeans
from compiler.quant.quantized import Lut2dLinear, SearchInput
from compiler.quant.scales import OutputScale, dequantization, largest_step
from compiler.quant.scheme import Lut2dScheme
from compiler.quant.vector import positions
from compiler.quant.weights import VectorWeights
from hw.fixed import INT16_MAX, Ints, saturate16
from hw.golden.lookup import table_sums
from hw.golden.search import search

CLIPS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.03, 0.02)
"""Fractions of the table range that are tried."""
CLIP_TOKENS = 128
"""Calibration tokens on which they are compared."""


def search_input(calibration: Floats, x_scale: float, scheme: Lut2dScheme) -> SearchInput:
    """Activation codebooks of one input: k-means on the calibration tokens of each position."""
    vectors = positions(calibration / x_scale, scheme.vector_length)
    centres, _ = kmeans(vectors, scheme.act_codes, seed=scheme.seed)
    centroids = np.clip(np.round(centres), -INT16_MAX, INT16_MAX).astype(np.int16)
    return SearchInput(x_scale=x_scale, centroids=centroids, l2=scheme.metric == "l2")


def fitted_search(
    centroids: Floats, divisors: Floats | None, x_scale: float, scheme: Lut2dScheme
) -> SearchInput:
    """Codebooks to which weights were fitted, in steps of an input that has been divided.

    centroids: float32 [P, c_a, v]; divisors: [D] or None.
    """
    steps = centroids / (x_scale * by_place(divisors, centroids))
    return SearchInput(
        x_scale=x_scale, l2=scheme.metric == "l2",
        centroids=np.clip(np.round(steps), -INT16_MAX, INT16_MAX).astype(np.int16))


def by_place(divisors: Floats | None, centroids: Ints) -> Floats:
    """Divisors [P, 1, v] of the elements of codebooks [P, c_a, v]; 1 where the input ends."""
    count, _, length = centroids.shape
    made = np.ones(count * length, np.float32)
    if divisors is not None:
        made[:len(divisors)] = divisors
    return made.reshape(count, 1, length)


def quantize_tables(
    products: Floats, weights: VectorWeights, bits: int, codes: Ints, y: Floats
) -> tuple[Ints, Floats, Ints]:
    """Tables as integers, ``T = round((T_float - middle) / step + levels / 2)``.

    LUT-LLM takes one step and one zero for the whole tensor. Here each position and group of
    columns has a middle of its own, which costs nothing, as their sum is the zero of the group's
    columns. One outlier position would still make the step so wide that the products of the others
    vanish, so the range is narrowed as long as the output of a group's columns comes closer to
    ``y``. products: float32 [P, c_a, groups, c_w]; codes: uint8 [tokens, P]; y: [tokens, M].
    Returns tables uint8, and by group the step and the zero of a column's sum.
    """
    levels, groups = (1 << bits) - 1, products.shape[2]
    high, low = products.max(axis=(1, 3)), products.min(axis=(1, 3))
    middle, widest = (high + low) / 2, np.maximum((high - low).max(axis=0), 1e-30)
    of_column = np.arange(len(weights.scales)) // weights.group_columns
    best = np.full(groups, np.inf)
    tables: Ints = np.zeros(products.shape, np.uint8)
    steps, zeros = np.ones(groups), np.zeros(groups, np.int64)
    for fraction in CLIPS:
        step = widest * fraction / levels
        made = (products - middle[:, None, :, None]) / step[:, None] + levels / 2
        made = np.clip(np.round(made), 0, levels).astype(np.uint8)
        zero = np.round((middle / step - levels / 2).sum(axis=0)).astype(np.int64)
        sums = table_sums(codes, made, weights.indices, weights.group_columns)
        values = (sums + zero[of_column]) * step[of_column] * weights.scales
        errors = np.bincount(of_column, np.square(values - y).sum(axis=0), groups)
        better = errors < best
        best[better], steps[better], zeros[better] = errors[better], step[better], zero[better]
        tables[:, :, better] = made[:, :, better]
    return tables, steps[of_column].astype(np.float32), zeros[of_column]


def quantize_lut2d(
    name: str, weights: VectorWeights, bias: Floats | None, search_of: SearchInput,
    calibration: Floats, y: Floats, divisors: Floats | None, scheme: Lut2dScheme,
    y_scale: OutputScale, wide: bool = False,
) -> Lut2dLinear:
    """Tables of one layer; calibration: float32 [tokens, D], y: the float output [tokens, M].

    divisors: what the input was divided by behind the weights' fit, [D], or None.
    y_scale, wide: as for `compiler.quant.scales.dequantization`.
    """
    length, x_scale = scheme.vector_length, search_of.x_scale
    activations = search_of.centroids * (x_scale * by_place(divisors, search_of.centroids))
    # [P, c_a, v] x [P, groups, c_w, v] -> [P, c_a, groups, c_w]
    products = np.einsum("pcv,pgwv->pcgw", activations.astype(np.float32),
                         weights.codebooks.astype(np.float32),
                         optimize=True)
    sample = calibration[:CLIP_TOKENS]
    vectors = positions(saturate16(np.round(sample / x_scale)), length).transpose(1, 0, 2)
    codes = search(np.ascontiguousarray(vectors), search_of.centroids, search_of.l2)
    tables, steps, zero = quantize_tables(products, weights, scheme.entry_bits, codes,
                                          y[:CLIP_TOKENS])
    levels = (1 << scheme.entry_bits) - 1
    return Lut2dLinear(
        input=search_of,
        tables=tables,
        indices=weights.indices,
        group_columns=weights.group_columns,
        entry_bits=scheme.entry_bits,
        gather=scheme.gather,
        y_scale=largest_step(y_scale),
        dequantization=dequantization(
            weights.scales * steps / y_scale, zero, bias, y_scale,
            len(tables) * levels + int(np.abs(zero).max()), token_scale=False, name=name,
            wide=wide,
        ),
    )
