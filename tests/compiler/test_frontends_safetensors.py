"""Hugging Face folders: element types, shards, and one line for every kind of bad folder."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from compiler.errors import FrontendError
from compiler.frontends.safetensors import load_safetensors
from compiler.frontends.shapes import SHAPES
from compiler.model import Architecture
from tests.compiler.checkpoints import TINY, config_of, random_weights, write_folder

WEIGHTS = random_weights(TINY)


def message_of(folder: Path) -> str:
    with pytest.raises(FrontendError) as caught:
        load_safetensors(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert str(folder) in text
    return text


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(
        {key: value for key, value in config.items() if value is not None}))


def check_refusal(tmp_path: Path, architecture: Architecture, changes: dict[str, object],
                  expected: str) -> None:
    folder = write_folder(tmp_path / "m", architecture, random_weights(architecture))
    change_config(folder, **changes)
    with pytest.raises(FrontendError) as caught:
        load_safetensors(folder)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "shards"), [("F32", 1), ("F16", 3), ("BF16", 2)])
def test_weights_come_back(tmp_path, kind, shards):
    model = load_safetensors(write_folder(tmp_path / "m", TINY, WEIGHTS, kind, shards))
    assert model.architecture == dataclasses.replace(TINY, name="m")
    for name, weight in WEIGHTS.items():
        if kind == "F16":
            weight = weight.astype(np.float16).astype(np.float32)
        if kind == "BF16":
            weight = (weight.view(np.uint32) >> 16 << 16).view(np.float32)
        np.testing.assert_array_equal(model.tensor(name), weight)
        assert model.tensor(name).dtype == np.float32
        assert model.blocks(name) is None
    np.testing.assert_array_equal(model.rows("embedding", np.array([9, 3])),
                                  model.tensor("embedding")[[9, 3]])


@pytest.mark.parametrize(("family", "prefix", "tied"), [
    ("qwen2", "", False), ("qwen3", "", False), ("mistral", "model.", False), ("opt", "", False),
    ("opt", "model.", True), ("bloom", "", True), ("bloom", "transformer.", True),
])
def test_other_families(tmp_path, family, prefix, tied):
    architecture = dataclasses.replace(SHAPES[f"tiny-{family}"], name="m", tied_embeddings=tied)
    weights = random_weights(architecture)
    model = load_safetensors(
        write_folder(tmp_path / "m", architecture, weights, prefix=prefix))
    assert model.architecture == architecture
    for name, weight in weights.items():
        np.testing.assert_array_equal(model.tensor(name), weight, err_msg=name)
    rows = np.array([5, 63, 5])
    np.testing.assert_array_equal(model.rows("layers.1.v.weight", rows % 32),
                                  weights["layers.1.v.weight"][rows % 32])


def test_fused_rows_are_head_by_head(tmp_path):
    architecture = SHAPES["tiny-bloom"]
    folder = write_folder(tmp_path / "m", architecture, random_weights(architecture))
    stored = safetensors.numpy.load_file(folder / "model-00001-of-00001.safetensors")
    label = "transformer.h.1.self_attention.query_key_value"
    model = load_safetensors(folder)
    for part, linear in enumerate("qkv"):
        for row in (0, 15, 16, 63):
            place = row // 16 * 48 + part * 16 + row % 16
            np.testing.assert_array_equal(model.tensor(f"layers.1.{linear}.weight")[row],
                                          stored[f"{label}.weight"][place])
            assert model.tensor(f"layers.1.{linear}.bias")[row] == stored[f"{label}.bias"][place]


def test_llama3_rotary_scaling_of_a_config(tmp_path):
    llama = dataclasses.replace(SHAPES["llama-3.2-1b"], layers=1, width=128, heads=2, kv_heads=1,
                                ffn_width=64, vocabulary=32)
    folder = write_folder(tmp_path / "m", llama, random_weights(llama))
    scaling = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    change_config(folder, rope_scaling=scaling)
    factors = load_safetensors(folder).architecture.rope_factors
    assert factors == llama.rope_factors
    assert factors is not None
    assert (factors[0], factors[-1]) == (1, 32)
    change_config(folder, rope_scaling=None, rope_theta=None,
                  rope_parameters=scaling | {"rope_theta": 5e5})
    assert load_safetensors(folder).architecture.rope_factors == factors
    change_config(folder, rope_parameters={"rope_type": "yarn", "rope_theta": 5e5})
    assert "rope_scaling of type 'yarn' is not supported" in message_of(folder)
    change_config(folder, rope_parameters={"rope_type": "llama3"})
    assert "rope_scaling of type llama3 lacks 'factor'" in message_of(folder)


def test_every_truncation_is_one_line(tmp_path):
    folder = write_folder(tmp_path / "m", TINY, WEIGHTS)
    path = next(folder.glob("*.safetensors"))
    data = path.read_bytes()
    for size in (0, 4, 8, 9, 100, 1000, 3000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        assert "cut off or damaged" in message_of(folder)


@pytest.mark.parametrize(("changes", "expected"), [
    ({"model_type": "mamba"}, "model_type 'mamba' is not supported"),
    ({"model_type": None}, "model_type 'unknown' is not supported"),
    ({"hidden_size": None}, "config.json: key hidden_size is missing"),
    ({"hidden_size": "wide"}, "hidden_size must be a number, not 'wide'"),
    ({"hidden_size": float("inf")}, "hidden_size must be a number, not 'inf'"),
    ({"num_hidden_layers": 10**9}, "1000000000 layers are more than 1024"),
    ({"hidden_size": 128}, "has shape [256, 64], the architecture needs [256, 128]"),
    ({"num_attention_heads": 0}, "heads must be positive, not 0"),
    ({"num_hidden_layers": 3}, "tensor model.layers.2.input_layernorm.weight is missing"),
    ({"tie_word_embeddings": False}, "tensor lm_head.weight is missing"),
    ({"hidden_act": "snake"}, "activation 'snake' is not supported; supported are silu, "),
    ({"hidden_size": 64.5}, "hidden_size must be a whole number, not 64.5"),
    ({"quantization_config": {"bits": 4}}, "quantized safetensors are not supported"),
    ({"rope_scaling": 2}, "rope_scaling must be an object"),
    ({"head_dim": 15}, "rotary width 15 of head width 15 is odd"),
    ({"partial_rotary_factor": 0.45}, "rotary width 7 of head width 16 is odd"),
    ({"partial_rotary_factor": 0.01}, "partial_rotary_factor leaves no element of a head"),
    ({"partial_rotary_factor": 2}, "32 of 16 elements of a head cannot rotate"),
    ({"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8},
     "sliding windows in 1 of 2 layers are not supported, only in all or none"),
    ({"use_sliding_window": True, "layer_types": ["full_attention", "sliding_attention"]},
     "sliding windows in 1 of 2 layers are not supported, only in all or none"),
    ({"model_type": "mistral", "sliding_window": -1}, "window must not be negative, not -1"),
])
def test_bad_configurations(tmp_path, changes, expected):
    check_refusal(tmp_path, TINY, changes, expected)


@pytest.mark.parametrize(("family", "changes", "expected"), [
    ("opt", {"word_embed_proj_dim": 32}, "another width than the layers (word_embed_proj_dim)"),
    ("opt", {"do_layer_norm_before": False}, "norms behind the layers (do_layer_norm_before"),
    ("opt", {"num_attention_heads": 5},
     "tensor model.decoder.layers.0.self_attn.q_proj.weight has shape [64, 64]"),
    ("opt", {"max_position_embeddings": 600}, "has shape [514, 64], the architecture needs [602, "),
    ("bloom", {"apply_residual_connection_post_layernorm": True},
     "residuals taken behind the norm (apply_residual_connection_post_layernorm)"),
    ("bloom", {"n_embed": None}, "key hidden_size is missing"),
    ("bloom", {"n_embed": 32}, "has shape [256, 64], the architecture needs [256, 32]"),
    ("bloom", {"n_head": 5}, "query_key_value.weight has shape [192, 64]"),
])
def test_bad_configurations_of_other_families(tmp_path, family, changes, expected):
    check_refusal(tmp_path, SHAPES[f"tiny-{family}"], changes, expected)


@pytest.mark.parametrize(("changes", "window"), [
    ({}, 0),
    ({"sliding_window": 8}, 0),
    ({"sliding_window": 8, "use_sliding_window": True}, 0),
    ({"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 2}, 0),
    ({"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 0}, 8),
    ({"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1,
      "layer_types": ["sliding_attention"] * 2}, 8),
    ({"use_sliding_window": True, "max_window_layers": 0}, 4096),
    ({"model_type": "mistral"}, 4096),
    ({"model_type": "mistral", "sliding_window": 8}, 8),
])
def test_sliding_windows(tmp_path, changes, window):
    folder = write_folder(tmp_path / "m", TINY, WEIGHTS)
    change_config(folder, **changes)
    assert load_safetensors(folder).architecture.window == window


def test_no_window_is_null(tmp_path):
    architecture = dataclasses.replace(SHAPES["tiny-mistral"], window=0, name="m")
    folder = write_folder(tmp_path / "m", architecture, random_weights(architecture))
    assert load_safetensors(folder).architecture == architecture


def test_bad_files(tmp_path):
    folder = write_folder(tmp_path / "m", TINY, WEIGHTS, shards=2)
    index = folder / "model.safetensors.index.json"
    shard = folder / "model-00002-of-00002.safetensors"
    shard.unlink()
    assert message_of(folder) == f"{shard}: missing, but named by {index.name}; fetch it again"
    index.write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    assert "must lie beside the index" in message_of(folder)
    index.write_text("[]")
    assert message_of(folder) == f"{index}: must hold a JSON object"
    index.write_text("{")
    assert "not valid JSON" in message_of(folder)
    index.unlink()
    (folder / "model-00001-of-00002.safetensors").unlink()
    assert "no *.safetensors file beside config.json" in message_of(folder)


def test_unsupported_element_type(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_of(TINY)))
    weights = {"model.norm.weight": np.zeros(64, np.int8)}
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    assert "tensor model.norm.weight has type I8; supported are F32, F16, BF16" \
        in message_of(folder)
