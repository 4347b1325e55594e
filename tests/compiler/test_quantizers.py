"""Quantizers: integers that the golden functions turn back into the float layer, nearly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler.errors import CompileError
from compiler.model import QuantizedBlocks
from compiler.quant.quantized import (
    IntegerInput,
    Lut2dLinear,
    QuantizedLinear,
    RowgenLinear,
    SimdLinear,
)
from compiler.quant.quantizer import LinearSpec, quantize_linears
from compiler.quant.scheme import load_scheme
from hw.fixed import saturate16
from hw.golden.dequant import dequantize
from hw.golden.lookup import rowgen_sums, table_sums
from hw.golden.multiplier import group_sums
from hw.golden.quantize import quantize
from hw.golden.search import search
from hw.presets import load_hardware

HARDWARE = load_hardware("sim")
INPUTS, COLUMNS, TOKENS = 72, 150, 400


def golden(layer: QuantizedLinear, x: np.ndarray) -> np.ndarray:
    """Float output of a layer run on the golden functions."""
    x_int = saturate16(np.round(x / layer.input.x_scale))
    scale = None
    if isinstance(layer.input, IntegerInput):
        places = layer.input.order
        x_int = np.where(places >= 0, x_int[:, np.maximum(places, 0)], 0).astype(np.int16)
        q, scale = quantize(x_int, layer.input.alphas, layer.input.bits)
    if isinstance(layer, Lut2dLinear):
        vectors = x_int.reshape(len(x), *layer.input.centroids.shape[::2])
        codes = search(vectors, layer.input.centroids, layer.input.l2)
        sums = table_sums(codes, layer.tables, layer.indices, layer.group_columns)
    elif isinstance(layer, RowgenLinear):
        count, length = layer.codebooks.shape[0], layer.codebooks.shape[3]
        vectors = q[:, :count * length].reshape(len(x), count, length)
        sums = rowgen_sums(vectors, layer.codebooks, layer.indices, layer.group_columns)
    else:
        minima = layer.minima if layer.minima is not None else np.zeros_like(layer.scales)
        sums = group_sums(q, layer.weights, layer.input.alphas, layer.scales, minima,
                          layer.group, layer.shift)
        assert np.abs(sums).max() < 2**31
    d = layer.dequantization
    y = dequantize(sums, d.zero, d.multiplier, d.bias, d.shift1, d.shift2,
                   scale if d.token_scale else None)
    return y * layer.y_scale


def case(scheme: str, *, bias: bool = False, blocks: QuantizedBlocks | None = None):
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(COLUMNS, INPUTS)).astype(np.float32) * 0.1
    if blocks is not None:
        grouped = blocks.codes.reshape(COLUMNS, -1, 32) * blocks.scales[..., None]
        if blocks.minima is not None:
            grouped = grouped + blocks.minima[..., None]
        weight = grouped.reshape(COLUMNS, -1).astype(np.float32)
    x = rng.normal(size=(TOKENS, weight.shape[1])).astype(np.float32)
    x[:, 3] *= 12  # an outlier channel
    spec = LinearSpec(
        name="layer", input_name="x", weight=weight,
        bias=rng.normal(size=COLUMNS).astype(np.float32) if bias else None,
        blocks=blocks, scheme=load_scheme(scheme).default,
    )
    layer = quantize_linears([spec], {"x": x}, HARDWARE)["layer"]
    y = x @ weight.T + (spec.bias if spec.bias is not None else 0)
    return layer, x, y


def error(layer: QuantizedLinear, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.linalg.norm(golden(layer, x) - y) / np.linalg.norm(y))


@pytest.mark.parametrize(("scheme", "bound"), [
    ("simd-w8a8", 0.02), ("simd-w4a8", 0.12), ("simd-w4a4", 0.25), ("rowgen-4bit", 0.06),
    ("rowgen-3bit", 0.16), ("rowgen-2bit", 0.40), ("lut2d", 0.60), ("lut2d-int4", 0.70),
])
@pytest.mark.parametrize("bias", [False, True])
def test_error_is_that_of_the_bits(scheme, bound, bias):
    assert error(*case(scheme, bias=bias)) < bound


def test_more_bits_are_better():
    errors = [error(*case(name)) for name in ("rowgen-2bit", "rowgen-3bit", "rowgen-4bit")]
    assert errors == sorted(errors, reverse=True)


def test_trip_helps_int4_activations_with_outliers():
    layer, x, y = case("simd-w4a4")
    scheme = dataclasses.replace(load_scheme("simd-w4a4").default, trip_max=0)
    spec = LinearSpec(name="layer", input_name="x", bias=None, blocks=None, scheme=scheme,
                      weight=np.linalg.lstsq(x, y, rcond=None)[0].T.astype(np.float32))
    plain = quantize_linears([spec], {"x": x}, HARDWARE)["layer"]
    assert error(layer, x, y) < 0.7 * error(plain, x, y)


@pytest.mark.parametrize(("kind", "scheme"), [
    ("q4_0", "simd-w4a8"), ("q4_1", "simd-w4a8"), ("q8_0", "simd-w8a8"),
])
def test_native_blocks_keep_their_codes(kind, scheme):
    rng = np.random.default_rng(1)
    low, high = (-128, 128) if kind == "q8_0" else (-8, 8)
    blocks = QuantizedBlocks(
        kind=kind,
        codes=rng.integers(low, high, (COLUMNS, 96)).astype(np.int8),
        scales=rng.normal(size=(COLUMNS, 3)).astype(np.float16).astype(np.float32),
        minima=rng.normal(size=(COLUMNS, 3)).astype(np.float32) if kind == "q4_1" else None,
    )
    layer, x, y = case(scheme, blocks=blocks)
    assert isinstance(layer, SimdLinear)
    assert layer.group == 32
    places = layer.input.order
    assert (layer.weights[:, places >= 0] == blocks.codes[:, places[places >= 0]]).all()
    assert error(layer, x, y) < 0.02


def test_same_seed_same_integers():
    first, second = case("lut2d")[0], case("lut2d")[0]
    assert (first.tables == second.tables).all()
    assert (first.indices == second.indices).all()


def test_exponents_fall_within_a_group():
    layer, *_ = case("simd-w4a4")
    chunks = layer.input.alphas.reshape(-1, layer.group // HARDWARE.simd_depth).astype(int)
    assert (np.diff(chunks, axis=1) <= 0).all()
    assert chunks.max() >= 3
    assert sorted(place for place in layer.input.order if place >= 0) == list(range(INPUTS))


@pytest.mark.parametrize(("scheme", "hardware", "message"), [
    ("lut2d", "tiny", "64 activation centroids, it searches 8"),
    ("simd-w4a8", "v80-lutllm", "it has no multiplier array"),
    ("rowgen-2bit", "v80-lutllm", "it has no row generator"),
    ("simd-w4a8", "tiny", "weight groups of 128, it takes multiples of 8 up to 64"),
])
def test_hardware_cannot_run_scheme(scheme, hardware, message):
    spec = LinearSpec(name="layer", input_name="x", weight=np.ones((8, 8), np.float32), bias=None,
                      blocks=None, scheme=load_scheme(scheme).default)
    x = {"x": np.ones((2, 8), np.float32)}
    with pytest.raises(CompileError, match=f"^layer: scheme {scheme} does not fit .*{message}$"):
        quantize_linears([spec], x, load_hardware(hardware))


def test_weights_that_are_not_finite():
    spec = LinearSpec(name="layer", input_name="x", weight=np.full((8, 8), np.nan, np.float32),
                      bias=None, blocks=None, scheme=load_scheme("simd-w4a8").default)
    with pytest.raises(CompileError, match=r"^layer: weights are not finite$"):
        quantize_linears([spec], {"x": np.ones((2, 8), np.float32)}, HARDWARE)
