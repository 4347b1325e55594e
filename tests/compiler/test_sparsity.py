"""Thresholds of skipped positions, and decoders that skip them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler.decoder.golden_linear import exact_linear
from compiler.decoder.quantize import quantize_decoder
from compiler.decoder.quantized import FloatLinear
from compiler.errors import CompileError
from compiler.frontends.load import load_model
from compiler.image.layout import pack_factors, pack_thresholds, unpack_factors, unpack_thresholds
from compiler.quant.centering import center, half_sample_modes
from compiler.quant.quantized import PositionSkip, same_skip
from compiler.quant.quantizer import LinearSpec, quantize_linears
from compiler.quant.scheme import RowgenScheme, SchemeMap, load_scheme
from compiler.quant.sparsity import (
    column_norms,
    magnitude_thresholds,
    position_sizes,
    position_skip,
)
from hw.errors import ConfigError
from hw.golden.sparsity import kept_positions
from hw.presets import load_hardware

TINY = load_hardware("tiny")
SPARSE = RowgenScheme(name="sparse", skip_zeros=True, sparsity=0.4)


def test_thresholds_by_hand() -> None:
    weights = [np.array([[3, 0, 0, 1], [4, 0, 0, 0]], np.float32),
               np.array([[0, 0, 2, 0]], np.float32)]
    norms = column_norms(weights)
    np.testing.assert_array_equal(norms, [5, 0, 2, 1])
    x = np.array([[1, 9, 1, -4], [-2, 0, 0.5, 0.5]], np.float32)
    np.testing.assert_array_equal(position_sizes(x, norms, 2), [[5, 4], [10, 1]])
    # Half of 1, 4, 5, 10 is below 4.5.
    steps = magnitude_thresholds(x, norms, 2, 0.5, x_scale=0.25)
    np.testing.assert_array_equal(steps, [3, 32767, 9, 18])
    integers = np.round(x / 0.25).astype(np.int16)
    np.testing.assert_array_equal(kept_positions(integers, steps, 2),
                                  [[True, False], [True, False]])


def test_fraction_of_the_calibration_is_dropped() -> None:
    random = np.random.default_rng(0)
    x = random.laplace(size=(64, 50)).astype(np.float32) * random.uniform(0.1, 3, 50)
    weights = [random.standard_normal((20, 50)).astype(np.float32)]
    skip = position_skip(x, 1e-3, weights, 2, 0.3, 64)
    assert skip.thresholds is not None
    assert skip.thresholds.shape == (64,)
    kept = kept_positions(np.round(x / 1e-3).astype(np.int16), skip.thresholds[:50], 2)
    assert kept.mean() == pytest.approx(0.7, abs=0.01)
    assert position_skip(x, 1e-3, weights, 2, 0.0, 64).thresholds is None
    assert same_skip(skip, PositionSkip(vector_length=2, thresholds=skip.thresholds.copy()))
    assert not same_skip(skip, None)
    assert not same_skip(skip, PositionSkip(vector_length=2, thresholds=None))


def test_layers_of_one_input_share_their_thresholds() -> None:
    random = np.random.default_rng(1)
    x = random.standard_normal((32, 24)).astype(np.float32)
    specs = [LinearSpec(name=name, input_name="x", bias=None, blocks=None, scheme=scheme,
                        weight=random.standard_normal((20, 24)).astype(np.float32))
             for name, scheme in (("a", SPARSE), ("b", SPARSE), ("c", dataclasses.replace(
                 SPARSE, sparsity=0.2)))]
    made = quantize_linears(specs, {"x": x}, TINY)
    assert made["a"].input is made["b"].input
    expected = position_skip(x, made["a"].input.x_scale, [specs[0].weight, specs[1].weight], 2,
                             0.4, 24)
    assert same_skip(made["a"].input.skip, expected)
    assert not same_skip(made["a"].input.skip, made["c"].input.skip)


def test_region_holds_factors_and_thresholds() -> None:
    random = np.random.default_rng(2)
    alphas = random.integers(0, 5, 6 * TINY.chunks_per_word).astype(np.uint8)
    steps = random.integers(0, 32768, 6 * TINY.word_elements).astype(np.int16)
    data = pack_thresholds(alphas, steps, TINY)
    assert data[:8] == pack_factors(alphas, TINY)[:8]
    np.testing.assert_array_equal(unpack_factors(data, 6, TINY).reshape(-1), alphas)
    np.testing.assert_array_equal(unpack_thresholds(data, 6, TINY), steps)


def test_float_linears_drop_their_inputs() -> None:
    weight = np.array([[1, 1, 1, 1]], np.float32)
    linear = FloatLinear(
        weight=weight, bias=np.zeros(1, np.float32), x_scale=1.0, y_scale=np.ones(1), skip=
        PositionSkip(vector_length=2, thresholds=np.array([4, 4, 4, 4, 0, 0], np.int16)))
    x = np.array([[3, 4, 5, 1], [-5, 0, 4, -4]], np.int16)
    np.testing.assert_array_equal(exact_linear(linear, x, wide=False), [[6], [-5]])


@pytest.mark.parametrize(("changes", "message"), [
    ({"sparse": False}, "does not skip positions"),
    ({"operand_words": 16}, "rounds of inputs, its position lists hold 4$"),
])
def test_hardware_must_have_lists(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        quantize_decoder(load_model("shape:tiny"), SchemeMap(name="sparse", default=SPARSE),
                         dataclasses.replace(TINY, **changes), list(range(32)), 8)


def test_scheme_keys(tmp_path) -> None:
    assert load_scheme("rowgen-2bit-sparse").default.sparsity == 0.4
    assert not load_scheme("rowgen-2bit").default.skips
    path = tmp_path / "own.yaml"
    for line, message in (("sparsity: 1.5", "sparsity must be from 0 to 0.95, not 1.5$"),
                          ("skip_zeros: 1", "skip_zeros must be true or false, not 1$")):
        path.write_text(f"kind: rowgen\n{line}\n")
        with pytest.raises(ConfigError, match=message):
            load_scheme(str(path))


def test_modes_by_hand() -> None:
    x = np.array([[0, 5], [9, 5.5], [10, 0], [10.5, 9], [30, 2]], np.float32)
    # The densest 3 are 9, 10, 10.5 and 5, 5.5, 2: of them 10, 10.5 and 5, 5.5 are closest.
    np.testing.assert_array_equal(half_sample_modes(x), [10.25, 5.25])
    np.testing.assert_array_equal(half_sample_modes(np.array([[1], [2], [3]], np.float32)), [2])
    np.testing.assert_array_equal(half_sample_modes(np.array([[1], [2]], np.float32)), [1.5])


def test_centering_changes_no_output() -> None:
    random = np.random.default_rng(3)
    x = random.exponential(size=(40, 6)).astype(np.float32)
    weight, bias = random.standard_normal((5, 6)), random.standard_normal(5)
    modes = half_sample_modes(x)
    of_norm, of_linear = center(modes, None, weight, bias)
    np.testing.assert_allclose((x + of_norm) @ weight.T + of_linear, x @ weight.T + bias, atol=1e-5)
    assert np.abs(x + of_norm).mean() < np.abs(x).mean()
    again, _ = center(modes, of_norm, weight, None)
    np.testing.assert_allclose(again, -2 * modes)
