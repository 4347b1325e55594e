"""Vector-quantized weights whose table rows the hardware computes from int8 activations."""

from __future__ import annotations

import numpy as np

from compiler.ir.matmul import CENTROID_SUM_MAX
from compiler.quant.kmeans import Floats, nearest
from compiler.quant.lut2d import positions, weight_codebooks
from compiler.quant.quantized import IntegerInput, RowgenLinear
from compiler.quant.scales import OutputScale, dequantization, largest_step
from compiler.quant.scheme import RowgenScheme
from hw.config import ALPHA_MAX
from hw.golden.lookup import ROW_OFFSET

CODE_MAX = 127


def quantize_rowgen(
    name: str, weight: Floats, bias: Floats | None, integer: IntegerInput, scheme: RowgenScheme,
    y_scale: OutputScale, wide: bool = False,
) -> RowgenLinear:
    """int8 codebooks with one scale for each group of columns; indices chosen after rounding.

    The scale keeps every product of a centroid with int8 inputs within 16 bits.
    y_scale, wide: as for `compiler.quant.scales.dequantization`.
    """
    length, columns = scheme.vector_length, scheme.group_columns
    books, _ = weight_codebooks(weight, length, scheme.weight_codes, columns, scheme.seed)
    sizes = np.abs(books)
    # Rounding adds up to half a step for each element of a centroid.
    scales = np.maximum(sizes.max(axis=(0, 2, 3)) / CODE_MAX,
                        sizes.sum(axis=3).max(axis=(0, 2)) / (CENTROID_SUM_MAX - length / 2))
    scales = np.where(scales > 0, scales, 1.0)
    codebooks = np.round(books / scales[:, None, None]).astype(np.int8)
    vectors = positions(weight, length)
    indices = np.concatenate([
        nearest(vectors[:, g * columns:(g + 1) * columns] / scales[g],
                codebooks[:, g].astype(np.float32))
        for g in range(len(scales))
    ], axis=1)
    limit = (1 << (integer.bits - 1)) - 1
    factors = np.repeat(scales, columns)[:len(weight)]
    factors = factors * integer.x_scale / (limit * 2**ALPHA_MAX * y_scale)
    count = len(codebooks)
    return RowgenLinear(
        input=integer,
        codebooks=codebooks,
        indices=indices,
        group_columns=columns,
        y_scale=largest_step(y_scale),
        dequantization=dequantization(
            factors, np.full(len(weight), -count * ROW_OFFSET), bias, y_scale,
            count * length * CODE_MAX * limit, token_scale=True, name=name, wide=wide,
        ),
    )
