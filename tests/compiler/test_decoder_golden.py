"""The golden decoder: close to float, and the same however a text is cut into runs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler import float_layer
from compiler.decoder.evaluate import evaluate
from compiler.decoder.generate import generate
from compiler.decoder.golden import GoldenDecoder
from compiler.decoder.quantize import quantize_decoder
from compiler.errors import CompileError
from compiler.forward import forward
from compiler.model import Architecture, Model, StoredTensor
from compiler.quant.scheme import SchemeMap, load_scheme
from hw.presets import load_hardware
from tests.compiler.checkpoints import TINY

HARDWARE = load_hardware("tiny")
RNG = np.random.default_rng(3)
CALIBRATION = RNG.integers(0, 256, 96)
TOKENS = RNG.integers(0, 256, 21)
ADDED = ("activation", "gated")


def architecture_of(**fields) -> Architecture:
    """A tiny architecture; some fields are set behind its checks."""
    later = {name: fields.pop(name) for name in ADDED if name in fields}
    made = dataclasses.replace(TINY, **fields)
    for name, value in later.items():
        object.__setattr__(made, name, value)
    return made


def model_of(architecture: Architecture) -> Model:
    """Random weights for all that the architecture may have."""
    rng = np.random.default_rng(11)
    shapes = dict(architecture.required())
    for i in range(architecture.layers):
        for linear in ("q", "k", "v", "o", "gate", "up", "down"):
            if architecture.linear_bias:
                shapes[f"layers.{i}.{linear}.bias"] = architecture.linear_shape(linear)[:1]
        if architecture.norm == "layer":
            for norm in ("attention_norm", "mlp_norm"):
                shapes[f"layers.{i}.{norm}.bias"] = (architecture.width,)
    if architecture.norm == "layer":
        shapes["final_norm.bias"] = (architecture.width,)
    if architecture.embedding_norm:
        shapes |= {"embedding_norm": (architecture.width,),
                   "embedding_norm.bias": (architecture.width,)}
    if architecture.position == "learned":
        shapes["position_embedding"] = (
            architecture.context + architecture.position_offset, architecture.width)
    tensors = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape, np.float32)
        if name.endswith("norm"):
            values = 1 + np.float32(0.1) * values
        elif name.endswith(".bias"):
            values *= np.float32(0.1)
        else:
            values *= np.float32(shape[-1] ** -0.5)
        tensors[name] = StoredTensor(shape, values.__getitem__)
    return Model(architecture, tensors, "random")


MODELS = {
    "llama": architecture_of(),
    "qwen2": architecture_of(family="qwen2", qkv_bias=True),
    "qwen3": architecture_of(family="qwen3", qk_norm=True, head_width=20),
    "opt": architecture_of(family="opt", norm="layer", position="learned", position_offset=2,
                           context=64, linear_bias=True, kv_heads=4, activation="relu",
                           gated=False),
    "bloom": architecture_of(family="bloom", norm="layer", position="alibi", embedding_norm=True,
                             linear_bias=True, kv_heads=4, activation="gelu_tanh", gated=False),
    "window": architecture_of(window=5, rotary_width=8, ffn_width=100, activation="drelu"),
}


def quantized(architecture: Architecture, scheme: str = "simd-w8a8-tiny", **options):
    model = model_of(architecture)
    chosen = dataclasses.replace(load_scheme(scheme), **options)
    return model, quantize_decoder(model, chosen, HARDWARE, CALIBRATION, 48)


def float_residual(model: Model, tokens: np.ndarray) -> np.ndarray:
    x = float_layer.embed(model, tokens)
    for index in range(model.architecture.layers):
        weights = float_layer.layer_weights(model, index)
        x, _ = float_layer.run_layer(model.architecture, weights, x)
    return x


def error(decoder, golden: np.ndarray, exact: np.ndarray) -> float:
    if decoder.residual_order is not None:
        exact = exact[:, decoder.residual_order]
    gap = golden * decoder.residual_scale - exact
    return float(np.linalg.norm(gap) / np.linalg.norm(exact))


@pytest.mark.parametrize("softmax", ["int8", "log2"])
@pytest.mark.parametrize("family", MODELS)
def test_close_to_float_and_the_same_in_parts(family, softmax):
    model, decoder = quantized(MODELS[family], softmax=softmax)
    golden = GoldenDecoder(decoder)
    state = golden.new_state()
    whole = golden.run(TOKENS, state)
    assert error(decoder, whole, float_residual(model, TOKENS)) < (
        0.06 if softmax == "int8" else 0.25)
    parts, other = [], golden.new_state()
    for first, last in ((0, 7), (7, 8), (8, 20), (20, 21)):
        parts.append(golden.run(TOKENS[first:last], other))
    assert (np.concatenate(parts) == whole).all()
    assert other.length == state.length == len(TOKENS)
    assert (other.keys == state.keys).all()
    assert (other.values == state.values).all()


@pytest.mark.parametrize(("scheme", "bound"), [
    ("simd-w4a8-tiny", 0.35), ("simd-w4a4-tiny", 0.5), ("rowgen-2bit", 0.9), ("lut2d-tiny", 1.2),
])
def test_every_scheme_runs(scheme, bound):
    model, decoder = quantized(MODELS["llama"], scheme)
    golden = GoldenDecoder(decoder)
    x = golden.run(TOKENS, golden.new_state())
    assert error(decoder, x, float_residual(model, TOKENS)) < bound


def test_mix_of_schemes():
    mix = SchemeMap(name="mix", default=load_scheme("simd-w4a8-tiny").default, layers={
        "q": load_scheme("lut2d-tiny").default, "down": load_scheme("simd-w8a8-tiny").default,
        "up": load_scheme("rowgen-2bit").default, "o": load_scheme("rowgen-2bit").default})
    model = model_of(MODELS["qwen3"])
    decoder = quantize_decoder(model, mix, HARDWARE, CALIBRATION, 48)
    golden = GoldenDecoder(decoder)
    x = golden.run(TOKENS, golden.new_state())
    assert error(decoder, x, float_residual(model, TOKENS)) < 0.8


def test_fixed_point_parts_alone_cost_little():
    model = model_of(MODELS["qwen3"])
    scheme = load_scheme("simd-w8a8-tiny")
    decoder = quantize_decoder(model, scheme, HARDWARE, CALIBRATION, 48, exact=True)
    golden = GoldenDecoder(decoder)
    x = golden.run(TOKENS, golden.new_state())
    assert error(decoder, x, float_residual(model, TOKENS)) < 0.025


def test_logits_follow_the_float_model():
    model, decoder = quantized(MODELS["llama"])
    golden = GoldenDecoder(decoder)
    x = golden.run(TOKENS, golden.new_state())
    logits = golden.logits(x) * decoder.head.y_scale
    exact = forward(model, TOKENS)
    assert np.linalg.norm(logits - exact) / np.linalg.norm(exact) < 0.05
    assert golden.next_token(x) == int(golden.logits(x)[-1].argmax())


def test_generation_continues_a_state():
    _, decoder = quantized(MODELS["llama"])
    golden = GoldenDecoder(decoder)
    made = generate(golden, list(TOKENS[:9]), 6)
    state = golden.new_state()
    first = generate(golden, list(TOKENS[:9]), 3, state)
    assert first + generate(golden, first[-1:], 3, state) == made
    assert generate(golden, list(TOKENS[:9]), 6, end=made[2]) == made[:made.index(made[2]) + 1]


def test_layers_beyond_memory_are_the_same():
    model, decoder = quantized(MODELS["llama"])
    scheme = load_scheme("simd-w8a8-tiny")
    stored = quantize_decoder(model, scheme, HARDWARE, CALIBRATION, 48, memory_bytes=0)
    runs = [GoldenDecoder(decoder), GoldenDecoder(stored, kept_bytes=0)]
    first, second = (golden.run(TOKENS, golden.new_state()) for golden in runs)
    assert (first == second).all()


def test_evaluation_counts_predictions():
    model, decoder = quantized(MODELS["llama"])
    text = RNG.integers(0, 256, 45)
    steps = []
    done = evaluate(model, decoder, text, 20, lambda at, total: steps.append((at, total)))
    assert (done.tokens, done.windows, done.predictions) == (45, 3, 42)
    assert abs(done.relative) < 0.1
    assert steps[-1][0] == steps[-1][1]
    golden = GoldenDecoder(decoder)
    logits = golden.logits(golden.run(text[:20], golden.new_state()))[:-1] * decoder.head.y_scale
    total = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(19), text[1:20]]
    single = evaluate(model, decoder, text[:20], 20)
    assert single.perplexity == pytest.approx(np.exp(total.mean()))


def test_capacity_is_felt():
    _, decoder = quantized(MODELS["llama"])
    golden = GoldenDecoder(decoder)
    state = golden.new_state()
    golden.run(RNG.integers(0, 256, 48), state)
    with pytest.raises(CompileError, match=r"^49 tokens do not fit .* capacity of 48$"):
        golden.run([1], state)
    with pytest.raises(CompileError, match=r"outside the model's vocabulary of 256$"):
        golden.embed([256], 0)


def test_learned_positions_bound_the_capacity():
    model = model_of(MODELS["opt"])
    with pytest.raises(CompileError, match="the model has 64 learned positions, fewer than the"):
        quantize_decoder(model, load_scheme("simd-w8a8-tiny"), HARDWARE, CALIBRATION[:32], 65)


def test_hardware_without_multipliers():
    with pytest.raises(CompileError, match="has no multiplier array"):
        quantize_decoder(model_of(TINY), load_scheme("lut2d-tiny"), load_hardware("ecp5-85"),
                         CALIBRATION, 48)
