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


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_qwen_families(tmp_path, family):
    architecture = dataclasses.replace(TINY, family=family, qkv_bias=family == "qwen2",
                                       qk_norm=family == "qwen3", tied_embeddings=False)
    weights = random_weights(architecture)
    model = load_safetensors(write_folder(tmp_path / "m", architecture, weights))
    assert model.architecture == dataclasses.replace(architecture, name="m")
    for name, weight in weights.items():
        np.testing.assert_array_equal(model.tensor(name), weight)


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
    ({"hidden_act": "gelu"}, "activation 'gelu' is not supported, only silu"),
    ({"quantization_config": {"bits": 4}}, "quantized safetensors are not supported"),
    ({"rope_scaling": 2}, "rope_scaling must be an object"),
    ({"head_dim": 15}, "head width 15 is odd"),
])
def test_bad_configurations(tmp_path, changes, expected):
    folder = write_folder(tmp_path / "m", TINY, WEIGHTS)
    change_config(folder, **changes)
    with pytest.raises(FrontendError) as caught:
        load_safetensors(folder)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


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
