"""Vector-quantized weights whose table rows the hardware computes from int8 activations."""

from __future__ import annotations

import numpy as np

from compiler.quant.codebooks import CODE_MAX
from compiler.quant.kmeans import Floats
from compiler.quant.quantized import IntegerInput, RowgenLinear
from compiler.quant.scales import OutputScale, dequantization, largest_step
from compiler.quant.weights import VectorWeights
from hw.config import ALPHA_MAX
from hw.golden.lookup import ROW_OFFSET


def quantize_rowgen(
    name: str, weights: VectorWeights, bias: Floats | None, integer: IntegerInput,
    y_scale: OutputScale, wide: bool = False,
) -> RowgenLinear:
    """The codebooks as they are; a column's scale goes into its multiplier.

    y_scale, wide: as for `compiler.quant.scales.dequantization`.
    """
    limit = (1 << (integer.bits - 1)) - 1
    factors = weights.scales * integer.x_scale / (limit * 2**ALPHA_MAX * y_scale)
    count, length = len(weights.codebooks), weights.codebooks.shape[3]
    return RowgenLinear(
        input=integer,
        codebooks=weights.codebooks,
        indices=weights.indices,
        group_columns=weights.group_columns,
        y_scale=largest_step(y_scale),
        dequantization=dequantization(
            factors, np.full(len(factors), -count * ROW_OFFSET), bias, y_scale,
            count * length * CODE_MAX * limit, token_scale=True, name=name, wide=wide,
        ),
    )
