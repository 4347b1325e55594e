"""GGUF files: llama.cpp's checkpoints, memory-mapped, dequantized tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from compiler.errors import FrontendError
from compiler.frontends.rope import factors_from_config
from compiler.model import (
    BLOCK,
    Architecture,
    Floats,
    Model,
    QuantizedBlocks,
    StoredTensor,
    is_number,
)
from compiler.model import FAMILIES as ALL_FAMILIES
from hw.fixed import Ints

MAGIC = b"GGUF"
FAMILIES = ("llama", "qwen2", "qwen3")
"""Families read from GGUF; the others of `compiler.model.FAMILIES` need their folder."""

TENSOR_NAMES = {
    "embedding": "token_embd.weight", "final_norm": "output_norm.weight", "head": "output.weight",
}
LAYER_NAMES = {
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
    "attention_norm": "attn_norm.weight", "mlp_norm": "ffn_norm.weight",
    "q_norm": "attn_q_norm.weight", "k_norm": "attn_k_norm.weight",
}


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Report what the reader stumbles over in a damaged file as one line."""
    try:
        yield
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FrontendError(f"{path}: the GGUF file is cut off or damaged ({reason}); "
                            "fetch it again") from None


def open_gguf(path: Path) -> gguf.GGUFReader:
    """Map a GGUF file; raises FrontendError when it is not one or not whole.

    Parsing a large vocabulary takes seconds, so the last file stays open.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
        status = path.stat()
    except OSError as error:
        raise FrontendError(f"{path}: cannot be read: {error.strerror}") from None
    if magic != MAGIC:
        raise FrontendError(f"{path}: not a GGUF file (it does not start with GGUF)")
    reader = _parse(path, status.st_mtime_ns, status.st_size)
    if reader.endianess != gguf.GGUFEndian.LITTLE:
        raise FrontendError(f"{path}: big-endian GGUF files are not supported; "
                            "convert it to little-endian")
    return reader


@lru_cache(maxsize=1)
def _parse(path: Path, modified: int, size: int) -> gguf.GGUFReader:
    with _damage(path), np.errstate(over="ignore"):
        return gguf.GGUFReader(path)


def metadata(reader: gguf.GGUFReader, path: Path, key: str, default: Any = None) -> Any:
    """Value of a metadata key; without a default, FrontendError says that it is missing."""
    field = reader.get_field(key)
    if field is None:
        if default is None:
            raise FrontendError(f"{path}: metadata key {key} is missing")
        return default
    with _damage(path):
        return field.contents()


def load_gguf(path: Path) -> Model:
    """Read the architecture and check every tensor's presence and shape; read no tensor data."""
    reader = open_gguf(path)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    architecture = _architecture(reader, path, stored)
    names = [*architecture.required(), *architecture.optional()]
    tensors = {name: _stored_tensor(stored[_file_name(name)], name, architecture, path)
               for name in names if _file_name(name) in stored}
    return Model(architecture, tensors, str(path), _file_name)


def _file_name(name: str) -> str:
    if name in TENSOR_NAMES:
        return TENSOR_NAMES[name]
    _, layer, part = name.split(".", 2)
    part, _, suffix = part.partition(".")
    return f"blk.{layer}.{LAYER_NAMES[part]}" + (f".{suffix}" if suffix else "")


def _architecture(
    reader: gguf.GGUFReader, path: Path, stored: dict[str, gguf.ReaderTensor]
) -> Architecture:
    family = str(metadata(reader, path, "general.architecture"))
    if family not in FAMILIES:
        raise FrontendError(f"{path}: architecture {family!r} is not supported; "
                            f"supported are {', '.join(FAMILIES)}"
                            + ("; give its Hugging Face folder" if family in ALL_FAMILIES else ""))

    def number(key: str, default: float | None = None) -> float:
        value = metadata(reader, path, f"{family}.{key}", default)
        if not is_number(value):
            raise FrontendError(f"{path}: metadata key {family}.{key} must be a number, "
                                f"not {str(value)[:40]!r}")
        return float(value)

    if number("expert_count", 0):
        raise FrontendError(f"{path}: mixture-of-experts models are not supported")
    width, heads = int(number("embedding_length")), int(number("attention.head_count"))
    head_width = int(number("attention.key_length", width // max(heads, 1)))
    rotary = int(number("rope.dimension_count", head_width))
    if rotary != head_width and family == "llama":
        raise FrontendError(f"{path}: rotary embedding of a part of each head is not supported")
    if number("attention.value_length", head_width) != head_width:
        raise FrontendError(f"{path}: value heads of another width than keys are not supported")
    if "token_embd.weight" not in stored:
        raise FrontendError(f"{path}: tensor token_embd.weight is missing; "
                            "the file is incomplete or holds no language model")
    base = float(number("rope.freq_base", 10000.0))
    return Architecture(
        name=str(metadata(reader, path, "general.name", path.stem)),
        family=family,
        layers=int(number("block_count")),
        width=width,
        heads=heads,
        kv_heads=int(number("attention.head_count_kv", heads)),
        head_width=head_width,
        ffn_width=int(number("feed_forward_length")),
        vocabulary=int(stored["token_embd.weight"].shape[-1]),
        norm_epsilon=float(number("attention.layer_norm_rms_epsilon")),
        rope_base=base,
        context=int(number("context_length")),
        tied_embeddings="output.weight" not in stored,
        rope_factors=_rope_factors(reader, path, stored, family, rotary, base),
        rotary_width=0 if rotary == head_width else rotary,
        qkv_bias=family == "qwen2",
        qk_norm=family == "qwen3",
    )


def _rope_factors(
    reader: gguf.GGUFReader, path: Path, stored: dict[str, gguf.ReaderTensor], family: str,
    rotary: int, base: float,
) -> tuple[float, ...] | None:
    if (tensor := stored.get("rope_freqs.weight")) is not None:
        return tuple(float(factor) for factor in _dequantize(tensor, slice(None)).ravel())
    kind = metadata(reader, path, f"{family}.rope.scaling.type", "none")
    if kind == "none":
        return None
    factor = metadata(reader, path, f"{family}.rope.scaling.factor")
    return factors_from_config({"type": kind, "factor": factor}, rotary, base, str(path))


def _dequantize(tensor: gguf.ReaderTensor, rows: slice | Ints) -> Floats:
    weights = gguf.quants.dequantize(np.ascontiguousarray(tensor.data[rows]), tensor.tensor_type)
    return np.array(weights, dtype=np.float32)


def _stored_tensor(
    tensor: gguf.ReaderTensor, name: str, architecture: Architecture, path: Path
) -> StoredTensor:
    kind = tensor.tensor_type
    block_size, type_size = gguf.GGML_QUANT_SIZES[kind]
    try:
        gguf.quants.dequantize(np.zeros((1, type_size), np.uint8), kind)
    except NotImplementedError:
        raise FrontendError(f"{path}: tensor {tensor.name} has type {kind.name}, "
                            "which cannot be dequantized") from None
    shape = tuple(int(size) for size in reversed(tensor.shape))
    assert kind.name not in BLOCK_READERS or block_size == BLOCK
    order = np.arange(shape[0])
    if architecture.family == "llama" and name.split(".")[-2:-1] in (["q"], ["k"]):
        heads = architecture.heads if ".q." in name else architecture.kv_heads
        if shape[0] % (heads * 2) == 0:
            order = order.reshape(heads, -1, 2).swapaxes(1, 2).ravel()
    blocks = partial(_blocks, tensor, order) if kind.name in BLOCK_READERS else None
    return StoredTensor(shape, lambda rows: _dequantize(tensor, order[rows]), blocks)


def _blocks(tensor: gguf.ReaderTensor, order: Ints) -> QuantizedBlocks:
    kind = tensor.tensor_type
    _, type_size = gguf.GGML_QUANT_SIZES[kind]
    data = np.asarray(tensor.data)[order]
    data = data.reshape(len(order), data.shape[1] // type_size, type_size)
    codes, scales, minima = BLOCK_READERS[kind.name](data)
    return QuantizedBlocks(kind=kind.name.lower(), codes=codes.reshape(len(order), -1),
                           scales=scales, minima=minima)


def _halves(data: Ints, offset: int) -> Floats:
    """The float16 at a byte offset of every block."""
    return data[:, :, offset:offset + 2].copy().view(np.float16)[:, :, 0].astype(np.float32)


def _nibbles(data: Ints) -> Ints:
    """Codes -8..7: the low nibbles of a block's 16 bytes are its first 16 inputs."""
    return np.concatenate([data & 15, data >> 4], axis=2).astype(np.int8) - np.int8(8)


def _q4_0(data: Ints) -> tuple[Ints, Floats, Floats | None]:
    return _nibbles(data[:, :, 2:]), _halves(data, 0), None


def _q4_1(data: Ints) -> tuple[Ints, Floats, Floats | None]:
    scales = _halves(data, 0)
    return _nibbles(data[:, :, 4:]), scales, _halves(data, 2) + 8 * scales


def _q8_0(data: Ints) -> tuple[Ints, Floats, Floats | None]:
    return np.ascontiguousarray(data[:, :, 2:]).view(np.int8), _halves(data, 0), None


BLOCK_READERS = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q8_0": _q8_0}
