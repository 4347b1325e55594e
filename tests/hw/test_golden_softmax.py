"""The golden softmax against its formula and against floating point."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.golden.dequant import TOKEN_SCALE_BITS
from hw.golden.softmax import (
    LOG2_BITS,
    LOG2_RECIPROCAL_BITS,
    RECIPROCAL_BITS,
    log2_weights,
    softmax,
)


def pairs(gaps: np.ndarray) -> np.ndarray:
    """Rows of two scores with 8 fraction bits, the second lower by a gap."""
    return np.stack([np.full_like(gaps, 8192), 8192 - gaps], axis=1).astype(np.int16)


def test_exponentials_of_all_gaps() -> None:
    """The table and its shift are never further from 127 * 2**(-d / 256) than 0.51."""
    gaps = np.arange(1 << 13)
    weights, reciprocals = softmax(pairs(gaps), np.ones(len(gaps), int), 0, 0, 8, False)
    exact = 127 * np.exp2(-gaps / 256)
    assert (weights[:, 0] == 127).all()
    assert np.abs(weights[:, 1] - exact).max() < 0.51
    assert (np.diff(weights[:, 1].astype(int)) <= 0).all()
    assert not weights[2048:, 1].any()
    assert (reciprocals == (1 << RECIPROCAL_BITS) // weights.astype(int).sum(axis=1)).all()


def test_codes_of_all_gaps() -> None:
    gaps = np.arange(1 << 13)
    codes, reciprocals = softmax(pairs(gaps), np.ones(len(gaps), int), 0, 0, 8, True)
    assert (codes[:, 0] == 0).all()
    assert (codes[:, 1] == np.minimum((gaps + 128) // 256, 15)).all()
    weights = log2_weights(codes)
    assert (weights[:, 1] == [0 if code == 15 else 2 ** (14 - int(code)) for code in codes[:, 1]]
            ).all()
    assert (reciprocals == (1 << LOG2_RECIPROCAL_BITS) // weights.sum(axis=1)).all()


@given(
    rows=st.integers(1, 5), n=st.integers(1, 70), window=st.integers(0, 40),
    slope=st.integers(0, 1 << 15), fraction=st.integers(4, 8), log2=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_close_to_floating_point(
    rows: int, n: int, window: int, slope: int, fraction: int, log2: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-500, 500, (rows, n)).astype(np.int16)
    positions = rng.integers(0, n, rows)
    weights, reciprocals = softmax(scores, positions, window, slope, fraction, log2)
    assert (reciprocals < 1 << TOKEN_SCALE_BITS).all()

    distance = positions[:, None] - np.arange(n)
    seen = (distance >= 0) & ((distance < window) if window else True)
    exact = scores / 2.0 ** fraction - slope / 65536 * distance
    exact = np.where(seen, np.exp2(exact - np.where(seen, exact, -np.inf).max(1)[:, None]), 0)
    values = log2_weights(weights) if log2 else weights.astype(np.int64)
    assert not values[~seen].any()
    # A log2 code is off by at most half a bit (and the score's own rounding), an integer by half.
    scaled = exact * (1 << LOG2_BITS if log2 else 127)
    error = np.abs(values - scaled)
    assert (error <= (scaled * 0.42 + 1 if log2 else 0.75)).all()
    whole = 1 << (LOG2_RECIPROCAL_BITS if log2 else RECIPROCAL_BITS)
    assert (values * reciprocals[:, None]).sum(axis=1) == pytest.approx(whole, rel=0.01)


def test_equal_scores_of_a_long_row() -> None:
    """Flat attention keeps its precision: every weight is whole, only the reciprocal is small."""
    n = 100_000
    weights, (reciprocal,) = softmax(
        np.zeros((1, n), np.int16), np.array([n - 1]), 0, 0, 8, False
    )
    assert (weights == 127).all()
    assert reciprocal == (1 << RECIPROCAL_BITS) // (127 * n)


def test_a_row_sees_itself() -> None:
    scores = np.array([[-32767, 32767, 32767]], np.int16)
    weights, (reciprocal,) = softmax(scores, np.array([0]), 1, 0, 0, False)
    assert weights.tolist() == [[127, 0, 0]]
    assert reciprocal == (1 << RECIPROCAL_BITS) // 127
