"""Computed rows of fewer bits: the shift of each linear, and what makes good its rounding.

Hardware with ``row_bits`` below 16 shifts, rounds and saturates the entries of computed rows. One
shift for a whole linear is chosen on the calibration text, where it is the one with the least
error of the sums; the mean rounding error of all columns goes into the dequantizer's ``zero`` (bias
correction, as in Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction"), which stays one for all columns, so that its parameters stay compact. What saturation
loses does not: the mean of that holds for the float model's activations only.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from compiler.expression import Floats
from compiler.integer_codes import integer_codes, placed_steps
from compiler.quant.quantized import Dequantization, QuantizedLinear, RowgenLinear
from hw.config import EXACT_ROW_BITS, HardwareConfig
from hw.fixed import Ints
from hw.golden.lookup import ROW_OFFSET, row_offset, rowgen_sums

TOKENS = 128
"""Calibration tokens on which shifts are compared."""
LOUD = 16
"""Tokens beside them whose activations are the most concentrated: saturation breaks those first."""
INT8_MAX = 127


@dataclass(frozen=True, kw_only=True)
class RoundedRowgenLinear(RowgenLinear):
    """Weights of ``rowgen`` on hardware that rounds rows (`hw.golden.lookup.rows`).

    Its dequantization is for rounded sums: its ``zero`` holds their row offsets, and its shifts
    make up for ``row_shift``.
    """

    row_bits: int
    row_shift: int


def rounding_of(linear: RowgenLinear) -> tuple[int, int]:
    """``row_bits`` and ``row_shift`` of a linear."""
    if isinstance(linear, RoundedRowgenLinear):
        return linear.row_bits, linear.row_shift
    return EXACT_ROW_BITS, 0


def computed_sums(linear: RowgenLinear, codes: Ints) -> Ints:
    """Sums of computed rows, int32 [T, M], of int8 [T, D_padded]."""
    positions, _, _, length = linear.codebooks.shape
    vectors = np.ascontiguousarray(codes[:, :positions * length])
    return rowgen_sums(vectors.reshape(len(codes), positions, length), linear.codebooks,
                       linear.indices, linear.group_columns, *rounding_of(linear))


def centred_sums(linear: RowgenLinear, codes: Ints) -> Floats:
    """`computed_sums` without the rows' offsets."""
    offset = len(linear.codebooks) * row_offset(rounding_of(linear)[0])
    return computed_sums(linear, codes).astype(np.float64) - offset


def least_shift(largest: int, row_bits: int) -> int:
    """Least shift at which dot products up to ``largest`` in magnitude do not saturate."""
    shift = 0
    while (largest + ((1 << shift) >> 1)) >> shift >= row_offset(row_bits):
        shift += 1
    return shift


def shifted(steps: Dequantization, positions: int, row_bits: int, shift: int) -> Dequantization:
    """The dequantization of the same sums in steps of ``2**shift``; loses nothing."""
    first = min(shift, steps.shift1)
    offsets = positions * (ROW_OFFSET - row_offset(row_bits))
    return dataclasses.replace(steps, shift1=steps.shift1 - first,
                               shift2=steps.shift2 - (shift - first), zero=steps.zero + offsets)


def rounded(linear: RowgenLinear, row_bits: int, shift: int) -> RoundedRowgenLinear:
    """The same linear with rounded rows, nothing made good."""
    values = {field.name: getattr(linear, field.name) for field in dataclasses.fields(linear)}
    steps = shifted(linear.dequantization, len(linear.codebooks), row_bits, shift)
    return RoundedRowgenLinear(
        **{**values, "dequantization": steps}, row_bits=row_bits, row_shift=shift)


def sample(codes: Ints) -> Ints:
    """Tokens on which shifts are compared: evenly spaced ones, and the loudest of the rest.

    Those are the ones whose few large activations leave the others, which share their step, small.
    """
    even = np.arange(0, len(codes), -(-len(codes) // TOKENS))
    rest = np.setdiff1d(np.arange(len(codes)), even)
    power = np.square(codes[rest].astype(np.float32)).sum(axis=1)
    loud = rest[np.argsort(np.where(power > 0, power, np.inf), kind="stable")[:LOUD]]
    chosen: Ints = codes[np.concatenate([even, loud])]
    return chosen


def fitted(linear: RowgenLinear, codes: Ints, row_bits: int) -> RoundedRowgenLinear:
    """The linear with the shift of least error on int8 activations [T, D_padded].

    A token's error counts relative to the size of its outputs, and in its fourth power: one token
    that saturation breaks decides against many that a finer step helps. Layers that take a massive
    activation back, which is that of an attention sink, have only such a token to lose.
    """
    tokens = sample(codes)
    steps = linear.dequantization
    exact = centred_sums(linear, tokens)
    weights = steps.multiplier.astype(np.float64)
    sizes = np.square(exact * weights).sum(axis=1)
    counts = np.divide(1, sizes, out=np.zeros(len(sizes)), where=sizes > 0)
    best, least = None, np.inf
    for shift in range(min(EXACT_ROW_BITS - row_bits, steps.shift1 + steps.shift2) + 1):
        made = rounded(linear, row_bits, shift)
        mean = 0
        if shift:
            # One bit fewer than the dot products have: rounded, but never saturated.
            gaps = centred_sums(rounded(linear, EXACT_ROW_BITS - 1, shift), tokens)
            gaps -= exact / 2.0**shift
            mean = round(float((counts @ gaps).mean() / max(counts.sum(), 1e-300)))
        gaps = centred_sums(made, tokens) - exact / 2.0**shift
        errors = np.square((gaps - mean) * 2.0**shift * weights).sum(axis=1)
        error = float(np.square(errors * counts).sum())
        if error < least:
            fixed = dataclasses.replace(
                made.dequantization,
                zero=(made.dequantization.zero - mean).astype(np.int32))
            best, least = dataclasses.replace(made, dequantization=fixed), error
    assert best is not None
    return best


def round_rows(linear: QuantizedLinear, x: Floats, hardware: HardwareConfig) -> QuantizedLinear:
    """A linear as the hardware computes its rows; the same one where it does not round.

    x: float calibration input [T, D] of the linear.
    """
    if not isinstance(linear, RowgenLinear) or not hardware.rounds_rows:
        return linear
    codes, _ = integer_codes(linear.input, placed_steps(linear.input, x))
    return fitted(linear, codes, hardware.row_bits)
