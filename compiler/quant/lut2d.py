"""Vector quantization of weights and activations into two-dimensional tables (LUT-LLM)."""

from __future__ import annotations

import numpy as np

from compiler.quant.kmeans import Floats, kmeans
from compiler.quant.quantized import Lut2dLinear, SearchInput
from compiler.quant.scales import OutputScale, dequantization, largest_step
from compiler.quant.scheme import Lut2dScheme
from hw.fixed import INT16_MAX, Ints, saturate16
from hw.golden.lookup import table_sums
from hw.golden.search import search

CLIPS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.03, 0.02)
"""Fractions of the table range that are tried."""
CLIP_TOKENS = 128
"""Calibration tokens on which they are compared."""


def positions(x: Floats, length: int) -> Floats:
    """Cut the last axis into vectors: [n, D] -> [P, n, v], filled up with zeros."""
    padding = -x.shape[1] % length
    padded = np.pad(x, ((0, 0), (0, padding)))
    return np.ascontiguousarray(padded.reshape(len(x), -1, length).transpose(1, 0, 2))


def weight_codebooks(
    weight: Floats, length: int, codes: int, group_columns: int, seed: int
) -> tuple[Floats, Ints]:
    """k-means codebooks of each (position, group of output columns).

    weight: [M, D]. Returns codebooks float32 [P, groups, c_w, v] and indices uint8 [P, M].
    """
    vectors = positions(weight, length)
    columns = vectors.shape[1]
    books, indices = [], []
    for first in range(0, columns, group_columns):
        centres, chosen = kmeans(vectors[:, first:first + group_columns], codes, seed=seed)
        books.append(centres)
        indices.append(chosen)
    return np.stack(books, axis=1), np.concatenate(indices, axis=1)


def search_input(calibration: Floats, x_scale: float, scheme: Lut2dScheme) -> SearchInput:
    """Activation codebooks of one input: k-means on the calibration tokens of each position."""
    vectors = positions(calibration / x_scale, scheme.vector_length)
    centres, _ = kmeans(vectors, scheme.act_codes, seed=scheme.seed)
    centroids = np.clip(np.round(centres), -INT16_MAX, INT16_MAX).astype(np.int16)
    return SearchInput(x_scale=x_scale, centroids=centroids, l2=scheme.metric == "l2")


def quantize_tables(
    products: Floats, indices: Ints, group_columns: int, bits: int, codes: Ints, y: Floats
) -> tuple[Ints, float, int]:
    """Tables as integers over the whole tensor, asymmetric: ``T = round((T_float - low) / step)``.

    LUT-LLM takes the whole range of the tensor. One outlier position then makes the step so wide
    that the products of the others vanish, so the range is narrowed as long as the calibration's
    output comes closer to ``y``. Returns tables uint8, the step and the zero of a column's sum.
    """
    levels = (1 << bits) - 1
    best: tuple[float, Ints, float, int] | None = None
    for fraction in CLIPS:
        low, high = float(products.min()) * fraction, float(products.max()) * fraction
        step = (high - low) / levels or 1.0
        tables = np.clip(np.round((products - low) / step), 0, levels).astype(np.uint8)
        zero = round(low / step * len(tables))
        sums = table_sums(codes, tables, indices, group_columns)
        error = float(np.square((sums + zero) * step - y).sum())
        if best is None or error < best[0]:
            best = error, tables, step, zero
    assert best is not None
    return best[1:]


def quantize_lut2d(
    name: str, weight: Floats, bias: Floats | None, search_of: SearchInput, calibration: Floats,
    scheme: Lut2dScheme, y_scale: OutputScale, wide: bool = False,
) -> Lut2dLinear:
    """Codebooks and tables of one layer; calibration: float32 [tokens, D].

    y_scale, wide: as for `compiler.quant.scales.dequantization`.
    """
    length, x_scale = scheme.vector_length, search_of.x_scale
    books, indices = weight_codebooks(
        weight, length, scheme.weight_codes, scheme.group_columns, scheme.seed
    )
    activations = search_of.centroids.astype(np.float32) * x_scale
    # [P, c_a, v] x [P, groups, c_w, v] -> [P, c_a, groups, c_w]
    products = np.einsum("pcv,pgwv->pcgw", activations, books, optimize=True)
    sample = calibration[:CLIP_TOKENS]
    vectors = positions(saturate16(np.round(sample / x_scale)), length).transpose(1, 0, 2)
    codes = search(np.ascontiguousarray(vectors), search_of.centroids, search_of.l2)
    tables, step, offset = quantize_tables(
        products, indices, scheme.group_columns, scheme.entry_bits, codes, sample @ weight.T
    )
    levels = (1 << scheme.entry_bits) - 1
    zero = np.full(len(weight), offset)
    return Lut2dLinear(
        input=search_of,
        tables=tables,
        indices=indices,
        group_columns=scheme.group_columns,
        entry_bits=scheme.entry_bits,
        gather=scheme.gather,
        y_scale=largest_step(y_scale),
        dequantization=dequantization(
            np.full(len(weight), step / y_scale), zero, bias, y_scale,
            len(tables) * levels + abs(offset), token_scale=False, name=name, wide=wide,
        ),
    )
