"""Low-rank compensation against cases worked by hand and against its optimality."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.quant.hessian import damped, output_error
from compiler.quant.lowrank import (
    low_rank,
    rank_bits,
    rounded,
    variance_subspace,
    without_subspace,
)


def test_by_hand():
    """Errors 3 and 4 of two inputs; the second input is 100 times as strong."""
    weight = np.array([[3, 0], [0, 4]], np.float32)
    plain = np.eye(2, dtype=np.float32)[None]
    down, up = low_rank(weight, np.zeros_like(weight), plain, 1)
    np.testing.assert_allclose(up @ down, [[0, 0], [0, 4]], atol=1e-6)
    strong = np.diag([100, 1]).astype(np.float32)[None]
    down, up = low_rank(weight, np.zeros_like(weight), strong, 1)
    np.testing.assert_allclose(up @ down, [[3, 0], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(down, axis=1), 1)


@pytest.mark.parametrize("shape", [(6, 10), (12, 5)])
def test_full_rank_leaves_no_error(shape):
    generator = np.random.default_rng(0)
    weight, quantized = generator.standard_normal((2, *shape)).astype(np.float32)
    x = generator.standard_normal((40, shape[1])).astype(np.float32)
    down, up = low_rank(weight, quantized, (x.T @ x)[None], min(shape))
    np.testing.assert_allclose(quantized + up @ down, weight, atol=1e-4)
    down, up = low_rank(weight, quantized, (x.T @ x)[None], 0)
    assert up.shape == (shape[0], 0)
    assert down.shape == (0, shape[1])


@given(seed=st.integers(0, 2**31), rows=st.integers(2, 9), inputs=st.integers(2, 9),
       blocks=st.sampled_from([1, 2]))
def test_best_of_its_rank(seed, rows, inputs, blocks):
    """No better factors are found by alternating least squares from random ones."""
    generator = np.random.default_rng(seed)
    rows *= blocks
    weight, quantized = generator.standard_normal((2, rows, inputs)).astype(np.float32)
    x = generator.standard_normal((blocks, 3 * inputs, inputs)).astype(np.float32)
    hessians = np.repeat((x.swapaxes(1, 2) @ x).mean(axis=0, keepdims=True), blocks, axis=0)
    weighted = damped(hessians[0])[None].repeat(blocks, axis=0)
    rank = min(rows, inputs) // 2
    down, up = low_rank(weight, quantized, hessians, rank)
    found = output_error(weight, quantized + up @ down, weighted)
    error = (weight - quantized).astype(np.float64)
    other = generator.standard_normal((rank, inputs))
    for _ in range(5):
        left = error @ weighted[0] @ other.T @ np.linalg.pinv(other @ weighted[0] @ other.T)
        other = np.linalg.pinv(left) @ error
    assert found <= output_error(weight, quantized + left @ other, weighted) * (1 + 1e-4)


def test_rank_beyond_the_weights():
    weight = np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match=r"^rank must be from 0 to 3, not 4$"):
        low_rank(weight, weight, np.eye(4, dtype=np.float32)[None], 4)


def test_variance_subspace():
    """Inputs along (3, 4) / 5 with a small second direction."""
    x = np.outer([5.0, -5.0, 10.0], [0.6, 0.8]) + 0.01 * np.array([[0.8, -0.6], [0, 0], [0, 0]])
    directions = variance_subspace((x.T @ x).astype(np.float32), 1)
    np.testing.assert_allclose(np.abs(directions), [[0.6, 0.8]], atol=1e-3)
    weight = np.array([[1, 2], [3, -4]], np.float32)
    rest, kept = without_subspace(weight, directions)
    np.testing.assert_allclose(rest @ directions.T, 0, atol=1e-6)
    np.testing.assert_allclose(rest + kept @ directions, weight, atol=1e-6)


def test_rounded_and_bits():
    np.testing.assert_allclose(rounded(np.array([[127, 63.4], [0, 0]], np.float32)),
                               [[127, 63], [0, 0]])
    assert rank_bits((1536, 576), 64) == pytest.approx(64 * 8 * (1 / 1536 + 1 / 576))
