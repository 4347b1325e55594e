"""Hugging Face folders: config.json and safetensors files, memory-mapped, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import safetensors

from compiler.errors import FrontendError
from compiler.frontends.config import read_architecture, read_json
from compiler.model import Architecture, Floats, Model, StoredTensor
from hw.fixed import Ints

STORED_TYPES: dict[str, type] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
"""How each supported element type is mapped; bfloat16 is widened from its bits."""

PREFIXES = ("model.", "transformer.")
"""Files that were saved from the bare decoder, without the head, lack these."""
FUSED = "self_attention.query_key_value"
"""BLOOM's q, k and v in one tensor: for each head its rows of q, then of k, then of v."""
LLAMA_NAMES = {
    "embedding": "model.embed_tokens", "final_norm": "model.norm", "head": "lm_head",
    "layers": "model.layers", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
    "v": "self_attn.v_proj", "o": "self_attn.o_proj", "gate": "mlp.gate_proj",
    "up": "mlp.up_proj", "down": "mlp.down_proj", "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm", "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
}
NAMES = {
    "opt": LLAMA_NAMES | {
        "embedding": "model.decoder.embed_tokens", "final_norm": "model.decoder.final_layer_norm",
        "position_embedding": "model.decoder.embed_positions", "layers": "model.decoder.layers",
        "o": "self_attn.out_proj", "up": "fc1", "down": "fc2",
        "attention_norm": "self_attn_layer_norm", "mlp_norm": "final_layer_norm",
    },
    "bloom": LLAMA_NAMES | {
        "embedding": "transformer.word_embeddings", "final_norm": "transformer.ln_f",
        "embedding_norm": "transformer.word_embeddings_layernorm", "layers": "transformer.h",
        "q": FUSED, "k": FUSED, "v": FUSED, "o": "self_attention.dense",
        "up": "mlp.dense_h_to_4h", "down": "mlp.dense_4h_to_h",
    },
}
"""Names in files, without the ending, by family; the others are as in Llama."""


def load_safetensors(folder: Path) -> Model:
    """Read the configuration and check every tensor's presence and shape; read no tensor data."""
    architecture = read_architecture(folder)
    label = partial(file_name, architecture.family)
    names: dict[str, list[str]] = {}
    for name in architecture.required() | architecture.optional():
        full = label(name)
        bare = next((full.removeprefix(prefix) for prefix in PREFIXES if full.startswith(prefix)),
                    full)
        for spelling in {full, bare}:
            names.setdefault(spelling, []).append(name)
    tensors: dict[str, StoredTensor] = {}
    for path in _shards(folder):
        for name, tensor in _open_shard(path, names).items():
            tensors[name] = _part(name, tensor, architecture)
    return Model(architecture, tensors, str(folder), label)


def file_name(family: str, name: str) -> str:
    """Label of a tensor in the files of a family."""
    names = NAMES.get(family, LLAMA_NAMES)
    if not name.startswith("layers."):
        part, _, suffix = name.partition(".")
        return f"{names[part]}.{suffix or 'weight'}"
    _, layer, part = name.split(".", 2)
    part, _, suffix = part.partition(".")
    return f"{names['layers']}.{layer}.{names[part]}.{suffix or 'weight'}"


def _part(name: str, tensor: StoredTensor, architecture: Architecture) -> StoredTensor:
    """Rows of q, k or v in a fused tensor; other tensors as they are."""
    linear = name.split(".")[-2:-1]
    if architecture.family != "bloom" or linear not in (["q"], ["k"], ["v"]):
        return tensor
    if tensor.shape[0] % (architecture.heads * 3):
        return tensor
    rows = np.arange(tensor.shape[0]).reshape(architecture.heads, 3, -1)
    order = rows[:, "qkv".index(linear[0])].ravel()
    return StoredTensor((len(order), *tensor.shape[1:]), lambda chosen: tensor.read(order[chosen]))


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


def _open_shard(path: Path, names: Mapping[str, Sequence[str]]) -> dict[str, StoredTensor]:
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
        for name in names[label]:
            tensors[name] = StoredTensor(shape, read)
    return tensors


def _read(data: Ints, kind: str, shape: tuple[int, ...], rows: slice | Ints) -> Floats:
    # A file's data may start at any byte, so elements are viewed after the rows are copied.
    values: Ints = np.array(data.reshape(shape[0], -1)[rows]).view(STORED_TYPES[kind])
    if kind == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(values, np.float32).reshape(-1, *shape[1:])
