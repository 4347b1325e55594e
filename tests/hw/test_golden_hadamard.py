"""The golden Hadamard transform against cases worked by hand and its definition."""

from __future__ import annotations

import numpy as np
import pytest

from hw.golden.hadamard import LENGTH_BITS_MAX, hadamard, transform


def test_four_elements_by_hand():
    x = np.int16([[1, 2, 3, 5]])
    # Sums: 1+2+3+5, 1-2+3-5, 1+2-3-5, 1-2-3+5.
    assert transform(x, 2).tolist() == [[11, -3, -5, 1]]
    # Halves are rounded upward: 5.5, -1.5, -2.5, 0.5.
    assert hadamard(x, 2, 1).tolist() == [[6, -1, -2, 1]]


def test_eight_elements_by_hand():
    x = np.int16([1, 0, 0, 0, 0, 0, 0, 2])
    # Row 0 of H is all ones, row 7 has the sign of every index's parity.
    assert transform(x, 3).tolist() == [3, -1, -1, 3, -1, 3, 3, -1]
    # Blocks of two within the same row.
    assert transform(x, 1).tolist() == [1, 1, 0, 0, 0, 0, 2, -2]


def test_large_sums_saturate_after_the_shift():
    x = np.full((1, 4), -32768, np.int16)
    assert hadamard(x, 2, 1).tolist() == [[-32767, 0, 0, 0]]
    assert hadamard(x, 2, 2).tolist() == [[-32767, 0, 0, 0]]
    assert hadamard(x, 2, 3).tolist() == [[-16384, 0, 0, 0]]


@pytest.mark.parametrize("bits", range(1, LENGTH_BITS_MAX + 1))
def test_matches_sylvester_and_is_its_own_inverse(bits):
    n = 1 << bits
    index = np.arange(n)
    signs = 1 - 2 * (np.bitwise_count(index[:, None] & index) % 2).astype(np.int64)
    x = np.random.default_rng(bits).integers(-32768, 32768, (3, 2 * n)).astype(np.int16)
    y = transform(x, bits)
    assert np.array_equal(y, (x.reshape(3, 2, n).astype(np.int64) @ signs).reshape(3, -1))
    assert np.abs(y).max() <= 1 << (15 + bits)
    assert np.array_equal(transform(y, bits), x.astype(np.int64) * n)
