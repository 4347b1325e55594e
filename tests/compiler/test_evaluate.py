"""Scores by hand; evaluation that goes on after an interruption; bits of weights."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from compiler.decoder import evaluate as evaluation
from compiler.decoder.evaluate import evaluate, residual_error
from compiler.decoder.quantize import quantize_decoder
from compiler.decoder.reference import FloatReference
from compiler.decoder.scores import Scores, score
from compiler.decoder.weight_bits import layer_bits, linear_bits
from compiler.decoder.work_folder import folder_of, golden_version, model_digest
from compiler.float_layer import embed, layer_weights, run_layer
from compiler.forward import perplexity
from compiler.frontends.load import load_model
from compiler.quant.scheme import load_scheme
from hw.presets import load_hardware

MODEL = load_model("shape:tiny").in_memory()
TEXT = np.random.default_rng(3).integers(0, 256, 50)
CALIBRATION = [int(token) for token in np.random.default_rng(4).integers(0, 256, 64)]


def decoder_of(scheme: str):
    return quantize_decoder(MODEL, load_scheme(scheme), load_hardware("tiny"), CALIBRATION, 24)


def test_scores_by_hand():
    """Two tokens of three: float 1/2, 1/4, 1/4 and golden 1/4, 1/2, 1/4."""
    exact = np.log2(np.array([[2, 1, 1], [2, 1, 1]], np.float32)) * np.float32(math.log(2))
    golden = np.array([[1, 2, 1], [2, 1, 1]])
    made = score(golden, math.log(2), exact, np.array([1, 0]))
    assert made.predictions == 2
    assert made.agreed == 1
    assert made.loss_float == pytest.approx(math.log(4) + math.log(2))
    assert made.loss == pytest.approx(math.log(2) + math.log(2))
    assert made.perplexity_float == pytest.approx(math.sqrt(8))
    divergence = 1 / 2 * math.log(2) - 1 / 4 * math.log(2)
    assert made.divergence == pytest.approx(divergence, abs=1e-6)
    assert made + Scores() == made
    assert (made + made).perplexity == pytest.approx(made.perplexity)


def test_agreement_is_of_integers():
    """Logits that float32 cannot tell apart are still different integers."""
    golden = np.array([[2**30, 2**30 + 1]])
    assert score(golden, 2.0**-20, np.array([[0, 1]], np.float32), np.array([0])).agreed == 1
    assert score(golden, 2.0**-20, np.array([[1, 0]], np.float32), np.array([0])).agreed == 0


def test_residual_error_by_hand():
    exact = np.array([[3, 4], [0, 2]], np.float32)
    assert residual_error(exact + np.array([[0, 1], [1, 0]]), exact) == pytest.approx(0.35)


def test_reference_is_taken_over(tmp_path):
    parts = [TEXT[:24], TEXT[24:40]]
    steps: list[int] = []
    for folder in (None, tmp_path):
        reference = FloatReference(MODEL, parts, folder, lambda: steps.append(1))
        made = [reference.behind(count) for count in range(3)]
        assert len(steps) == 4
        steps.clear()
        state = embed(MODEL, parts[1])
        for index in range(2):
            weights = layer_weights(MODEL, index)
            state, _ = run_layer(MODEL.architecture, weights, state)
        assert np.array_equal(reference.windows(made[2])[1], state)
    again = FloatReference(MODEL, parts, tmp_path, lambda: steps.append(1))
    assert np.array_equal(again.behind(2), made[2])
    assert not steps
    (tmp_path / "behind-2.npy").write_bytes(b"damaged")
    assert np.array_equal(FloatReference(MODEL, parts, tmp_path, lambda: steps.append(1)).behind(2),
                          made[2])
    assert len(steps) == 2


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_evaluation_goes_on(tmp_path, monkeypatch, stop):
    """Interrupted in a layer, behind it, and between scored windows."""
    decoder = decoder_of("simd-w8a8-tiny")
    whole = evaluate(MODEL, decoder, TEXT, 24)
    folders = {"float_folder": tmp_path / "float", "golden_folder": tmp_path / "golden"}
    calls: list[int] = []

    def counted(name):
        run = getattr(evaluation, name)

        def wrapped(*arguments):
            calls.append(1)
            if len(calls) == stop:
                raise KeyboardInterrupt
            return run(*arguments)
        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "residual_error", counted("residual_error"))
        patch.setattr(evaluation, "_scored", counted("_scored"))
        with pytest.raises(KeyboardInterrupt):
            evaluate(MODEL, decoder, TEXT, 24, **folders)
    calls.clear()
    stop += 100
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "residual_error", counted("residual_error"))
        patch.setattr(evaluation, "_scored", counted("_scored"))
        assert evaluate(MODEL, decoder, TEXT, 24, **folders) == whole
    assert len(calls) == 5 - (stop - 100) + 1
    assert (whole.tokens, whole.predictions, whole.windows) == (50, 47, 3)
    assert len(whole.layer_errors) == 2
    assert whole.residual_error == whole.layer_errors[-1]
    assert whole.perplexity_float == pytest.approx(perplexity(MODEL, TEXT, 24), rel=1e-5)
    assert 0 < whole.kl_divergence < 0.05
    assert whole.top1_agreement > 0.8


def test_a_damaged_state_is_not_taken(tmp_path):
    decoder = decoder_of("simd-w8a8-tiny")
    tmp_path.joinpath("golden.npz").write_bytes(b"PK")
    assert evaluate(MODEL, decoder, TEXT[:20], 24, golden_folder=tmp_path) == evaluate(
        MODEL, decoder, TEXT[:20], 24)


def test_bits_by_hand():
    """Tiny's linears fill whole groups of 32: 8 bits and 16 / 32 for the scales."""
    layer = decoder_of("simd-w8a8-tiny").layer(0)
    bits, weights = layer_bits(MODEL.architecture, layer.linears)
    assert bits / weights == pytest.approx(8.5)
    rowgen = decoder_of("rowgen-2bit").layer(0).linears["gate"]
    assert linear_bits(rowgen) == rowgen.indices.size * 4 + rowgen.codebooks.size * 8
    assert linear_bits(replace(rowgen, codebooks=np.zeros((32, 1, 64, 2), np.int8))) == (
        rowgen.indices.size * 6 + 32 * 64 * 2 * 8)
    for entries in (2, 8):
        assert linear_bits(replace(rowgen, codebooks=np.zeros((32, 1, entries, 2), np.int8))) == (
            rowgen.indices.size * 3 + 32 * entries * 2 * 8)


def test_folders_stand_for_their_contents(tmp_path):
    names = {folder_of(tmp_path, "golden", *parts)
             for parts in ((1, 2), (12,), (2, 1), ("1", 2), (1, 2))}
    assert len(names) == 4
    assert model_digest(MODEL) == model_digest(load_model("shape:tiny"))
    assert model_digest(MODEL) != model_digest(load_model("shape:tiny-qwen2"))
    assert golden_version() == golden_version()
