"""Quantized linears for an accumulator narrower than the quantizers provide for."""

from __future__ import annotations

import dataclasses

import numpy as np

from compiler.errors import CompileError
from compiler.image.cache import cached_max
from compiler.ir.matmul import INT8_MAX, rowgen_bounds, simd_bound
from compiler.quant.quantized import (
    Dequantization,
    Lut2dLinear,
    QuantizedLinear,
    RowgenLinear,
    SimdLinear,
)
from compiler.quant.simd import SHIFT_MAX
from compiler.rounded_rows import rounding_of
from hw.config import SUM_BITS_MAX, HardwareConfig
from hw.golden.lookup import row_offset


def refuse(name: str, reach: int, hardware: HardwareConfig, remedy: str) -> CompileError:
    """The error of sums that the hardware's accumulator cannot hold."""
    return CompileError(f"{name}: sums reach {reach}, more than the {hardware.sum_bits}-bit "
                        f"accumulator of hardware {hardware.name} holds (sum_bits); {remedy}")


def check_scores(stride: int, hardware: HardwareConfig, name: str) -> int:
    """Largest score of heads of ``stride`` elements; raises CompileError if it cannot fit."""
    bound = stride * INT8_MAX * cached_max(hardware.key_bits, hardware)
    # Nothing is shifted, but rounding counts 1 for each group in the proof.
    if bound + stride > hardware.sum_max:
        raise refuse(name, bound, hardware, "use a wider one")
    return bound


def fit_sums(linear: QuantizedLinear, hardware: HardwareConfig, name: str) -> QuantizedLinear:
    """The linear with sums that fit the accumulator, whatever its input.

    Quantizers make sums of `SUM_BITS_MAX` bits. For fewer, a multiplier array's groups are shifted
    further, and the dequantizer less; sums of rows are as they are. Raises CompileError where sums
    cannot fit.
    """
    if hardware.sum_bits == SUM_BITS_MAX:
        return linear
    if isinstance(linear, SimdLinear):
        return shifted(linear, hardware, name)
    reach = largest_row_sum(linear)
    if reach > hardware.sum_max:
        raise refuse(name, reach, hardware, "use a wider one, or simd for this linear")
    return linear


def largest_row_sum(linear: Lut2dLinear | RowgenLinear) -> int:
    """Largest magnitude of a sum of rows, less its zero."""
    zero = linear.dequantization.zero.astype(np.int64)
    if isinstance(linear, RowgenLinear):
        row_bits, row_shift = rounding_of(linear)
        most = rowgen_bounds(linear.codebooks, linear.indices, linear.group_columns, row_bits,
                             row_shift)
        return int((np.abs(len(linear.codebooks) * row_offset(row_bits) + zero) + most).max())
    top = linear.tables.shape[0] * ((1 << linear.entry_bits) - 1)
    return int(np.maximum(np.abs(zero), np.abs(top + zero)).max())


def shifted(linear: SimdLinear, hardware: HardwareConfig, name: str) -> SimdLinear:
    """Groups shifted as far as sums need."""
    def bound(shift: int) -> int:
        return simd_bound(linear.weights, linear.input.alphas, linear.scales, linear.minima,
                          linear.group, shift, linear.input.bits)

    shift = linear.shift
    while (reach := bound(shift)) > hardware.sum_max:
        # Rounding adds at most 1 for each group, so that one more may be needed.
        shift += max(1, reach.bit_length() - hardware.sum_bits + 1)
        if shift > SHIFT_MAX:
            raise refuse(name, reach, hardware, "use a wider one or longer weight groups")
    more = shift - linear.shift
    return dataclasses.replace(
        linear, shift=shift, dequantization=lowered(linear.dequantization, more, name))


def lowered(steps: Dequantization, bits: int, name: str) -> Dequantization:
    """The same dequantization of sums that are ``2**bits`` times smaller, with a zero of 0."""
    assert not np.any(steps.zero)
    first = min(bits, steps.shift1)
    second = steps.shift2 - (bits - first)
    if second < 0:
        raise CompileError(f"{name}: its output step is too fine for narrower sums; use hardware "
                           "with more sum_bits")
    return dataclasses.replace(steps, shift1=steps.shift1 - first, shift2=second)
