"""Small checkpoints of known weights, written as GGUF and as Hugging Face folders."""

import json
from pathlib import Path

import gguf
import numpy as np
import safetensors.numpy

from compiler.frontends import gguf as gguf_frontend
from compiler.frontends import safetensors as safetensors_frontend
from compiler.frontends.shapes import SHAPES
from compiler.model import Architecture, Floats, Model, StoredTensor

TINY = SHAPES["tiny"]
Q4_0, Q4_1, Q8_0 = (gguf.GGMLQuantizationType[name] for name in ("Q4_0", "Q4_1", "Q8_0"))


def random_weights(architecture: Architecture, seed: int = 0) -> dict[str, Floats]:
    """Weights by neutral name."""
    generator = np.random.default_rng(seed)
    weights = {name: generator.standard_normal(shape, np.float32) * np.float32(0.2)
               for name, shape in architecture.required().items()}
    return {name: 1 + w if name.endswith("norm") else w for name, w in weights.items()}


def model_of(architecture: Architecture, weights: dict[str, Floats]) -> Model:
    """A model whose tensors lie in memory."""
    tensors = {name: StoredTensor(w.shape, w.__getitem__) for name, w in weights.items()}
    return Model(architecture, tensors, architecture.name)


def side_by_side(weight: Floats, heads: int) -> Floats:
    """Rows of q or k as llama.cpp's converter writes them: rotary pairs beside each other."""
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    path: Path, architecture: Architecture, weights: dict[str, Floats],
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    omit: tuple[str, ...] = (), **overrides: object,
) -> Path:
    """One GGUF file; ``omit`` leaves metadata keys out, ``overrides`` changes strings in them."""
    family = str(overrides.get("family", architecture.family))
    writer = gguf.GGUFWriter(path, family)
    numbers = {
        "block_count": architecture.layers, "context_length": architecture.context,
        "embedding_length": architecture.width, "feed_forward_length": architecture.ffn_width,
        "attention.head_count": architecture.heads,
        "attention.head_count_kv": architecture.kv_heads,
        "attention.key_length": architecture.head_width,
        "attention.value_length": architecture.head_width,
        "rope.dimension_count": architecture.head_width,
    }
    for key, number in numbers.items():
        if key not in omit:
            writer.add_uint32(f"{family}.{key}", number)
    writer.add_float32(f"{family}.rope.freq_base", architecture.rope_base)
    writer.add_float32(f"{family}.attention.layer_norm_rms_epsilon", architecture.norm_epsilon)
    writer.add_string("padding", "x" * 64)
    for name, weight in weights.items():
        part = name.split(".")[-2:-1]
        if architecture.family == "llama" and part in (["q"], ["k"]):
            heads = architecture.heads if part == ["q"] else architecture.kv_heads
            weight = side_by_side(weight, heads)
        label = gguf_frontend._file_name(name)
        if weight.ndim == 2 and kind != gguf.GGMLQuantizationType.F32:
            writer.add_tensor(label, gguf.quants.quantize(weight, kind), raw_dtype=kind)
        else:
            writer.add_tensor(label, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def config_of(architecture: Architecture) -> dict[str, object]:
    """Entries of config.json."""
    if architecture.family == "opt":
        return {
            "model_type": "opt", "hidden_size": architecture.width, "word_embed_proj_dim":
            architecture.width, "num_hidden_layers": architecture.layers,
            "num_attention_heads": architecture.heads, "ffn_dim": architecture.ffn_width,
            "vocab_size": architecture.vocabulary, "activation_function": architecture.activation,
            "max_position_embeddings": architecture.context, "do_layer_norm_before": True,
            "enable_bias": architecture.linear_bias,
            "tie_word_embeddings": architecture.tied_embeddings,
        }
    if architecture.family == "bloom":
        return {
            "model_type": "bloom", "n_embed": architecture.width, "n_layer": architecture.layers,
            "n_head": architecture.heads, "vocab_size": architecture.vocabulary,
            "layer_norm_epsilon": architecture.norm_epsilon, "seq_length": architecture.context,
        }
    return {
        "model_type": architecture.family, "hidden_size": architecture.width,
        "num_hidden_layers": architecture.layers, "num_attention_heads": architecture.heads,
        "num_key_value_heads": architecture.kv_heads, "head_dim": architecture.head_width,
        "intermediate_size": architecture.ffn_width, "vocab_size": architecture.vocabulary,
        "rms_norm_eps": architecture.norm_epsilon, "rope_theta": architecture.rope_base,
        "max_position_embeddings": architecture.context, "hidden_act": "silu",
        "tie_word_embeddings": architecture.tied_embeddings,
        "partial_rotary_factor": architecture.rotary / architecture.head_width,
        "sliding_window": architecture.window or None,
    }


def fused(architecture: Architecture, weights: dict[str, Floats]) -> dict[str, Floats]:
    """Weights in which BLOOM's q of a layer has the rows of q, k and v, head by head."""
    if architecture.family != "bloom":
        return weights
    joined = {}
    for name, weight in weights.items():
        if ".q." in name:
            parts = [weights[name.replace(".q.", f".{linear}.")] for linear in "qkv"]
            heads = [w.reshape(architecture.heads, 1, -1, *w.shape[1:]) for w in parts]
            joined[name] = np.concatenate(heads, axis=1).reshape(-1, *weight.shape[1:])
        elif not {"k", "v"} & set(name.split(".")):
            joined[name] = weight
    return joined


def write_folder(
    folder: Path, architecture: Architecture, weights: dict[str, Floats], kind: str = "F32",
    shards: int = 1, prefix: str = "",
) -> Path:
    """One Hugging Face folder with weights of type F32, F16 or BF16; labels lack ``prefix``."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_of(architecture)))
    labels = {safetensors_frontend.file_name(architecture.family, name).removeprefix(prefix): w
              for name, w in fused(architecture, weights).items()}
    files: dict[str, str] = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(labels.items())[shard::shards])
        files |= dict.fromkeys(part, name)
        if kind == "BF16":
            write_bfloat16(folder / name, part)
        else:
            dtype = {"F32": np.float32, "F16": np.float16}[kind]
            safetensors.numpy.save_file(
                {label: w.astype(dtype) for label, w in part.items()}, folder / name)
    if shards > 1:
        index = {"weight_map": files}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def write_bfloat16(path: Path, weights: dict[str, Floats]) -> None:
    """A safetensors file of truncated float32 (numpy has no bfloat16 to save)."""
    header, data = {}, b""
    for label, weight in weights.items():
        raw = (weight.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        header[label] = {"dtype": "BF16", "shape": weight.shape,
                         "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
