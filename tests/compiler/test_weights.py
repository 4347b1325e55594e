"""Weights of a whole decoder: corrected targets, sequential quantization, resuming."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from compiler import float_layer
from compiler.decoder.moments import Sample, corrected, moments
from compiler.decoder.quantize import quantize_decoder
from compiler.decoder.weight_store import WeightStore
from compiler.decoder.weights import LayerWeights, calibrate_weights, unplaced
from compiler.errors import CompileError
from compiler.frontends.load import load_model
from compiler.quant.rounding import round_to_nearest
from compiler.quant.scheme import RowgenScheme, SchemeMap, SimdScheme
from compiler.quant.weights import VectorWeights
from hw.presets import load_hardware

MODEL = load_model("shape:tiny")
STRIDE = 16
SCHEME = SchemeMap(name="test", default=SimdScheme(
    name="test", group=16, native_blocks=False, method="gptq", asymmetric=True))


def windows(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.integers(0, MODEL.architecture.vocabulary, 40) for _ in range(count)]


def sample(x: np.ndarray, seen: np.ndarray, gap: np.ndarray | None = None) -> Sample:
    return Sample(x=x, seen=seen, gap=gap, counts=np.ones(len(x), np.float32))


def test_correction_by_hand() -> None:
    """The quantized model sees half of the input: the weight doubles."""
    x = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    sums = moments([sample(x, x / 2)])
    weight = np.array([[3.0, -1.0]], np.float32)
    np.testing.assert_allclose(corrected(weight, sums, damping=0.0), weight * 2, rtol=1e-6)


def test_residual_gap_is_made_good() -> None:
    """What the residual has lost comes back through the weight, as far as the input reaches."""
    x = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    gap = np.array([[0.5], [-0.25]], np.float32)
    weight = np.array([[1.0, 1.0]], np.float32)
    made = corrected(weight, moments([sample(x, x, gap)]), damping=0.0)
    np.testing.assert_allclose(made, [[1.5, 0.75]], rtol=1e-6)


def test_moments_of_windows_add_up() -> None:
    random = np.random.default_rng(2)
    x, seen = random.normal(size=(2, 12, 5)).astype(np.float32)
    whole = moments([sample(x, seen)])
    parts = moments([sample(x[:5], seen[:5]), sample(x[5:], seen[5:])])
    np.testing.assert_allclose(whole.hessian, seen.T @ seen / 12, rtol=1e-5)
    np.testing.assert_allclose(whole.hessian, parts.hessian, rtol=1e-5)
    np.testing.assert_allclose(whole.cross, (x - seen).T @ seen / 12, rtol=1e-4, atol=1e-6)


def test_v_is_weighed_by_what_attention_mixes() -> None:
    states = [float_layer.embed(MODEL, part) for part in windows(1)]
    layer = LayerWeights(MODEL, SCHEME, STRIDE, 0, states, list(states))
    _, made = float_layer.run_attention(MODEL.architecture, layer.float_weights, states[0])
    mixed = layer.mixed_moments([made], [made], [made["attention_input"]])
    heads = MODEL.architecture.kv_heads
    shared = MODEL.architecture.heads // heads
    assert len(mixed) == heads
    expected = np.zeros((MODEL.architecture.width,) * 2)
    for query in range(shared):
        weights, _ = float_layer.attention_weights(
            MODEL.architecture, made["q_rotated"][:, query:query + 1], made["k_rotated"][:, :1])
        x = weights[0, 0] @ made["attention_input"]
        expected += x.T @ x
    np.testing.assert_allclose(mixed[0].hessian, expected / (shared * len(states[0])), rtol=1e-4,
                               atol=1e-6)


def test_sequential_weights_are_nearer_than_rounding() -> None:
    text, fresh = windows(40), windows(42)[40:]
    store = WeightStore()
    calibrate_weights(MODEL, SCHEME, STRIDE, text, store)
    exact = [float_layer.embed(MODEL, part) for part in fresh]
    seen, rounded = list(exact), list(exact)
    for index in range(MODEL.architecture.layers):
        weights = float_layer.layer_weights(MODEL, index)
        dense, nearest = dict(weights), dict(weights)
        layer = LayerWeights(MODEL, SCHEME, STRIDE, index, exact, seen)
        for name, made in store(index).items():
            dense[f"{name}.weight"] = unplaced(
                made.dense(), *layer.places(name), weights[f"{name}.weight"].shape)
            nearest[f"{name}.weight"] = round_to_nearest(
                weights[f"{name}.weight"], 4, 16, asymmetric=True).dense()
        for states, chosen in ((exact, weights), (seen, dense), (rounded, nearest)):
            states[:] = [float_layer.run_layer(MODEL.architecture, chosen, x)[0] for x in states]
    gap = sum(float(np.square(x - y).sum()) for x, y in zip(exact, seen, strict=True))
    of_rounding = sum(float(np.square(x - y).sum()) for x, y in zip(exact, rounded, strict=True))
    assert gap < of_rounding


def test_quantizing_resumes(tmp_path: Path) -> None:
    text, interrupted = windows(2), 1
    whole = WeightStore()
    calibrate_weights(MODEL, SCHEME, STRIDE, text, whole)

    class Stop(Exception):
        """Ends the run."""

    def stop(said: str) -> None:
        if said.startswith(f"weights of layer {interrupted + 1} "):
            raise Stop

    with pytest.raises(Stop):
        calibrate_weights(MODEL, SCHEME, STRIDE, text, WeightStore(tmp_path), stop)
    again = WeightStore(tmp_path)
    assert len(again) == interrupted
    done = []
    calibrate_weights(MODEL, SCHEME, STRIDE, text, again, done.append)
    assert len(done) == MODEL.architecture.layers - interrupted
    for index in range(MODEL.architecture.layers):
        for name, made in whole(index).items():
            np.testing.assert_array_equal(again(index)[name].dense(), made.dense())


def test_damaged_states_start_again(tmp_path: Path) -> None:
    text = windows(1)
    store = WeightStore(tmp_path)
    calibrate_weights(MODEL, SCHEME, STRIDE, text, store)
    (tmp_path / f"layer-{MODEL.architecture.layers - 1}.npz").unlink()
    (tmp_path / "states.npz").write_bytes(b"PK\x03\x04 not an archive")
    done = []
    calibrate_weights(MODEL, SCHEME, STRIDE, text, WeightStore(tmp_path), done.append)
    assert len(done) == MODEL.architecture.layers


def test_store_keeps_both_kinds(tmp_path: Path) -> None:
    grouped = round_to_nearest(np.eye(4, dtype=np.float32), 4, 4)
    vector = VectorWeights(
        codebooks=np.arange(8, dtype=np.int8).reshape(2, 1, 2, 2),
        indices=np.array([[0, 1], [1, 0]], np.uint8), scales=np.ones(2, np.float32),
        group_columns=16, inputs=3)
    store = WeightStore(tmp_path)
    store.append({"q": grouped, "up": vector}, [np.zeros((1, 2))], [np.zeros((1, 2))])
    read = WeightStore(tmp_path)(0)
    np.testing.assert_array_equal(read["q"].dense(), grouped.dense())
    np.testing.assert_array_equal(read["up"].dense(), [[0, 1, 6], [2, 3, 4]])
    with pytest.raises(ValueError, match="group of columns"):
        vector.rows(np.array([0, 16]))


def test_schemes_of_one_weight_share_it() -> None:
    from compiler.decoder.weights import weight_key

    one = RowgenScheme(name="a")
    assert weight_key(one) == weight_key(RowgenScheme(name="b"))
    assert weight_key(one) != weight_key(RowgenScheme(name="a", weight_codes=64))


def test_training_needs_text_of_its_own() -> None:
    scheme = dataclasses.replace(SCHEME, refine_epochs=1)
    text = np.concatenate(windows(2))
    with pytest.raises(CompileError, match="trains on calibration text behind"):
        quantize_decoder(MODEL, scheme, load_hardware("tiny"), text, 8)
