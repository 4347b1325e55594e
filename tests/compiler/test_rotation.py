"""Rotated models: the same float model with smaller outliers, and decoders made of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler import float_layer
from compiler.decoder.evaluate import evaluate
from compiler.decoder.golden import GoldenDecoder
from compiler.decoder.quantize import quantize_decoder
from compiler.errors import CompileError, VerifyError
from compiler.forward import forward
from compiler.frontends.load import load_model
from compiler.image.bounds import InstructionCheck
from compiler.model import Model, StoredTensor
from compiler.orthogonal import Rotation, hadamard_blocks, hadamard_matrix, hartley_matrix
from compiler.quant.scheme import load_scheme
from compiler.rotation import hidden_length, rotate_model, rotated_model
from hw.errors import ConfigError
from hw.golden.hadamard import transform
from hw.isa import Opcode, fields_of
from hw.presets import load_hardware

HARDWARE = load_hardware("tiny")
TOKENS = np.random.default_rng(5).integers(0, 256, 20)
CALIBRATION = np.random.default_rng(3).integers(0, 256, 96)


def rotating(scheme, rotation):
    """A scheme of the repository with a rotation."""
    return dataclasses.replace(load_scheme(scheme), rotation=rotation)


def test_a_rotation_by_hand():
    assert (hadamard_matrix(2) * 2**0.5).round(6).tolist() == [[1, 1], [1, -1]]
    # cos + sin of 0, 120 and 240 degrees.
    assert np.allclose(hartley_matrix(3)[1] * 3**0.5, [1, 0.366025, -1.366025])
    rotation = Rotation(6, 1)
    assert [len(factor) for factor in rotation.factors] == [2, 3]
    dense = np.kron(hartley_matrix(3), hadamard_matrix(2))
    assert np.allclose(rotation(np.eye(6, dtype=np.float32)), rotation.signs[:, None] * dense,
                       atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 7, 24, 64, 576])
def test_rotations_are_orthogonal(length):
    q = Rotation(length, 4)(np.eye(length, dtype=np.float32))
    assert np.allclose(q @ q.T, np.eye(length), atol=1e-5)
    weight = np.random.default_rng(0).standard_normal((length, 3)).astype(np.float32)
    assert np.allclose(Rotation(length, 4).of_outputs(weight), q.T @ weight, atol=1e-5)


def test_float_blocks_are_those_of_the_hardware():
    x = np.random.default_rng(1).integers(-99, 99, (3, 48)).astype(np.int16)
    y = hadamard_blocks(x.astype(np.float32), 16)
    assert np.allclose(y * 4, transform(x, 4), atol=1e-3)
    assert np.allclose(hadamard_blocks(y, 16), x, atol=1e-4)


@pytest.mark.parametrize(("shape", "hidden"), [
    ("tiny", 0), ("tiny", 32), ("tiny-qwen2", 8), ("tiny-qwen3", 32), ("tiny-mistral", 2)])
def test_the_float_model_stays_the_same(shape, hidden):
    model = load_model(f"shape:{shape}")
    expected = forward(model, TOKENS)
    rotated = rotate_model(model, hidden)
    assert np.abs(forward(rotated, TOKENS) - expected).max() < 1e-4
    assert rotated.architecture.hidden_rotation == hidden
    assert rotated.blocks("layers.0.q.weight") is None
    assert (rotated.tensor("final_norm") == 1).all()


def test_some_rows_are_rows_of_the_whole():
    rotated = rotate_model(load_model("shape:tiny-qwen2"), 32)
    rows = np.array([3, 0, 9])
    for name in rotated.tensors:
        assert np.allclose(rotated.rows(name, rows), rotated.tensor(name)[rows], atol=1e-6), name


def with_outliers(model: Model) -> Model:
    """The model with a few large channels in the residual and in the hidden activations."""
    tensors = dict(model.tensors)

    def scale(name, factor, rows):
        values = model.tensor(name).copy()
        values[rows] *= factor
        tensors[name] = StoredTensor(values.shape, values.__getitem__)

    for i in range(model.architecture.layers):
        scale(f"layers.{i}.up.weight", 30, [5, 77])
        scale(f"layers.{i}.down.weight", 30, [3])
    return Model(model.architecture, tensors, model.source)


def kurtosis(x):
    """Mean over tokens of the fourth moment over the squared second; 3 for normal values."""
    return float(((x**4).mean(axis=1) / (x**2).mean(axis=1)**2).mean())


def test_outliers_are_spread():
    model = with_outliers(load_model("shape:tiny"))
    made = []
    for each in (model, rotate_model(model, 32)):
        state = float_layer.embed(each, TOKENS)
        for layer in range(2):
            state, values = float_layer.run_layer(
                each.architecture, float_layer.layer_weights(each, layer), state)
        made.append(values)
    for name in ("mlp_input", "mlp_hidden"):
        before, after = (kurtosis(values[name]) for values in made)
        assert before > 10, name
        assert after < 0.5 * before, name


def test_models_that_cannot_be_rotated():
    for shape in ("tiny-opt", "tiny-bloom"):
        with pytest.raises(CompileError, match="LayerNorm, biases of norms or a norm of the"):
            rotate_model(load_model(f"shape:{shape}"), 0)
    with pytest.raises(ValueError, match="blocks of 64"):
        rotate_model(load_model("shape:tiny"), 64)


def test_what_a_scheme_asks_for():
    model = load_model("shape:tiny")
    assert rotated_model(model, rotating("simd-w8a8-tiny", "none"), HARDWARE) is model
    for rotation, length in (("residual", 0), ("online", 32)):
        made = rotated_model(model, rotating("simd-w8a8-tiny", rotation), HARDWARE)
        assert made.architecture.hidden_rotation == length
    without = dataclasses.replace(HARDWARE, hadamard=False)
    with pytest.raises(CompileError, match="hardware tiny has no Hadamard unit"):
        rotated_model(model, rotating("simd-w8a8-tiny", "online"), without)
    odd = dataclasses.replace(model.architecture, ffn_width=81)
    assert hidden_length(odd) == 1
    assert hidden_length(dataclasses.replace(odd, ffn_width=4096)) == 512


def test_scheme_files(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("kind: simd\nrotation: online\n")
    assert load_scheme(str(path)).rotation == "online"
    assert load_scheme("simd-w8a8").rotation == "none"
    path.write_text("kind: simd\nrotation: maybe\n")
    with pytest.raises(ConfigError, match="rotation must be none or residual or online, not 'mayb"):
        load_scheme(str(path))


@pytest.mark.parametrize(("changes", "message"), [
    ({}, ""),
    ({"words": 3}, "3 words are not whole blocks of 32 elements"),
    ({"length_bits": 0}, r"blocks of 2\*\*0 elements, 2 to 512 are allowed"),
    ({"length_bits": 10}, r"blocks of 2\*\*10 elements"),
    ({"stride": 7}, "rows of its result overlap"),
    ({"source": 1020}, "vector words up to 1036 of 1024"),
])
def test_instructions_are_checked(changes, message):
    fields = {**dict.fromkeys(fields_of(Opcode.HADAMARD), 0), "tokens": 2, "heads": 1, "words": 8,
              "stride": 8, "length_bits": 5, "shift": 2, **changes}
    check = InstructionCheck(4, Opcode.HADAMARD, fields, HARDWARE)
    if not message:
        assert len(check.check(1 << 16, [])) == 2
        absent = dataclasses.replace(HARDWARE, hadamard=False)
        check, message = (InstructionCheck(4, Opcode.HADAMARD, fields, absent),
                          "the hardware has no Hadamard unit")
    with pytest.raises(VerifyError, match=message):
        check.check(1 << 16, [])


@pytest.mark.parametrize("shape", ["tiny", "tiny-qwen2", "tiny-qwen3"])
@pytest.mark.parametrize("rotation", ["residual", "online"])
def test_fixed_point_is_close_to_float(shape, rotation):
    model = load_model(f"shape:{shape}")
    decoder = quantize_decoder(model, rotating("simd-w8a8-tiny", rotation), HARDWARE, CALIBRATION,
                               48, exact=True)
    golden = GoldenDecoder(decoder)
    logits = golden.logits(golden.run(TOKENS, golden.new_state())) * decoder.head.y_scale
    expected = forward(model, TOKENS)
    assert np.linalg.norm(logits - expected) < 0.05 * np.linalg.norm(expected)


def test_the_shift_gives_back_at_most_what_sums_grow():
    model = with_outliers(load_model("shape:tiny"))
    decoder = quantize_decoder(model, rotating("simd-w8a8-tiny", "online"), HARDWARE, CALIBRATION,
                               48)
    for index in range(2):
        rotation = decoder.layer(index).activation.rotation
        assert rotation.length_bits == 5
        assert 0 <= rotation.shift <= 5


def test_rotation_helps_int4_with_outliers():
    model = with_outliers(load_model("shape:tiny"))
    errors = {}
    for rotation in ("none", "online"):
        scheme = rotating("simd-w4a4-tiny", rotation)
        # Channel exponents would help with single channels as well.
        scheme = dataclasses.replace(
            scheme, default=dataclasses.replace(scheme.default, trip_max=0))
        decoder = quantize_decoder(model, scheme, HARDWARE, CALIBRATION, 48)
        errors[rotation] = evaluate(model, decoder, TOKENS, window=20).residual_error
    assert errors["online"] < 0.97 * errors["none"]
