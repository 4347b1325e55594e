"""An order of the residual's channels changes nothing but where they lie."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.forward import forward
from compiler.frontends.load import load_model
from compiler.quant.integer_input import placed_exponents, token_scaled_error
from compiler.residual_order import order_within, reordered_model


def test_order_by_hand() -> None:
    sizes = np.array([1.0, 3.0, 2.0, 0.0, 5.0, 4.0])
    np.testing.assert_array_equal(order_within(sizes, 4), [1, 2, 0, 3, 4, 5])


@pytest.mark.parametrize("shape", ["tiny", "tiny-qwen3", "tiny-opt", "tiny-bloom"])
def test_logits_stay(shape: str) -> None:
    model = load_model(f"shape:{shape}")
    random = np.random.default_rng(3)
    order = random.permutation(model.architecture.width)
    tokens = random.integers(0, model.architecture.vocabulary, 12)
    made, expected = forward(reordered_model(model, order), tokens), forward(model, tokens)
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_chunk_exponents_by_hand() -> None:
    """Groups of 4 in chunks of 2: a chunk has at least what is behind it in its group."""
    wanted = np.array([0, 3, 1, 2, 4, 0, 0, 1], np.uint8)
    alphas, order = placed_exponents(wanted, 4, 2, ordered=False)
    np.testing.assert_array_equal(alphas, [3, 2, 4, 1])
    np.testing.assert_array_equal(order, np.arange(8))
    alphas, order = placed_exponents(wanted, 4, 2, ordered=True)
    np.testing.assert_array_equal(alphas, [3, 1, 4, 0])
    np.testing.assert_array_equal(order, [1, 3, 2, 0, 4, 7, 5, 6])


def test_rounding_error_by_hand() -> None:
    """127 steps of the peak 127 are exact; an exponent of 1 halves the outlier and the step."""
    x = np.array([[254.0, 1.0]], np.float32)
    assert token_scaled_error(x, np.zeros(2), 127, None) == 1.0
    assert token_scaled_error(x, np.array([1, 0]), 127, None) == 0.0
    assert token_scaled_error(x, np.zeros(2), 127, np.array([[5.0, 3.0]])) == 9.0
