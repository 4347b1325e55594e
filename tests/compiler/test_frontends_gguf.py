"""GGUF: weights, row order, blocks, and one line for every kind of bad file."""

import dataclasses
from pathlib import Path

import gguf
import numpy as np
import pytest

from compiler.errors import FrontendError
from compiler.frontends.gguf import load_gguf
from tests.compiler.checkpoints import (
    Q4_0,
    Q4_1,
    Q8_0,
    TINY,
    random_weights,
    side_by_side,
    write_gguf,
)

WEIGHTS = random_weights(TINY)


def message_of(path: Path) -> str:
    with pytest.raises(FrontendError) as caught:
        load_gguf(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_weights_and_architecture_come_back(tmp_path, family):
    architecture = dataclasses.replace(
        TINY, family=family, qkv_bias=family == "qwen2", qk_norm=family == "qwen3",
        tied_embeddings=family == "llama", head_width=24)
    weights = random_weights(architecture)
    model = load_gguf(write_gguf(tmp_path / "m.gguf", architecture, weights))
    expected = dataclasses.replace(architecture, name="m",
                                   norm_epsilon=float(np.float32(architecture.norm_epsilon)))
    assert model.architecture == expected
    for name, weight in weights.items():
        np.testing.assert_array_equal(model.tensor(name), weight, err_msg=name)
        assert model.blocks(name) is None
    np.testing.assert_array_equal(model.rows("embedding", np.array([5, 0, 5])),
                                  weights["embedding"][[5, 0, 5]])
    assert model.has("head")
    assert model.has("layers.0.q.bias") == (family == "qwen2")


@pytest.mark.parametrize("kind", [Q4_0, Q4_1, Q8_0])
def test_blocks_are_what_the_library_dequantizes(tmp_path, kind):
    model = load_gguf(write_gguf(tmp_path / "m.gguf", TINY, WEIGHTS, kind))
    for name, heads in (("layers.1.q.weight", TINY.heads), ("layers.1.k.weight", TINY.kv_heads),
                        ("layers.0.down.weight", 0), ("head", 0)):
        blocks = model.blocks(name)
        assert blocks is not None
        assert blocks.kind == kind.name.lower()
        assert blocks.codes.dtype == np.int8
        assert blocks.scales.shape == (blocks.codes.shape[0], blocks.codes.shape[1] // 32)
        assert (blocks.minima is None) == (kind != Q4_1)
        if kind != Q8_0:
            assert blocks.codes.min() >= -8
            assert blocks.codes.max() <= 7
        weight = WEIGHTS["embedding" if name == "head" else name]
        stored = side_by_side(weight, heads) if heads else weight
        expected = gguf.quants.dequantize(gguf.quants.quantize(stored, kind), kind)
        restored = blocks.dequantize()
        np.testing.assert_array_equal(side_by_side(restored, heads) if heads else restored,
                                      expected)
        np.testing.assert_array_equal(restored, model.tensor(name))


def test_rotary_factors_are_read(tmp_path):
    factors = np.linspace(1, 32, TINY.head_width // 2, dtype=np.float32)
    path = write_gguf(tmp_path / "m.gguf", TINY, WEIGHTS)
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(tmp_path / "scaled.gguf", "llama")
    for field in reader.fields.values():
        if field.name.startswith("llama."):
            writer.add_key_value(field.name, field.contents(), field.types[0])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = load_gguf(tmp_path / "scaled.gguf")
    assert model.architecture.rope_factors == tuple(factors.tolist())


def test_every_truncation_is_one_line(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", TINY, WEIGHTS, Q4_1)
    data = path.read_bytes()
    ends = [t.data_offset + t.n_bytes for t in gguf.GGUFReader(path).tensors]
    header = gguf.GGUFReader(path).data_offset
    cut = tmp_path / "cut.gguf"
    for size in [*range(4, header, 37), header, max(ends) // 2, max(ends) - 1]:
        cut.write_bytes(data[:size])
        text = message_of(cut)
        assert "cut off" in text or "missing" in text
    cut.write_bytes(data[:max(ends)])
    load_gguf(cut)


@pytest.mark.parametrize("data", [b"", b"GGU", b"PK\x03\x04 a zip file"])
def test_other_files_are_refused(tmp_path, data):
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    assert message_of(path) == f"{path}: not a GGUF file (it does not start with GGUF)"


def test_unknown_architecture(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", TINY, WEIGHTS, family="mamba")
    assert message_of(path) == (f"{path}: architecture 'mamba' is not supported; "
                                "supported are llama, qwen2, qwen3")
    path = write_gguf(tmp_path / "b.gguf", TINY, WEIGHTS, family="bloom")
    assert message_of(path).endswith("llama, qwen2, qwen3; give its Hugging Face folder")


def test_missing_key(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", TINY, WEIGHTS, omit=("block_count",))
    assert message_of(path) == f"{path}: metadata key llama.block_count is missing"


def test_missing_tensor(tmp_path):
    weights = {name: w for name, w in WEIGHTS.items() if name != "layers.1.up.weight"}
    path = write_gguf(tmp_path / "m.gguf", TINY, weights)
    assert f"{path}: tensor blk.1.ffn_up.weight is missing" in message_of(path)


def test_wrong_shape(tmp_path):
    for name, shape in (("layers.0.down.weight", (64, 159)), ("layers.0.q.weight", (56, 64))):
        weights = WEIGHTS | {name: np.zeros(shape, np.float32)}
        path = write_gguf(tmp_path / f"{name}.gguf", TINY, weights)
        assert f"has shape {list(shape)}, the architecture needs" in message_of(path)


def test_impossible_sizes(tmp_path):
    architecture = dataclasses.replace(TINY)
    object.__setattr__(architecture, "kv_heads", 3)
    path = write_gguf(tmp_path / "m.gguf", architecture,
                      {"embedding": WEIGHTS["embedding"]})
    with pytest.raises(FrontendError, match="4 heads cannot share 3 key-value heads evenly"):
        load_gguf(path)
