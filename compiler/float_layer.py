"""One float32 decoder layer at a time, in numpy: the reference that everything is measured against.

Norms, rotary embedding, ALiBi and windows follow the published definitions of the families, as
`compiler.model` names them. One window of tokens is computed whole, without a key-value cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from compiler.activation_table import FACTORS, FUNCTIONS
from compiler.errors import FrontendError
from compiler.model import LINEARS, Architecture, Floats, Model
from compiler.orthogonal import hadamard_blocks
from hw.fixed import Ints

Weights = Mapping[str, Floats]
"""Tensors of one layer by name without the layer's prefix."""

NORMS = ("attention_norm", "mlp_norm", "q_norm", "k_norm")


def layer_weights(model: Model, layer: int) -> dict[str, Floats]:
    """Every tensor that layer ``layer`` has: weights and biases of linears and norms."""
    prefix = f"layers.{layer}."
    names = [*NORMS, *(f"{norm}.bias" for norm in NORMS),
             *(f"{linear}.{part}" for linear in LINEARS for part in ("weight", "bias"))]
    return {name: model.tensor(prefix + name) for name in names if model.has(prefix + name)}


def embed(model: Model, tokens: Ints, first: int = 0) -> Floats:
    """Residual [T, width] before the first layer; the first token's position is ``first``."""
    architecture = model.architecture
    x = model.rows("embedding", tokens)
    if architecture.embedding_norm:
        x = normalized(architecture, x, model.tensor("embedding_norm"),
                       model.tensor("embedding_norm.bias"))
    if architecture.position == "learned":
        places = np.arange(first, first + len(tokens)) + architecture.position_offset
        if first + len(tokens) > (rows := learned_positions(model)):
            raise FrontendError(f"{model.source}: {first + len(tokens)} tokens are too many, the "
                                f"model has {rows} learned positions; use a shorter text")
        x = x + model.rows("position_embedding", places)
    return x


def learned_positions(model: Model) -> int:
    """Positions of the model's table that tokens can have."""
    rows: int = model.tensors["position_embedding"].shape[0]
    return rows - model.architecture.position_offset


def final_hidden(model: Model, x: Floats) -> Floats:
    """Input of the head."""
    bias = model.tensor("final_norm.bias") if model.has("final_norm.bias") else None
    return normalized(model.architecture, x, model.tensor("final_norm"), bias)


def normalized(
    architecture: Architecture, x: Floats, weight: Floats, bias: Floats | None
) -> Floats:
    """RMSNorm, or LayerNorm for an architecture with ``norm == "layer"``, of the last axis."""
    if architecture.norm == "rms":
        return rms_normalized(x, weight, architecture.norm_epsilon, bias)
    centred: Floats = (x - x.mean(axis=-1, keepdims=True)).astype(np.float32)
    return rms_normalized(centred, weight, architecture.norm_epsilon, bias)


def rms_normalized(x: Floats, weight: Floats, epsilon: float, bias: Floats | None) -> Floats:
    """``x`` over the root of its mean square, times ``weight``, plus ``bias``."""
    mean: Floats = np.mean(np.square(x), axis=-1, keepdims=True, dtype=np.float32)
    y: Floats = x / np.sqrt(mean + np.float32(epsilon)) * weight
    return y if bias is None else y + bias


def rotary_tables(architecture: Architecture, length: int) -> tuple[Floats, Floats]:
    """Cosines and sines, float64 [length, rotary width / 2]."""
    width = architecture.rotary
    frequencies = architecture.rope_base ** -(np.arange(0, width, 2) / width)
    if architecture.rope_factors is not None:
        frequencies = frequencies / np.array(architecture.rope_factors)
    angles = np.arange(length)[:, None] * frequencies
    return np.cos(angles), np.sin(angles)


def alibi_slopes(heads: int) -> Floats:
    """Slopes of ALiBi (Press et al., "Train Short, Test Long", section 3 and its code)."""
    whole = 1 << int(math.log2(heads))
    slopes = [2.0 ** (-8 * (i + 1) / whole) for i in range(whole)]
    between = [2.0 ** (-4 * (i + 1) / whole) for i in range(0, 2 * (heads - whole), 2)]
    return np.array(slopes + between)


def rotated(architecture: Architecture, x: Floats) -> Floats:
    """Rotary embedding of [T, heads, head_width]; pairs are half the rotary width apart."""
    if architecture.position != "rope":
        return x
    half = architecture.rotary // 2
    cos, sin = (table[:, None].astype(np.float32) for table in rotary_tables(architecture, len(x)))
    first, second, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)


def attention(
    architecture: Architecture, q: Floats, k: Floats, v: Floats
) -> tuple[Floats, float]:
    """Causal attention of one window: [T, heads, head_width] to [T, all], and the score peak.

    The peak is the largest magnitude of a score that a token sees, in log2 units.
    """
    weights, peak = attention_weights(architecture, q, k)
    mixed = weights @ v.transpose(1, 0, 2)[:, None]
    y: Floats = mixed.transpose(2, 0, 1, 3).reshape(len(q), -1)
    return y, peak


def attention_weights(
    architecture: Architecture, q: Floats, k: Floats
) -> tuple[Floats, float]:
    """Softmax of the scores [kv heads, heads that share one, T, T], and the score peak."""
    length, heads, head_width = q.shape
    group = heads // k.shape[1]
    queries = q.reshape(length, -1, group, head_width).transpose(1, 2, 0, 3)
    scores = queries @ k.transpose(1, 2, 0)[:, None] * np.float32(head_width ** -0.5)
    distance = np.arange(length)[:, None] - np.arange(length)
    seen = distance >= 0
    if architecture.window:
        seen &= distance < architecture.window
    peak = float(np.abs(scores[..., seen]).max()) * math.log2(math.e)
    if architecture.position == "alibi":
        slopes = alibi_slopes(heads).reshape(-1, group, 1, 1).astype(np.float32)
        scores = scores - slopes * distance.astype(np.float32)
    scores[..., ~seen] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights, peak


def run_layer(
    architecture: Architecture, weights: Weights, x: Floats
) -> tuple[Floats, dict[str, Floats]]:
    """Residual [T, width] behind a layer, and the layer's tensors by name.

    Those of `run_attention` and `run_mlp`, and ``residual_peak`` [1].
    """
    middle, made = run_attention(architecture, weights, x)
    out, of_mlp = run_mlp(architecture, weights, middle)
    peak = max(float(np.abs(part).max()) for part in (x, middle, out))
    made |= of_mlp | {"residual_peak": np.array([peak], np.float32)}
    return out, made


def linear(weights: Weights, name: str, x: Floats) -> Floats:
    """A linear of the layer with its bias."""
    y: Floats = x @ weights[f"{name}.weight"].T
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def run_attention(
    architecture: Architecture, weights: Weights, x: Floats
) -> tuple[Floats, dict[str, Floats]]:
    """Residual [T, width] behind the attention part, and its tensors by name.

    ``attention_input``; ``q``, ``k``, ``v`` (with bias), ``q_normed``, ``k_normed`` (equal to q and
    k without q/k norms), ``q_rotated``, ``k_rotated``, all [T, heads, head_width]; ``score_peak``
    [1], ``attention_output``.
    """
    made: dict[str, Floats] = {"attention_input": normalized(
        architecture, x, weights["attention_norm"], weights.get("attention_norm.bias"))}
    for name in "qkv":
        made[name] = linear(weights, name, made["attention_input"]).reshape(
            len(x), -1, architecture.head_width)
    attend(architecture, weights, made)
    return x + linear(weights, "o", made["attention_output"]), made


def attend(architecture: Architecture, weights: Weights, made: dict[str, Floats]) -> None:
    """Add what `run_attention` makes of ``q``, ``k`` and ``v``."""
    for name in "qk":
        y = made[name]
        if architecture.qk_norm:
            y = rms_normalized(y, weights[f"{name}_norm"], architecture.norm_epsilon,
                               weights.get(f"{name}_norm.bias"))
        made[f"{name}_normed"] = y
        made[f"{name}_rotated"] = rotated(architecture, y)
    made["attention_output"], score_peak = attention(
        architecture, made["q_rotated"], made["k_rotated"], made["v"])
    made["score_peak"] = np.array([score_peak], np.float32)


def run_mlp(
    architecture: Architecture, weights: Weights, middle: Floats
) -> tuple[Floats, dict[str, Floats]]:
    """Residual [T, width] behind the MLP, and its tensors by name.

    ``mlp_input``, ``gate`` (gated MLPs only), ``up``, ``mlp_hidden``.
    """
    made: dict[str, Floats] = {"mlp_input": normalized(
        architecture, middle, weights["mlp_norm"], weights.get("mlp_norm.bias"))}
    for name in ("gate", "up") if architecture.gated else ("up",):
        made[name] = linear(weights, name, made["mlp_input"])
    made["mlp_hidden"] = hidden(architecture, made)
    return middle + linear(weights, "down", made["mlp_hidden"]), made


def hidden(architecture: Architecture, made: Mapping[str, Floats]) -> Floats:
    """Input of down from ``up`` and, in gated MLPs, ``gate``."""
    function, of_factor = FUNCTIONS[architecture.activation], FACTORS.get(architecture.activation)
    y: Floats = made["gate"] if architecture.gated else made["up"]
    y = function(y)
    if architecture.gated:
        y = y * (made["up"] if of_factor is None else of_factor(made["up"]))
    y = y.astype(np.float32)
    if architecture.hidden_rotation:
        y = hadamard_blocks(y, architecture.hidden_rotation)
    return y
