"""Hugging Face folders: config.json and safetensors files, memory-mapped, without torch."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from compiler.errors import FrontendError
from compiler.frontends.rope import factors_from_config
from compiler.model import FAMILIES, Architecture, Floats, Model, StoredTensor, is_number
from hw.fixed import Ints

STORED_TYPES: dict[str, type] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
"""How each supported element type is mapped; bfloat16 is widened from its bits."""

TENSOR_NAMES = {
    "embedding": "model.embed_tokens.weight", "final_norm": "model.norm.weight",
    "head": "lm_head.weight",
}
LAYER_NAMES = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
    "attention_norm": "input_layernorm.weight", "mlp_norm": "post_attention_layernorm.weight",
    "q_norm": "self_attn.q_norm.weight", "k_norm": "self_attn.k_norm.weight",
}


def load_safetensors(folder: Path) -> Model:
    """Read the configuration and check every tensor's presence and shape; read no tensor data."""
    architecture = _architecture(folder)
    names = {_file_name(name): name
             for name in [*architecture.required(), *architecture.optional()]}
    tensors: dict[str, StoredTensor] = {}
    for path in _shards(folder):
        tensors |= _open_shard(path, names)
    return Model(architecture, tensors, str(folder), _file_name)


def _file_name(name: str) -> str:
    if name in TENSOR_NAMES:
        return TENSOR_NAMES[name]
    _, layer, part = name.split(".", 2)
    part, _, suffix = part.partition(".")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}" + (f".{suffix}" if suffix else "")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises FrontendError naming the file otherwise."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FrontendError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise FrontendError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise FrontendError(f"{path}: must hold a JSON object")
    return value


def _architecture(folder: Path) -> Architecture:
    path = folder / "config.json"
    config = read_json(path)

    def number(key: str, default: float | None = None) -> float:
        value = config.get(key)
        if value is None:
            value = default
        if value is None:
            raise FrontendError(f"{path}: key {key} is missing")
        if not is_number(value):
            raise FrontendError(f"{path}: {key} must be a number, not {str(value)[:40]!r}")
        return float(value)

    family = str(config.get("model_type", "unknown"))
    if family not in FAMILIES:
        raise FrontendError(f"{path}: model_type {family!r} is not supported; "
                            f"supported are {', '.join(FAMILIES)}")
    if config.get("quantization_config") is not None:
        raise FrontendError(f"{path}: quantized safetensors are not supported; "
                            "use the original checkpoint or a GGUF file")
    if config.get("use_sliding_window"):
        raise FrontendError(f"{path}: sliding-window attention is not supported")
    width, heads = int(number("hidden_size")), int(number("num_attention_heads"))
    head_width = int(number("head_dim", 128 if family == "qwen3" else width // max(heads, 1)))
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(scaling, dict):
        raise FrontendError(f"{path}: rope_scaling must be an object")
    base = scaling.get("rope_theta") or number("rope_theta", 10000.0)
    if not is_number(base):
        raise FrontendError(f"{path}: rope_theta must be a number, not {str(base)[:40]!r}")
    return Architecture(
        name=str(config.get("_name_or_path") or folder.resolve().name),
        family=family,
        layers=int(number("num_hidden_layers")),
        width=width,
        heads=heads,
        kv_heads=int(number("num_key_value_heads", heads)),
        head_width=head_width,
        ffn_width=int(number("intermediate_size")),
        vocabulary=int(number("vocab_size")),
        norm_epsilon=float(number("rms_norm_eps", 1e-6)),
        rope_base=float(base),
        context=int(number("max_position_embeddings", 2048)),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        rope_factors=factors_from_config(scaling, head_width, float(base), str(path)),
        qkv_bias=family == "qwen2" or bool(config.get("attention_bias", False)),
        qk_norm=family == "qwen3",
        activation=str(config.get("hidden_act", "silu")),
    )


def _shards(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        if paths := sorted(folder.glob("*.safetensors")):
            return paths
        raise FrontendError(f"{folder}: no *.safetensors file beside config.json; "
                            "only safetensors weights are supported")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise FrontendError(f"{index}: key weight_map is missing or not an object")
    paths = [folder / str(name) for name in sorted(set(map(str, weight_map.values())))]
    for path in paths:
        if path.parent != folder:
            raise FrontendError(f"{index}: {path.name} must lie beside the index")
        if not path.is_file():
            raise FrontendError(f"{path}: missing, but named by {index.name}; fetch it again")
    return paths


def _open_shard(path: Path, names: dict[str, str]) -> dict[str, StoredTensor]:
    """The named tensors of one file; the library checks that header and data fit each other."""
    try:
        with safetensors.safe_open(path, "numpy"):
            pass
        data = np.memmap(path, np.uint8, "r")
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise FrontendError(f"{path}: the safetensors file is cut off or damaged ({reason}); "
                            "fetch it again") from None
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:start].tobytes())
    tensors = {}
    for label in header.keys() & names.keys():
        kind, shape = header[label]["dtype"], tuple(header[label]["shape"])
        begin, end = header[label]["data_offsets"]
        if kind not in STORED_TYPES:
            raise FrontendError(f"{path}: tensor {label} has type {kind}; "
                                f"supported are {', '.join(STORED_TYPES)}")
        read = partial(_read, data[start + begin:start + end], kind, shape)
        tensors[names[label]] = StoredTensor(shape, read)
    return tensors


def _read(data: Ints, kind: str, shape: tuple[int, ...], rows: slice | Ints) -> Floats:
    # A file's data may start at any byte, so elements are viewed after the rows are copied.
    values: Ints = np.array(data.reshape(shape[0], -1)[rows]).view(STORED_TYPES[kind])
    if kind == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(values, np.float32).reshape(-1, *shape[1:])
