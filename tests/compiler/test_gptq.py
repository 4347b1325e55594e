"""Grouped weights: rounding and GPTQ, worked by hand and against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.quant.gptq import gptq
from compiler.quant.hessian import damped, inverse_factor, output_error
from compiler.quant.rounding import PLAIN, group_ranges, round_to_nearest


def moments_of(seed: int, inputs: int, tokens: int = 400) -> np.ndarray:
    """Second moments of correlated inputs with outlier channels."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(inputs, inputs)) + 2 * np.eye(inputs)
    mixing[:, 0] *= 8
    x = random.normal(size=(tokens, inputs)) @ mixing
    return (x.T @ x / tokens)[None]


def test_plain_rounding_by_hand() -> None:
    weight = np.array([[-8.0, 0.4, 3.6, 7.0, 0.0, 30.0, 15.0, 7.0]], np.float32)
    made = round_to_nearest(weight, 4, 4, asymmetric=True, clips=PLAIN)
    # Group 0 spans -8..7 in 15 steps of 1; group 1 spans 0..30 in steps of 2.
    np.testing.assert_array_equal(made.scales, [[1.0, 2.0]])
    np.testing.assert_array_equal(made.minima, [[0.0, 16.0]])
    np.testing.assert_array_equal(made.codes, [[-8, 0, 4, 7, -8, 7, 0, -4]])
    np.testing.assert_array_equal(made.dense(), [[-8, 0, 4, 7, 0, 30, 16, 8]])


def test_symmetric_rounding_by_hand() -> None:
    weight = np.array([[-3.5, 1.2, 7.0]], np.float32)
    made = round_to_nearest(weight, 4, 4, clips=PLAIN)
    assert made.minima is None
    assert made.inputs == 3
    np.testing.assert_array_equal(made.scales, [[1.0]])
    # 3.5 rounds to the even 4.
    np.testing.assert_array_equal(made.codes, [[-4, 1, 7, 0]])
    np.testing.assert_array_equal(made.dense(), [[-4, 1, 7]])


def test_clipping_pays_for_an_outlier_that_hardly_counts() -> None:
    weight = np.array([[1.0, -1.0, 0.9, 2.0]], np.float32)
    counts = np.array([1.0, 1.0, 1.0, 1e-4], np.float32)
    scale, _ = group_ranges(weight, 4, 4, asymmetric=False, importance=counts)
    whole, _ = group_ranges(weight, 4, 4, asymmetric=False, clips=PLAIN)
    assert scale[0, 0] < whole[0, 0] == pytest.approx(2 / 7)


def test_inverse_factor_by_hand() -> None:
    hessian = np.array([[2.0, 1.0], [1.0, 1.0]])
    factor = inverse_factor(hessian)
    np.testing.assert_allclose(factor, [[1.0, -1.0], [0.0, 1.0]], atol=1e-12)
    np.testing.assert_allclose(factor.T @ factor, np.linalg.inv(hessian), atol=1e-12)


def test_inputs_that_never_occur_are_damped() -> None:
    hessian = damped(np.diag([4.0, 0.0]), damping=0.5)
    np.testing.assert_allclose(hessian, np.diag([6.0, 6.0]))


def test_output_error_counts_each_block_of_rows() -> None:
    weight, made = np.array([[1.0, 0.0], [0.0, 2.0]]), np.zeros((2, 2))
    hessians = np.stack([np.diag([3.0, 1.0]), np.diag([1.0, 5.0])])
    assert output_error(weight, made, hessians) == pytest.approx(3.0 + 20.0)


def test_feedback_by_hand() -> None:
    """Two inputs that always come together: the second makes good what the first loses."""
    hessian = np.array([[[1.0, 0.999], [0.999, 1.0]]])
    weight = np.array([[0.4, 0.4, 7.0, 0.0]], np.float32)
    hessian = np.pad(hessian, ((0, 0), (0, 2), (0, 2)))
    hessian[0, 2, 2] = hessian[0, 3, 3] = 1.0
    nearest = round_to_nearest(weight, 4, 4, clips=PLAIN)
    fed = gptq(weight, hessian, 4, 4, sweeps=0)
    assert nearest.dense()[0, :2].sum() == 0
    assert fed.dense()[0, :2].sum() == pytest.approx(fed.scales[0, 0])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([4, 8]), st.booleans(), st.sampled_from([1, 2]))
def test_every_step_lowers_the_output_error(
    seed: int, group: int, asymmetric: bool, blocks: int
) -> None:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(6, 22)).astype(np.float32)
    hessians = np.concatenate([moments_of(seed + n, 22) for n in range(blocks)])
    damping = np.stack([damped(hessian) for hessian in hessians])
    errors = [output_error(weight, made.dense(), damping) for made in (
        round_to_nearest(weight, 4, group, asymmetric=asymmetric, clips=PLAIN),
        gptq(weight, hessians, 4, group, asymmetric=asymmetric, sweeps=0),
        gptq(weight, hessians, 4, group, asymmetric=asymmetric, sweeps=2))]
    assert errors[2] <= errors[1] * 1.0001
    assert errors[2] < errors[0]


def test_descent_reaches_the_best_codes_of_a_small_row() -> None:
    hessian = moments_of(3, 4)
    weight = np.array([[0.9, -0.35, 0.2, 0.6]], np.float32)
    made = gptq(weight, hessian, 4, 4, sweeps=3)
    scale = float(made.scales[0, 0])
    near = np.round(weight[0] / scale).astype(int)
    tried = itertools.product(*[range(code - 2, code + 3) for code in near])
    best = min(output_error(weight, np.array([codes]) * scale, damped(hessian[0])[None])
               for codes in tried if max(codes) <= 7 and min(codes) >= -8)
    assert output_error(weight, made.dense(), damped(hessian[0])[None]) <= best * 1.5


def test_rows_in_another_order() -> None:
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    made = round_to_nearest(weight, 8, 4)
    moved = made.rows(np.array([2, -1, 0]))
    np.testing.assert_array_equal(moved.dense()[[0, 2]], made.dense()[[2, 0]])
    np.testing.assert_array_equal(moved.dense()[1], 0)
