"""Integer activations of a linear, as the device quantizes them."""

from __future__ import annotations

import numpy as np

from compiler.expression import Floats
from compiler.quant.quantized import IntegerInput
from hw.fixed import Ints, saturate16
from hw.golden.quantize import quantize
from hw.golden.sparsity import drop_positions


def filled(x: Ints, inputs: int) -> Ints:
    """int16 [T, inputs] with zeros behind the tensor's own channels."""
    if x.shape[1] == inputs:
        return np.ascontiguousarray(x)
    result = np.zeros((len(x), inputs), np.int16)
    result[:, :x.shape[1]] = x
    return result


def placed_steps(source: IntegerInput, x: Floats) -> Ints:
    """int16 [T, D_padded] of float [T, D]: in steps, and in the order of the input's channels."""
    steps = saturate16(np.round(x.astype(np.float64) / source.x_scale).astype(np.int64))
    return np.where(source.order >= 0, steps[:, source.order], 0).astype(np.int16)


def integer_codes(source: IntegerInput, x: Ints, bits: int | None = None) -> tuple[Ints, Ints]:
    """int8 [T, D_padded] and the tokens' peaks, with skipped positions 0.

    x: int16 [T, D_padded or less], in the input's channel order. bits: of the codes, or None: as
    the input says.
    """
    full = filled(x, len(source.order))
    codes, peaks = quantize(full, source.alphas, bits or source.bits)
    skip = source.skip
    if skip is not None and skip.thresholds is not None:
        codes = drop_positions(codes, full, skip.thresholds, skip.vector_length)
    return codes, peaks
