"""Fixed-point operations on numpy integers: the only place that says how the device rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[Any]

INT16_MAX = 32767
"""Activations are symmetric: -32767..32767."""


def round_shift(value: Ints, shift: int) -> Ints:
    """``value / 2**shift`` rounded to nearest, ties upward."""
    if shift == 0:
        return value
    return (value + (1 << (shift - 1))) >> shift


def wrapped(value: Ints, bits: int) -> Ints:
    """The lowest ``bits`` of int64 values, signed: what an adder of that width keeps."""
    half = 1 << (bits - 1)
    return ((value + half) & ((1 << bits) - 1)) - half


def saturate(value: Ints, limit: int) -> Ints:
    """Clamp to ``-limit..limit``."""
    return np.clip(value, -limit, limit)


def saturate16(value: Ints) -> Ints:
    """Clamp to the range of an activation."""
    return np.clip(value, -INT16_MAX, INT16_MAX).astype(np.int16)
