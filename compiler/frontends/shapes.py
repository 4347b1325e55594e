"""Published shapes with seeded random weights: sizes are real, the text is not."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import partial
from typing import Any

import numpy as np

from compiler.errors import FrontendError
from compiler.frontends.rope import llama3_factors
from compiler.model import Architecture, Floats, Model, StoredTensor
from hw.fixed import Ints

PREFIX = "shape:"
SEED_ROWS = 1024
"""Rows that share a random stream, so that a few rows of a large tensor are cheap."""

_QWEN2 = Architecture(
    name="qwen2-0.5b", family="qwen2", layers=24, width=896, heads=14, kv_heads=2, head_width=64,
    ffn_width=4864, vocabulary=151936, norm_epsilon=1e-6, rope_base=1e6, context=32768,
    tied_embeddings=True, qkv_bias=True,
)


def _qwen3(name: str, layers: int, width: int, heads: int, ffn_width: int) -> Architecture:
    return Architecture(
        name=name, family="qwen3", layers=layers, width=width, heads=heads, kv_heads=8,
        head_width=128, ffn_width=ffn_width, vocabulary=151936, norm_epsilon=1e-6, rope_base=1e6,
        context=40960, tied_embeddings=True, qk_norm=True,
    )


def _small(family: str, **options: Any) -> Architecture:
    """A decoder small enough for continuous integration."""
    sizes = {"layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "head_width": 16,
             "ffn_width": 160, "vocabulary": 256}
    return Architecture(**{
        "name": "tiny" if family == "llama" else f"tiny-{family}", "family": family, **sizes,
        "norm_epsilon": 1e-5, "rope_base": 1e4, "context": 512, "tied_embeddings": True, **options,
    })


SHAPES = {
    "tiny": _small("llama"),
    "tiny-qwen3": _small("qwen3", qk_norm=True, head_width=24),
    "tiny-qwen2": _small("qwen2", qkv_bias=True),
    "tiny-opt": _small(
        "opt", kv_heads=4, norm="layer", position="learned", position_offset=2, gated=False,
        linear_bias=True, activation="relu",
    ),
    "tiny-bloom": _small(
        "bloom", kv_heads=4, norm="layer", position="alibi", gated=False, linear_bias=True,
        embedding_norm=True, activation="gelu_tanh", ffn_width=256,
    ),
    "tiny-mistral": _small("mistral", window=6, rotary_width=8),
    "smollm2-135m": Architecture(
        name="smollm2-135m", family="llama", layers=30, width=576, heads=9, kv_heads=3,
        head_width=64, ffn_width=1536, vocabulary=49152, norm_epsilon=1e-5, rope_base=1e5,
        context=8192, tied_embeddings=True,
    ),
    "qwen2-0.5b": _QWEN2,
    "qwen2.5-0.5b": dataclasses.replace(_QWEN2, name="qwen2.5-0.5b"),
    "qwen3-0.6b": _qwen3("qwen3-0.6b", 28, 1024, 16, 3072),
    "qwen3-1.7b": _qwen3("qwen3-1.7b", 28, 2048, 16, 6144),
    "qwen3-4b": _qwen3("qwen3-4b", 36, 2560, 32, 9728),
    "llama-3.2-1b": Architecture(
        name="llama-3.2-1b", family="llama", layers=16, width=2048, heads=32, kv_heads=8,
        head_width=64, ffn_width=8192, vocabulary=128256, norm_epsilon=1e-5, rope_base=5e5,
        context=131072, tied_embeddings=True,
        rope_factors=llama3_factors(64, 5e5, factor=32, low=1, high=4, original=8192),
    ),
    "tinyllama-1.1b": Architecture(
        name="tinyllama-1.1b", family="llama", layers=22, width=2048, heads=32, kv_heads=4,
        head_width=64, ffn_width=5632, vocabulary=32000, norm_epsilon=1e-5, rope_base=1e4,
        context=2048, tied_embeddings=False,
    ),
}


def load_shape(spec: str, seed: int = 0) -> Model:
    """``shape:NAME`` with weights that depend only on seed, name and shape of each tensor."""
    name = spec.removeprefix(PREFIX)
    if not name:
        raise FrontendError(f"{spec} names no shape; known are "
                            + ", ".join(PREFIX + known for known in SHAPES))
    if name not in SHAPES:
        raise FrontendError(f"{spec}: unknown shape; known are "
                            + ", ".join(PREFIX + known for known in SHAPES))
    architecture = SHAPES[name]
    tensors = {
        tensor: StoredTensor(shape, partial(_generate, tensor, shape, seed))
        for tensor, shape in architecture.required().items()
    }
    return Model(architecture, tensors, spec)


def _generate(name: str, shape: tuple[int, ...], seed: int, rows: slice | Ints) -> Floats:
    """Norms near 1, small biases, weights of variance ``1 / inputs``; any rows, block by block."""
    wanted = np.arange(shape[0])[rows]
    weights = np.empty((len(wanted), *shape[1:]), np.float32)
    blocks = wanted // SEED_ROWS
    for block in np.unique(blocks):
        here = blocks == block
        digest = hashlib.sha256(f"{seed}/{name}/{block}".encode()).digest()
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
        height = min(SEED_ROWS, shape[0] - int(block) * SEED_ROWS)
        values = generator.standard_normal((height, *shape[1:]), np.float32)
        weights[here] = values[wanted[here] - block * SEED_ROWS]
    if name.endswith("norm.bias"):
        return np.float32(0.05) * weights
    if name.endswith("norm"):
        return 1 + np.float32(0.1) * weights
    if name.endswith(".bias"):
        return np.float32(0.1) * weights
    return weights * np.float32(shape[-1] ** -0.5)
