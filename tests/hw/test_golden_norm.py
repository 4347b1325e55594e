"""The golden norm against exact integers and against the float formulas."""

from __future__ import annotations

from math import isqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hw.golden.norm import UNIT_BITS, bit_lengths, normalize, shift_either

SHIFT = 20


def exact(
    x: list[int], weight: list[int], bias: list[int], shift: int, inverse: int, epsilon: int,
    center: bool,
) -> list[int]:
    """The formula of `normalize` for one row in integers of any size."""
    def rounded(value: int, down: int) -> int:
        return value << -down if down <= 0 else (value + (1 << (down - 1))) >> down

    e = max(max(map(abs, x)).bit_length() - 16, -8)
    xs = [rounded(value, e) for value in x]
    if center:
        mean = rounded(sum(xs) * inverse, 31)
        xs = [value - mean for value in xs]
    total = sum(value * value for value in xs) + (epsilon >> 2 * e if e >= 0 else epsilon << -2 * e)
    total = max(total, 1)
    k = -((32 - total.bit_length()) // 2)
    root = isqrt((total >> 2 * k if k >= 0 else total << -2 * k) << 16)
    units = [rounded((value * ((1 << 40) // root)) << 6, 16 + k) for value in xs]
    y = [rounded(u * w, shift) + b for u, w, b in zip(units, weight, bias, strict=True)]
    return [min(max(value, -32767), 32767) for value in y]


def row_of(rng: np.random.Generator, columns: int, bits: int) -> np.ndarray:
    """A row of int32 with magnitudes below ``2**bits``, some at the limit."""
    limit = (1 << bits) - 1
    x = rng.integers(-limit, limit + 1, columns)
    x[rng.random(columns) < 0.1] = limit
    return x.astype(np.int32)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 999), columns=st.integers(1, 80), bits=st.integers(0, 31),
    shift=st.integers(0, 40), epsilon_bits=st.integers(0, 40), center=st.booleans(),
)
def test_equals_exact_integers(
    seed: int, columns: int, bits: int, shift: int, epsilon_bits: int, center: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = row_of(rng, columns, bits)
    weight, bias = rng.integers(-32768, 32768, (2, columns)).astype(np.int16)
    rest: dict[str, Any] = {
        "shift": shift, "inverse": round(2**31 / columns), "center": center,
        "epsilon": int(rng.integers(1 << epsilon_bits)),
    }
    y = normalize(x[None], weight, bias, **rest)
    assert y.dtype == np.int16
    assert y[0].tolist() == exact(x.tolist(), weight.tolist(), bias.tolist(), **rest)


def steps(weight: float, columns: int, step: float) -> int:
    """A weight as `normalize` takes it."""
    return round(weight * columns**0.5 / step * 2.0 ** (SHIFT - UNIT_BITS))


@settings(max_examples=40)
@example(seed=93, columns=2, bits=4, center=True)
@given(
    seed=st.integers(0, 999), columns=st.integers(2, 600), bits=st.integers(4, 31),
    center=st.booleans(),
)
def test_close_to_float(seed: int, columns: int, bits: int, center: bool) -> None:
    rng = np.random.default_rng(seed)
    x = row_of(rng, columns, bits)
    # The largest result is sqrt(columns); it takes 15 bits.
    step = columns**0.5 / 30000
    weight = rng.uniform(0.2, 1, columns)
    codes = np.array([steps(value, columns, step) for value in weight], np.int16)
    bias = rng.integers(-999, 1000, columns).astype(np.int16)
    epsilon = columns * 1e-5
    y = normalize(
        x[None], codes, bias, SHIFT, round(2**31 / columns), round(epsilon), center
    )[0].astype(float)
    real = x - x.mean() if center else x.astype(float)
    # The sum is at least 1 in steps of the shifted row, whose small values have gained 8 bits.
    least = 4.0 ** max(int(np.abs(x).max()).bit_length() - 16, -8)
    unit = real / np.sqrt(max((real**2).sum() + round(epsilon), least))
    wanted = unit * codes * 2.0 ** (UNIT_BITS - SHIFT)
    wanted = np.clip(wanted + bias, -32767, 32767)
    # Shifted values have 16 bits; a row of equal values less its mean is rounding noise. Values
    # and their mean are rounded, which also moves the root.
    if np.abs(real).max() > np.abs(x).max() / 64:
        assert np.abs(y - wanted).max() <= 1 + 2 * 30000 * 64 / 2**16


@pytest.mark.parametrize("center", [False, True])
def test_zero_rows_give_the_bias(center: bool) -> None:
    x = np.zeros((2, 5), np.int32)
    bias = np.array([1, -2, 3, 32767, -32768], np.int16)
    weight = np.full(5, 32767, np.int16)
    for epsilon in (0, 1, (1 << 40) - 1):
        y = normalize(x, weight, bias, SHIFT, round(2**31 / 5), epsilon, center)
        assert (y == np.maximum(bias, -32767)).all()


@pytest.mark.parametrize("value", [1, -1, 255, 32767, -32768, 2**31 - 1, -(2**31 - 1)])
def test_one_element(value: int) -> None:
    x, one = np.array([[value]], np.int32), np.array([1000], np.int16)
    zero = np.zeros(1, np.int16)
    y = normalize(x, one, zero, UNIT_BITS, 2**31, 0, False)
    assert y.tolist() == [[1000 if value > 0 else -1000]]
    assert normalize(x, one, zero, UNIT_BITS, 2**31, 0, True).tolist() == [[0]]


def test_a_peak_beside_small_values() -> None:
    x = np.full((1, 576), 3, np.int32)
    x[0, 7] = 2**31 - 1
    weight = np.full(576, 32767, np.int16)
    y = normalize(x, weight, np.zeros(576, np.int16), UNIT_BITS, round(2**31 / 576), 5, False)
    assert y[0, 7] == 32767
    assert np.count_nonzero(y) == 1


def test_large_epsilon_makes_small_values_vanish() -> None:
    x = np.array([[100, -100]], np.int16)
    weight, zero = np.full(2, 32767, np.int16), np.zeros(2, np.int16)
    assert (normalize(x, weight, zero, UNIT_BITS, 2**30, 0, False) != 0).all()
    small = normalize(x, weight, zero, UNIT_BITS, 2**30, (1 << 40) - 1, False)
    assert small.tolist() == [[3, -3]]


def test_rows_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(0)
    x = np.stack([row_of(rng, 40, bits) for bits in (31, 3, 0, 16, 20)])
    weight, bias = rng.integers(-32768, 32768, (2, 40)).astype(np.int16)
    together = normalize(x, weight, bias, SHIFT, round(2**31 / 40), 77, True)
    for row, y in zip(x, together, strict=True):
        assert (normalize(row[None], weight, bias, SHIFT, round(2**31 / 40), 77, True) == y).all()


def test_bit_lengths_and_shifts() -> None:
    values = np.array([0, 1, 2, 3, 255, 256, 2**31, 2**61, 2**62 - 1])
    assert bit_lengths(values).tolist() == [int(value).bit_length() for value in values]
    shifted = shift_either(np.array([5, -5, 6, -6, 7]), np.array([1, 1, 2, 2, -3]))
    assert shifted.tolist() == [3, -2, 2, -1, 56]
