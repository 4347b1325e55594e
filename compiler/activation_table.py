"""Function tables of the activation unit: 256 straight pieces over the int16 range."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.errors import CompileError
from compiler.expression import erf, parse_expression
from hw.errors import ConfigError
from hw.fixed import INT16_MAX, Ints
from hw.golden.activation import FRACTION_BITS, SEGMENTS, activate

Floats = NDArray[Any]
Function = Callable[[Floats], Floats]
SHIFT_MAX = 62


def silu(x: Floats) -> Floats:
    """``x * sigmoid(x)``."""
    return np.asarray(x / (1.0 + np.exp(-np.clip(x, -80.0, 80.0))))


def gelu(x: Floats) -> Floats:
    """Gaussian error linear unit: ``x`` times the normal distribution up to ``x``."""
    return np.asarray(0.5 * x * (1.0 + erf(x / math.sqrt(2))))


def gelu_tanh(x: Floats) -> Floats:
    """GELU, tanh form."""
    return np.asarray(0.5 * x * (1.0 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def relu(x: Floats) -> Floats:
    """``max(x, 0)``."""
    return np.maximum(x, 0.0)


def relu_squared(x: Floats) -> Floats:
    """``max(x, 0)**2`` (So et al., "Primer")."""
    return np.square(relu(x))


def mish(x: Floats) -> Floats:
    """``x * tanh(log(1 + exp(x)))`` (Misra, "Mish")."""
    return np.asarray(x * np.tanh(np.logaddexp(0.0, x)))


def elu(x: Floats) -> Floats:
    """``x``, below 0 ``exp(x) - 1`` (Clevert et al., "ELU")."""
    return np.asarray(np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))))


def selu(x: Floats) -> Floats:
    """Scaled ELU with the constants of Klambauer et al., "Self-Normalizing Neural Networks"."""
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return np.asarray(scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0))))


def pade_silu(x: Floats) -> Floats:
    """SiLU whose sigmoid ``(1 + tanh(x / 2)) / 2`` takes tanh from its Padé approximant [5/4].

    ``tanh(z) ~ z * (945 + 105 z**2 + z**4) / (945 + 420 z**2 + 15 z**4)``, clamped to +-1.
    """
    z = 0.5 * np.asarray(x, np.float64)
    square = z * z
    ratio = z * (945.0 + square * (105.0 + square)) / (945.0 + square * (420.0 + 15.0 * square))
    return np.asarray(0.5 * x * (1.0 + np.clip(ratio, -1.0, 1.0)))


FUNCTIONS: dict[str, Function] = {
    "silu": silu, "gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu, "relu2": relu_squared,
    "drelu": relu, "mish": mish, "elu": elu, "selu": selu, "pade": pade_silu,
}
FACTORS: dict[str, Function] = {"drelu": relu}
"""Functions that a gated MLP also applies to the factor (up): dReLU is ``relu(g) * relu(u)`` (Song
et al., "Turbo Sparse")."""


def function_of(name: str) -> Function:
    """A function of `FUNCTIONS` by name, or of an expression of x.

    Raises ConfigError in one line for what is neither.
    """
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    if name.isidentifier() and name != "x":
        raise ConfigError(f"activation {name!r} is not one of {', '.join(FUNCTIONS)}, nor an "
                          "expression of x")
    return parse_expression(name)


@dataclass(frozen=True, kw_only=True)
class FunctionTable:
    """Table of one function between two scales.

    base, delta: int16 [256]; worst_error: largest |table - function| over all int16 inputs, in
    units of the function's value (the output's rounding included).
    """

    base: Ints
    delta: Ints
    in_scale: float
    out_scale: float
    worst_error: float


def int16_inputs() -> Ints:
    """Every activation value."""
    return np.arange(-INT16_MAX, INT16_MAX + 1, dtype=np.int16)


def function_table(function: Function, in_scale: float, out_scale: float) -> FunctionTable:
    """Pieces through the function's values at segment ends, moved to halve the worst error.

    The piece that starts at 0 is not moved, so that f(0) = 0 stays exact: filled-up channels rely
    on it. Raises CompileError when a value or a slope does not fit 16 bits.
    """
    step = 1 << FRACTION_BITS
    ends = (np.arange(SEGMENTS + 1) - SEGMENTS // 2) * step
    values = function(ends * in_scale) / out_scale
    inside = ends[:-1, None] + np.arange(step)
    exact = function(inside * in_scale) / out_scale
    straight = values[:-1, None] + (values[1:] - values[:-1])[:, None] * np.arange(step) / step
    residual = exact - straight
    moved = (residual.max(axis=1) + residual.min(axis=1)) / 2
    moved[SEGMENTS // 2] = 0.0
    base, delta = np.round(values[:-1] + moved), np.round(values[1:] - values[:-1])
    if not np.isfinite([base, delta]).all() or max(
        np.abs(base).max(), np.abs(delta).max()
    ) > INT16_MAX:
        raise CompileError("the activation function's values or slopes do not fit 16 bits "
                           f"at input scale {in_scale:g} and output scale {out_scale:g}")
    base, delta = base.astype(np.int16), delta.astype(np.int16)
    x = int16_inputs()
    table = activate(x, base, delta, None, 0) * out_scale
    worst = float(np.abs(table - function(x * in_scale)).max())
    return FunctionTable(base=base, delta=delta, in_scale=in_scale, out_scale=out_scale,
                         worst_error=worst)


def gated_table(
    function: Function, in_scale: float, factor_scale: float, product_scale: float
) -> tuple[FunctionTable, int]:
    """Table whose product with a factor needs only a shift.

    The output scale is ``product_scale * 2**-shift / factor_scale`` with the largest shift for
    which values and slopes fit 16 bits. Raises CompileError when there is none.
    """
    x = int16_inputs()[:: 1 << (FRACTION_BITS - 2)] * in_scale
    values = function(np.append(x, INT16_MAX * in_scale))
    # Two steps of room: a moved base rounds away from the values themselves.
    peak = float(np.abs(values).max()) / (INT16_MAX - 2) or 1.0
    shift = min(math.floor(math.log2(product_scale / (factor_scale * peak))), SHIFT_MAX)
    for trial in range(shift, max(shift - 4, -1), -1):
        try:
            table = function_table(
                function, in_scale, product_scale * 2.0**-trial / factor_scale
            )
        except CompileError:
            continue
        return table, trial
    raise CompileError(f"no activation table between input scale {in_scale:g}, factor scale "
                       f"{factor_scale:g} and output scale {product_scale:g}")
