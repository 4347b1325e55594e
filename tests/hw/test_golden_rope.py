"""The golden rotation against the float formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.golden.rope import ROTATION_BITS, rotate

ONE = 1 << ROTATION_BITS


def table_of(angles: np.ndarray) -> np.ndarray:
    """Cosines and sines of [rows, pairs] angles, side by side."""
    pairs = np.stack([np.cos(angles), np.sin(angles)], axis=2)
    return np.round(pairs * ONE).astype(np.int16).reshape(len(angles), -1)


@given(seed=st.integers(0, 999), pairs=st.integers(1, 40))
def test_close_to_float(seed: int, pairs: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-23000, 23001, (5, 2 * pairs)).astype(np.int16)
    angles = rng.uniform(0, 5000, (5, pairs))
    even, odd = x[:, 0::2].astype(float), x[:, 1::2].astype(float)
    y = rotate(x, table_of(angles))
    assert y.dtype == np.int16
    # Half a step of rounding, and an error of the table of half a step in each product.
    bound = 0.5 + 23000 * 2 * 0.5 / ONE
    assert np.abs(y[:, 0::2] - (even * np.cos(angles) - odd * np.sin(angles))).max() <= bound
    assert np.abs(y[:, 1::2] - (odd * np.cos(angles) + even * np.sin(angles))).max() <= bound


def test_angle_zero_changes_nothing() -> None:
    x = np.array([[-32767, 32767, 0, 1, -1, 5]], np.int16)
    assert (rotate(x, np.array([[ONE, 0] * 3], np.int16)) == x).all()


@pytest.mark.parametrize(("pair", "rotated"), [
    ((32767, 32767), (0, 32767)),
    ((-32767, -32767), (0, -32767)),
    ((32767, -32767), (32767, 0)),
    ((-32768, -32768), (0, -32767)),
])
def test_saturates(pair: tuple[int, int], rotated: tuple[int, int]) -> None:
    x = np.array([pair], np.int16)
    assert rotate(x, table_of(np.array([[np.pi / 4]]))).tolist() == [list(rotated)]


def test_ties_go_upward() -> None:
    x = np.array([[1, 0], [-1, 0]], np.int16)
    table = np.array([[ONE // 2, 0]] * 2, np.int16)
    assert rotate(x, table).tolist() == [[1, 0], [0, 0]]
