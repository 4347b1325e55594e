"""Vector quantization of weights: each step by hand, all of them on random layers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ir.matmul import CENTROID_SUM_MAX
from compiler.quant.codebooks import fit_books, round_books, row_integers
from compiler.quant.descent import descend
from compiler.quant.feedback import feed_back
from compiler.quant.gptvq import fitted_scales, gptvq
from compiler.quant.hessian import output_error
from compiler.quant.integer_books import descend_books
from compiler.quant.vector import plain_vectors
from compiler.quant.vectors import DAMPING, VectorProblem, vector_problem


def problem_of(targets: list[list[float]], moments: list[list[float]],
               scales: list[float] | None = None, length: int = 1) -> VectorProblem:
    """A problem as it stands, without normalization and damping."""
    rows = np.array(targets, np.float32)
    return VectorProblem(
        targets=rows, scales=np.array(scales or [1.0] * len(rows), np.float32),
        moments=np.array([moments], np.float32), length=length, group_columns=16,
        inputs=rows.shape[1])


def layer(seed: int, rows: int, inputs: int, blocks: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A weight and the second moments of correlated inputs."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(rows, inputs)).astype(np.float32)
    mixing = rng.normal(size=(blocks, inputs, inputs)) * rng.uniform(0.3, 2, (blocks, 1, inputs))
    x = rng.normal(size=(blocks, 8 * inputs, inputs // 2 + 1)) @ mixing[:, :inputs // 2 + 1]
    x += 0.3 * rng.normal(size=x.shape)
    return weight, (x.transpose(0, 2, 1) @ x).astype(np.float32)


def cost(problem: VectorProblem, books: np.ndarray, indices: np.ndarray) -> float:
    gaps = (problem.chosen(books, indices) - problem.targets) * problem.scales[:, None]
    return float((problem.times_moments(gaps) * gaps).sum())


def test_problem_by_hand():
    weight = np.array([[3, 4, 0], [0, 0, 0]], np.float32)
    problem = vector_problem(weight, np.diag([1.0, 2.0, 4.0])[None].astype(np.float32), 2, 16)
    np.testing.assert_allclose(problem.scales, [np.sqrt(25 / 3), 0])
    np.testing.assert_allclose(problem.targets[0] * problem.scales[0], [3, 4, 0, 0], rtol=1e-6)
    assert not problem.targets[1].any()
    diagonal = np.diagonal(problem.moments[0])
    np.testing.assert_allclose(diagonal[:3], [0.5 + DAMPING, 1 + DAMPING, 2 + DAMPING])
    assert 0 < diagonal[3] < 0.01
    assert (problem.positions, problem.groups) == (2, 1)


def test_problem_checks_shapes():
    with pytest.raises(ValueError, match=r"hessians \(3, 8, 8\) do not fit a weight \(4, 8\)"):
        vector_problem(np.ones((4, 8), np.float32), np.ones((3, 8, 8), np.float32), 2, 16)


def test_feedback_by_hand():
    """The error 0.6 - 1 of the first input moves the second by 2 / 4 of it, from 0.8 to 0.6.

    Behind that, an error of the first input costs 5 - 2 * 2 / 4 = 4 for its square.
    """
    problem = problem_of([[0.6, 0.8]], [[5, 2], [2, 4]])
    seen = []

    def choose(position, vectors, roots):
        seen.append((position, float(vectors[0, 0]), float(roots[0, 0, 0]) ** 2))
        return np.round(vectors)

    feed_back(problem, choose)
    np.testing.assert_allclose(seen, [(0, 0.6, 4), (1, 0.6, 4)], rtol=1e-5)


def test_feedback_takes_the_largest_inputs_first():
    problem = problem_of([[0.1, 0.2, 0.3, 0.4]], np.diag([1.0, 2, 3, 4]).tolist(), length=2)
    seen = []

    def choose(position, vectors, roots):
        seen.append((position, vectors[0].tolist()))
        return vectors

    feed_back(problem, choose)
    assert [position for position, _ in seen] == [1, 0]
    np.testing.assert_allclose([vector for _, vector in seen], [[0.3, 0.4], [0.1, 0.2]])


def test_descent_by_hand():
    """Entries 0 and 1 for two inputs that go together: 0.6 + 0.6 is best met by 1 + 0."""
    problem = problem_of([[0.6, 0.6]], [[1, 0.9], [0.9, 1]])
    books = np.array([0, 1], np.float32).reshape(1, 1, 2, 1).repeat(2, axis=0)
    indices = np.zeros((2, 1), np.uint8)
    errors = descend(problem, books, indices, 1)
    assert indices.tolist() == [[1], [0]]
    np.testing.assert_allclose(errors, [[0.4, -0.6]], rtol=1e-6)


def test_fit_by_hand():
    """Rows of scales 1 and 2 share an entry: (1 * 1 + 4 * 2) / 5; an unused entry stays."""
    problem = problem_of([[1], [2]], [[1]], scales=[1, 2])
    books = np.array([0, 7], np.float32).reshape(1, 1, 2, 1)
    made = fit_books(problem, books, np.zeros((1, 2), np.uint8), 2)
    np.testing.assert_allclose(made.reshape(-1), [1.8, 7], rtol=1e-6)


def test_fit_is_least_squares():
    weight, hessians = layer(3, 10, 6, blocks=2)
    problem = vector_problem(weight, hessians, 2, 16)
    rng = np.random.default_rng(4)
    indices = rng.integers(0, 2, (3, 10)).astype(np.uint8)
    made = fit_books(problem, np.zeros((3, 1, 2, 2), np.float32), indices, 24)
    # The cost is |R (Q(books) - targets)|^2 with a root R of the moments of each row.
    roots = np.linalg.cholesky(problem.moments.astype(np.float64)).transpose(0, 2, 1)
    design, wanted = [], []
    for m in range(10):
        of_books = np.zeros((6, made.size))
        for p in range(3):
            for i in range(2):
                of_books[2 * p + i, (p * 2 + indices[p, m]) * 2 + i] = 1
        design.append(problem.scales[m] * roots[m // 5] @ of_books)
        wanted.append(problem.scales[m] * roots[m // 5] @ problem.targets[m])
    best = np.linalg.lstsq(np.concatenate(design), np.concatenate(wanted), rcond=None)[0]
    np.testing.assert_allclose(made.reshape(-1), best, atol=1e-3)


def test_scales_by_hand():
    """6 is twice 3; a row that points away from what stands for it keeps its scale."""
    made = fitted_scales(problem_of([[6], [6]], [[1]]), np.array([[3], [-1]], np.float32))
    assert made.scales.tolist() == [2, 1]
    assert made.targets.reshape(-1).tolist() == [3, 6]


def test_rounding_by_hand():
    """The whole range of 127 has a step of 1; what matters decides whether 127 saturates."""
    books = np.array([[127, 0], [0.4, 0]], np.float32).reshape(1, 1, 2, 2)
    codebooks, steps = round_books(books, np.ones_like(books))
    assert (codebooks.reshape(2, 2).tolist(), steps.tolist()) == ([[127, 0], [0, 0]], [1])
    small = np.array([[0, 0], [1, 1]], np.float32).reshape(1, 1, 2, 2)
    codebooks, steps = round_books(books, small)
    assert codebooks[0, 0, :, 0].tolist() == [127, 1]
    np.testing.assert_allclose(steps, [0.42], rtol=1e-6)


def test_integer_entries_by_hand():
    """10 + 10 stands for 10.4 + 10.4. Beside the second's -0.4, 10.76 is the first's best.

    Beside 11, the second's best is 10.4 - 0.9 * 0.6 = 9.86. Another entry, of no row, stays.
    """
    problem = problem_of([[10.4, 10.4]], [[1, 0.9], [0.9, 1]])
    codebooks = np.array([[10, 3], [10, 5]], np.int8).reshape(2, 1, 2, 1)
    descend_books(problem, codebooks, np.ones(1, np.float32), np.zeros((2, 1), np.uint8))
    assert codebooks.reshape(2, 2).tolist() == [[11, 3], [10, 5]]


@pytest.mark.parametrize(("entry", "made"), [
    ([120, 100, 20, 11], [127, 100, 20, 11]), ([64, 64, 64, 60], [70, 64, 64, 60])])
def test_integer_entries_fit_a_row(entry, made):
    """Towards 150 an element goes to 127 at most, and as far as the others leave of 258."""
    problem = problem_of([[150, 150, 150, 150]], np.eye(4).tolist(), length=4)
    codebooks = np.array(entry, np.int8).reshape(1, 1, 1, 4)
    descend_books(problem, codebooks, np.ones(1, np.float32), np.zeros((1, 1), np.uint8))
    assert codebooks.reshape(-1).tolist() == made


def test_entries_fit_a_row():
    """Four of 127 add up to 508; 258 fit."""
    rounded = row_integers(np.array([[127, 127, 127, -127], [100, 100, 58, 0], [300, 1, 0, 0]]))
    assert rounded.tolist() == [[64, 64, 64, -64], [100, 100, 58, 0], [127, 1, 0, 0]]


def test_plain_by_hand():
    weight = np.array([[1, 2, 0], [1, 2, 4], [-1, 0, 4], [-1, 0, 0]], np.float32)
    made = plain_vectors(weight, 2, 2, 16, 0)
    assert made.codebooks.shape == (2, 1, 2, 2)
    np.testing.assert_allclose(made.dense(), weight, atol=4 / 127 / 2)


@given(st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_descent_never_costs(seed):
    weight, hessians = layer(seed, 12, 10, blocks=2)
    problem = vector_problem(weight, hessians, 2, 8)
    rng = np.random.default_rng(seed)
    books = rng.normal(size=(5, 2, 8, 2)).astype(np.float32)
    indices = rng.integers(0, 8, (5, 12)).astype(np.uint8)
    before = cost(problem, books, indices)
    errors = descend(problem, books, indices, 2)
    assert cost(problem, books, indices) <= before * (1 + 1e-5)
    np.testing.assert_allclose(
        errors, problem.chosen(books, indices) - problem.targets, atol=1e-5)
    fitted = fit_books(problem, books, indices, 4)
    assert cost(problem, fitted, indices) <= cost(problem, books, indices) * (1 + 1e-5)
    codebooks, steps = round_books(fitted, np.ones_like(fitted))
    rounded = cost(problem, codebooks * steps[:, None, None], indices)
    descend_books(problem, codebooks, steps, indices)
    assert cost(problem, codebooks * steps[:, None, None], indices) <= rounded * (1 + 1e-5)


@pytest.mark.parametrize(("length", "codes", "inputs"),
                         [(1, 4, 33), (2, 16, 130), (2, 16, 131), (4, 16, 70)])
def test_better_than_plain(length, codes, inputs):
    weight, hessians = layer(inputs, 80, inputs)
    made = gptvq(weight, hessians, length, codes, 64, 0)
    plain = plain_vectors(weight, length, codes, 64, 0)
    positions = -(-inputs // length)
    assert (made.codebooks.shape, made.codebooks.dtype) == ((positions, 2, codes, length), np.int8)
    assert (made.indices.shape, made.indices.dtype) == ((positions, 80), np.uint8)
    assert np.abs(made.codebooks.astype(int)).sum(axis=3).max() <= CENTROID_SUM_MAX
    error = output_error(weight, made.dense(), hessians)
    assert error < 0.6 * output_error(weight, plain.dense(), hessians)
    assert error < output_error(weight, gptvq(weight, hessians, length, codes, 64, 0,
                                              rounds=0).dense(), hessians)


def test_few_vectors_are_kept():
    """Rows that are multiples of one another need one entry, and keep their scales."""
    rng = np.random.default_rng(0)
    row, hessians = rng.normal(size=20), layer(1, 2, 20)[1]
    weight = np.outer([1, 0.25, 3, 0, 10], row).astype(np.float32)
    made = gptvq(weight, hessians, 2, 4, 16, 0)
    assert made.scales[3] == 0
    assert output_error(weight, made.dense(), hessians) < 1e-4 * output_error(
        weight, np.zeros_like(weight), hessians)


def test_nothing_to_learn():
    """More entries than rows keep every row; zeros stay zeros, also without any input."""
    weight, hessians = layer(6, 6, 8)
    made = gptvq(weight, hessians, 2, 16, 16, 0)
    np.testing.assert_allclose(made.dense(), weight, atol=0.05)
    zeros = gptvq(np.zeros((6, 8), np.float32), np.zeros((1, 8, 8), np.float32), 2, 16, 16, 0)
    assert not zeros.dense().any()


def test_blocks_of_rows():
    """Blocks with the same moments are one; blocks with their own are better off with them."""
    weight, hessians = layer(2, 48, 24)
    one = gptvq(weight, hessians, 2, 8, 32, 0)
    two = gptvq(weight, hessians.repeat(2, axis=0), 2, 8, 32, 0)
    np.testing.assert_allclose(
        output_error(weight, one.dense(), hessians), output_error(weight, two.dense(), hessians),
        rtol=0.02)
    weight, hessians = layer(5, 48, 24, blocks=3)
    own = gptvq(weight, hessians, 2, 8, 32, 0)
    mixed = gptvq(weight, hessians.mean(axis=0, keepdims=True), 2, 8, 32, 0)
    assert output_error(weight, own.dense(), hessians) < output_error(
        weight, mixed.dense(), hessians)


def test_a_seed_gives_the_same_weights():
    weight, hessians = layer(7, 40, 16)
    first, second = (gptvq(weight, hessians, 2, 8, 64, 3) for _ in range(2))
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_array_equal(first.codebooks, second.codebooks)
    np.testing.assert_array_equal(first.scales, second.scales)
