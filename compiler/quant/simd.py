"""Integer weights in groups for the packed multipliers."""

from __future__ import annotations

import numpy as np

from compiler.errors import CompileError
from compiler.model import QuantizedBlocks
from compiler.quant.kmeans import Floats
from compiler.quant.quantized import IntegerInput, SimdLinear
from compiler.quant.scales import OutputScale, dequantization, largest_step
from compiler.quant.scheme import SimdScheme
from compiler.quant.weights import GroupedWeights
from hw.config import ALPHA_MAX
from hw.fixed import Ints

SCALE_MAX = 32767
SUM_MAX = 2**31 - 1
SHIFT_MAX = 63

def runs_native(blocks: QuantizedBlocks | None, scheme: SimdScheme) -> bool:
    """Whether the file's own blocks run as they are."""
    if blocks is None or not scheme.native_blocks:
        return False
    return scheme.weight_bits == (8 if blocks.kind == "q8_0" else 4)


def weight_group(blocks: QuantizedBlocks | None, scheme: SimdScheme) -> int:
    """Inputs that share a scale: the file's block length where its blocks run as they are."""
    if blocks is not None and runs_native(blocks, scheme):
        return int(blocks.codes.shape[1] // blocks.scales.shape[1])
    return scheme.group


def overflow_free_shift(
    weights: Ints, scales: Ints, minima: Ints | None, alphas: Ints, limit: int, group: int
) -> tuple[int, float]:
    """Smallest group shift for which no input can overflow 32 bits, and the bound it gives.

    Bound of a column: over its groups ``|scale| * sum(|w| * limit * 2**alpha) + |min| * ...``.
    """
    factor = limit * 2.0 ** np.repeat(alphas.astype(int), weights.shape[1] // len(alphas))
    grouped = (np.abs(weights.astype(np.int16)) * factor).reshape(len(weights), -1, group)
    bound = grouped.sum(axis=2).T * np.abs(scales.astype(float))
    if minima is not None:
        mass = factor.reshape(-1, group).sum(axis=1)
        bound += mass[:, None] * np.abs(minima.astype(float))
    worst = float(bound.sum(axis=0).max(initial=0.0))
    shift = 0
    while worst / 2**shift + len(scales) > SUM_MAX:
        shift += 1
    return shift, worst / 2**shift + len(scales)


def own_blocks(blocks: QuantizedBlocks) -> GroupedWeights:
    """The file's own integers."""
    return GroupedWeights(codes=blocks.codes, scales=blocks.scales, minima=blocks.minima,
                          inputs=blocks.codes.shape[1])


def simd_linear(
    name: str, weights: GroupedWeights, bias: Floats | None, integer: IntegerInput,
    weight_bits: int, y_scale: OutputScale, wide: bool = False,
) -> SimdLinear:
    """Weights filled up to the input's places, int16 scales in units of their column's largest.

    Its sums are proved free of overflow. y_scale, wide: as for
    `compiler.quant.scales.dequantization`. Raises CompileError when its sums do not fit.
    """
    padded, group = len(integer.order), weights.group
    codes, scales, minima = weights.codes, weights.scales, weights.minima
    codes = np.pad(codes, ((0, 0), (0, padded - codes.shape[1])))
    extra = padded // group - scales.shape[1]
    scales = np.pad(scales, ((0, 0), (0, extra)))
    minima = None if minima is None else np.pad(minima, ((0, 0), (0, extra)))
    largest = np.abs(scales).max(axis=1)
    if minima is not None:
        largest = np.maximum(largest, np.abs(minima).max(axis=1))
    unit = np.where(largest > 0, largest, 1.0).astype(np.float64) / SCALE_MAX
    scale_codes = np.round(scales / unit[:, None]).T.astype(np.int16)
    minimum_codes = None
    if minima is not None:
        minimum_codes = np.round(minima / unit[:, None]).T.astype(np.int16)
    # Filled-up places (-1) hold no channel: their weights are zero.
    places = np.where(integer.order >= 0, integer.order, 0)
    placed = np.where(integer.order >= 0, codes[:, places], 0).astype(np.int8)
    limit = (1 << (integer.bits - 1)) - 1
    shift, bound = overflow_free_shift(
        placed, scale_codes, minimum_codes, integer.alphas, limit, group
    )
    if shift > SHIFT_MAX:
        raise CompileError(f"{name}: sums need a shift of {shift}, more than {SHIFT_MAX}")
    factors = unit * 2.0**shift * integer.x_scale / (limit * 2**ALPHA_MAX * y_scale)
    return SimdLinear(
        input=integer,
        weights=np.ascontiguousarray(placed),
        weight_bits=weight_bits,
        scales=scale_codes,
        minima=minimum_codes,
        group=group,
        shift=shift,
        y_scale=largest_step(y_scale),
        dequantization=dequantization(
            factors, np.zeros(len(placed)), bias, y_scale, bound, token_scale=True, name=name,
            wide=wide,
        ),
    )
