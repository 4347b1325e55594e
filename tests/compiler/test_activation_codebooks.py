"""Activation codebooks and tables of lut2d, worked by hand and on a small decoder."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler.decoder.evaluate import evaluate
from compiler.decoder.quantize import quantize_decoder
from compiler.frontends.load import load_model
from compiler.quant.activation_codebooks import (
    activation_codebooks,
    search_divisors,
    vector_quantized,
)
from compiler.quant.lut2d import by_place, fitted_search
from compiler.quant.scheme import Lut2dScheme, load_scheme
from hw.presets import load_hardware

ONES = np.ones(2, np.float32)


def test_divisors_by_hand() -> None:
    """Column norms 4 and 1: an error of the first costs four times as much."""
    weight = np.array([[4.0, 0.0, 3.0], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(search_divisors([weight], 2)[:2], [0.5, 2.0])
    # Both weights count: norms 5 and 5.
    other = np.array([[3.0, np.sqrt(24.0), 0.0]])
    np.testing.assert_allclose(search_divisors([weight, other], 2)[:2], [1.0, 1.0], rtol=1e-6)


def test_nearest_centroid_by_the_largest_difference() -> None:
    x = np.array([[0.0, 3.0]], np.float32)
    centroids = np.array([[[2.5, 3.0], [2.0, 1.0]]], np.float32)
    # Chebyshev: 2.5 against 2; Euclid: 2.5 against sqrt(8).
    np.testing.assert_array_equal(vector_quantized(x, centroids, ONES, l2=False), [[2.0, 1.0]])
    np.testing.assert_array_equal(vector_quantized(x, centroids, ONES, l2=True), [[2.5, 3.0]])
    # Where the second element counts four times as much as the first, the first is nearer.
    divisors = np.array([2.0, 0.5], np.float32)
    np.testing.assert_array_equal(vector_quantized(x, centroids, divisors, l2=False), [[2.5, 3.0]])


def test_tokens_count_by_their_weight() -> None:
    x = np.array([[0.0, 0.0], [1.0, 1.0], [9.0, 9.0], [9.0, 9.0]], np.float32)
    counts = np.array([3.0, 1.0, 1.0, 1.0], np.float32)
    found = activation_codebooks(x, counts, ONES, 2, 2, l2=False, seed=0)
    np.testing.assert_allclose(np.sort(found[0, :, 0]), [0.25, 9.0])


def test_centroids_move_into_a_divided_input() -> None:
    centroids = np.array([[[2.0, 3.0]], [[4.0, 0.0]]], np.float32)
    scheme = Lut2dScheme(name="lut2d", act_codes=2)
    divisors = np.array([2.0, 0.5, 4.0], np.float32)
    made = fitted_search(centroids, divisors, 0.5, scheme)
    np.testing.assert_array_equal(made.centroids, [[[2, 12]], [[2, 0]]])
    back = made.centroids * (0.5 * by_place(divisors, made.centroids))
    np.testing.assert_array_equal(back, centroids)


def test_fitted_weights_are_nearer_than_plain_ones() -> None:
    model, hardware = load_model("shape:tiny"), load_hardware("tiny")
    random = np.random.default_rng(5)
    text = random.integers(0, model.architecture.vocabulary, 2200)
    errors = {}
    for method in ("kmeans", "gptvq"):
        scheme = load_scheme("lut2d-tiny")
        scheme = dataclasses.replace(
            scheme, default=dataclasses.replace(scheme.default, method=method))
        decoder = quantize_decoder(model, scheme, hardware, text[:2000], 40)
        errors[method] = evaluate(model, decoder, text[2000:].tolist(), 40).residual_error
    assert errors["gptvq"] < errors["kmeans"]


@pytest.mark.parametrize("codes", [16, 256, 300])
def test_as_many_centroids_as_points_change_nothing(codes: int) -> None:
    x = np.random.default_rng(6).normal(size=(codes, 2)).astype(np.float32)
    found = activation_codebooks(x, np.ones(codes, np.float32), ONES, 2, codes, l2=True, seed=0)
    np.testing.assert_allclose(vector_quantized(x, found, ONES, l2=True), x, atol=1e-5)
