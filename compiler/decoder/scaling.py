"""Fixed-point constants of a decoder from float values: steps, norms, uniform rescaling."""

from __future__ import annotations

import math

import numpy as np

from compiler.decoder.quantized import NormParameters, Rescale
from compiler.errors import CompileError
from compiler.expression import Floats
from compiler.image.cache import cached_max
from compiler.quant.scales import HEADROOM, dequantization
from compiler.quant.scheme import SchemeMap
from hw.config import HardwareConfig
from hw.fixed import INT16_MAX, Ints
from hw.golden.dequant import INT32_MAX
from hw.golden.norm import EPSILON_BITS, INVERSE_BITS, UNIT_BITS
from hw.golden.softmax import LOG2_BITS, NUMERATOR_MAX

RESIDUAL_HEADROOM = 8
"""The residual holds at least this many times the calibrated peak."""
TYPICAL_QUANTILE = 0.9
TYPICAL_HEADROOM = 16.0
NORM_WEIGHT_BITS = 15
SHIFT_MAX = 63
EMBEDDING_SHIFT_MAX = 16
CACHE_GROUP = 32
"""Inputs of a weight group of the key-value cache: few, as products wait for whole groups and a
context is read in whole groups of values, and enough for scales to be a sixteenth of the weights.
"""


def activation_scale(x: Floats) -> float:
    """int16 step of activations [tokens, ...] of which the calibration text shows only some.

    The peak has `HEADROOM`; tokens as large as most have `TYPICAL_HEADROOM`, as int16 has bits to
    spare, unless a massive token takes them.
    """
    peaks = np.abs(x).reshape(len(x), -1).max(axis=1)
    typical = float(np.quantile(peaks, TYPICAL_QUANTILE))
    largest = max(float(peaks.max()) * HEADROOM, typical * TYPICAL_HEADROOM)
    return (largest or 1.0) / INT16_MAX


def power_of_two_above(value: float) -> float:
    """Smallest power of two that is not below a positive value."""
    return 2.0 ** math.ceil(math.log2(value))


def residual_step(peak: float, width: int, epsilon: float, coarsest_table: bool) -> float:
    """Step of the int32 residual: as fine as headroom and the norm's epsilon field allow.

    coarsest_table: a table-lookup layer adds to the residual; its steps are wide, so that the
    dequantizer's multiplier reaches them only from ``2**-7`` on.
    """
    least = max((peak or 1.0) * RESIDUAL_HEADROOM / INT32_MAX,
                math.sqrt(width * epsilon / ((1 << EPSILON_BITS) - 1)))
    return max(power_of_two_above(least), 2.0**-7 if coarsest_table else 0.0)


def embedding_steps(peak: float, residual_scale: float, what: str) -> int:
    """Smallest shift by which int16 values that reach ``peak`` become residual values."""
    shift = max(0, math.ceil(math.log2(max(peak, 1e-30) / INT16_MAX / residual_scale)))
    if shift > EMBEDDING_SHIFT_MAX:
        raise CompileError(f"{what} reaches {peak:g}, far above the residual's other values")
    return shift


def to_steps(values: Floats, scale: float) -> Ints:
    """int16 steps of float values."""
    return np.clip(np.round(values / scale), -INT16_MAX, INT16_MAX).astype(np.int16)


def norm_parameters(
    weight: Floats, bias: Floats | None, *, x_scale: float, y_scale: float, epsilon: float,
    center: bool, name: str,
) -> NormParameters:
    """Integers of `hw.golden.norm.normalize` for inputs of step ``x_scale``.

    Raises CompileError when epsilon or the weights do not fit their fields.
    """
    width = len(weight)
    factors = weight.astype(np.float64) * math.sqrt(width) / y_scale
    largest = float(np.abs(factors).max()) or 1.0
    shift = UNIT_BITS + NORM_WEIGHT_BITS - math.frexp(largest)[1]
    if not 0 <= shift <= SHIFT_MAX:
        raise CompileError(f"{name}: norm weights are out of range at output step {y_scale:g}")
    steps = round(width * epsilon / x_scale**2)
    if steps >= 1 << EPSILON_BITS:
        raise CompileError(f"{name}: epsilon {epsilon:g} does not fit at input step {x_scale:g}")
    return NormParameters(
        weight=to_steps(factors, 2.0 ** (UNIT_BITS - shift)),
        bias=np.zeros(width, np.int16) if bias is None else to_steps(bias, y_scale),
        shift=shift, inverse=round(2**INVERSE_BITS / width), epsilon=steps, center=center,
        y_scale=y_scale,
    )


def rescale(factor: float, sum_bound: float, name: str) -> Rescale:
    """A uniform dequantization: ``y = sum * token scale * factor``."""
    made = dequantization(np.array([factor]), np.zeros(1, np.int32), None, 1.0, sum_bound,
                          token_scale=True, name=name)
    return Rescale(multiplier=int(made.multiplier[0]), shift1=made.shift1, shift2=made.shift2)


def cache_rounds(hardware: HardwareConfig) -> int:
    """Rounds of a weight group of the key-value cache at most."""
    return max(1, min(hardware.group_max, CACHE_GROUP) // hardware.word_elements)


def value_group(hardware: HardwareConfig) -> int:
    """Positions of a weight group of the value cache."""
    return cache_rounds(hardware) * hardware.word_elements


def check_softmax(scheme: SchemeMap, hardware: HardwareConfig) -> None:
    """Raise CompileError unless the multiplier array takes the softmax's results."""
    if scheme.softmax != "log2":
        return
    if not hardware.log2_softmax:
        raise CompileError(f"scheme {scheme.name}: hardware {hardware.name} has no log2 softmax; "
                           "use softmax int8")
    if hardware.value_bits != 8:
        raise CompileError(f"scheme {scheme.name}: a log2 softmax shifts values of 8 bits, those "
                           f"of hardware {hardware.name} have {hardware.value_bits} (value_bits); "
                           "use softmax int8")


def mix_shift(capacity: int, log2: bool, hardware: HardwareConfig) -> int:
    """Smallest shift of each value group's sum for which mixtures of all positions fit."""
    weight = 1 << LOG2_BITS if log2 else NUMERATOR_MAX
    length = value_group(hardware)
    groups, shift = -(-capacity // length), 0
    most = length * cached_max(hardware.value_bits, hardware) * weight
    while groups * ((most >> shift) + 1) > hardware.sum_max:
        shift += 1
    return shift
