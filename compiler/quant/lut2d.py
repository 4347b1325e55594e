"""Vector quantization of weights and activations into two-dimensional tables (LUT-LLM)."""

from __future__ import annotations

import numpy as np

from compiler.quant.kmeans import Floats, kmeans
from compiler.quant.quantized import Lut2dLinear, SearchInput
from compiler.quant.scales import OutputScale, dequantization, largest_step
from compiler.quant.scheme import Lut2dScheme
from compiler.quant.tables import TableFit
from compiler.quant.vector import positions
from compiler.quant.weights import VectorWeights
from hw.fixed import INT16_MAX, Ints, saturate16
from hw.golden.search import search

TOKENS = 512
"""Calibration tokens on which tables are fitted, evenly spread."""


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


def quantize_lut2d(
    name: str, weights: VectorWeights, bias: Floats | None, search_of: SearchInput,
    calibration: Floats, divisors: Floats | None, scheme: Lut2dScheme, y_scale: OutputScale,
    wide: bool = False,
) -> Lut2dLinear:
    """Tables of one layer; calibration: float32 [tokens, D].

    divisors: what the input was divided by behind the weights' fit, [D], or None.
    y_scale, wide: as for `compiler.quant.scales.dequantization`.
    """
    length, x_scale = scheme.vector_length, search_of.x_scale
    activations = search_of.centroids * (x_scale * by_place(divisors, search_of.centroids))
    # [P, c_a, v] x [P, groups, c_w, v] -> [P, c_a, groups, c_w]
    products = np.einsum("pcv,pgwv->pcgw", activations.astype(np.float32),
                         weights.codebooks.astype(np.float32),
                         optimize=True)
    sample = calibration[:: -(-len(calibration) // TOKENS)]
    vectors = positions(saturate16(np.round(sample / x_scale)), length).transpose(1, 0, 2)
    codes = search(np.ascontiguousarray(vectors), search_of.centroids, search_of.l2)
    chosen = activations[np.arange(codes.shape[1]), codes].reshape(len(codes), -1)
    y = chosen[:, :weights.inputs].astype(np.float32) @ weights.dense().T
    fit = TableFit(products, weights, scheme.entry_bits, codes, y)
    tables = fit.best()
    return Lut2dLinear(
        input=search_of,
        tables=tables.entries,
        indices=weights.indices,
        group_columns=weights.group_columns,
        entry_bits=scheme.entry_bits,
        gather=scheme.gather,
        y_scale=largest_step(y_scale),
        dequantization=dequantization(
            weights.scales * tables.steps / y_scale, tables.zeros, bias, y_scale,
            len(products) * fit.levels + int(np.abs(tables.zeros).max()), token_scale=False,
            name=name, wide=wide,
        ),
    )
