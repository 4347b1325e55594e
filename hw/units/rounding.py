"""Circuit halves of `hw.fixed`: rounding is cut in two so that a register fits between them."""

from __future__ import annotations

from amaranth import Const, Mux, Value


def shift_half(value: Value, shift: Value) -> Value:
    """``value / 2**shift`` with one fractional bit left, rounded down; value is signed."""
    doubled: Value = (value << 1) >> shift
    return doubled


def round_half(value: Value) -> Value:
    """Take the fractional bit off, ties upward: after `shift_half`, equal to `round_shift`."""
    rounded: Value = (value + 1) >> 1
    return rounded


def saturated(value: Value, limit: int) -> Value:
    """Clamp to ``-limit..limit``."""
    high, low = Const(limit), Const(-limit)
    return Mux(value > high, high, Mux(value < low, low, value))
