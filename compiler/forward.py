"""The float32 reference: a forward pass of a decoder in numpy.

One window of tokens is computed whole, without a key-value cache. Norms, rotary embedding, ALiBi
and windows follow the published definitions of the families, as `compiler.model` names them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from compiler.activation_table import FACTORS, FUNCTIONS
from compiler.errors import FrontendError
from compiler.model import Architecture, Floats, Model
from hw.fixed import Ints

WINDOWS = 16
"""Windows of a perplexity that run side by side."""

Capture = Callable[[int, str, Floats], None]
"""Told (layer, linear, input activations [tokens, in]) before each linear is computed."""


def forward(
    model: Model, tokens: Sequence[int] | Ints, layers: int | None = None,
    capture: Capture | None = None,
) -> Floats:
    """Logits [T, vocabulary] of tokens [T]; ``layers`` runs only the first so many layers."""
    count = model.architecture.layers if layers is None else layers
    x = _run_layers(model, _windows(model, tokens), count, capture)[0]
    return normalized(x, "final_norm", model) @ model.tensor("head").T


def generate(model: Model, tokens: Sequence[int], count: int) -> list[int]:
    """The ``count`` most likely tokens behind a text, one after the other; the first on ties.

    Every token reads all weights and computes the whole text again (`Model.in_memory` helps).
    """
    text = list(tokens)
    for _ in range(count):
        text.append(int(forward(model, text)[-1].argmax()))
    return text[len(tokens):]


def capture_activations(
    model: Model, tokens: Sequence[int] | Ints, layer: int
) -> dict[str, Floats]:
    """Input activations [T, in] of every linear of one layer, run only as far as that layer.

    q, k and v share one array, gate and up another. Raises FrontendError without such a layer.
    """
    if not 0 <= layer < model.architecture.layers:
        raise FrontendError(f"{model.source}: there is no layer {layer}; "
                            f"the layers are 0 to {model.architecture.layers - 1}")
    inputs: dict[str, Floats] = {}

    def keep(index: int, linear: str, x: Floats) -> None:
        if index == layer:
            inputs[linear] = x

    _run_layers(model, _windows(model, tokens), layer + 1, keep)
    assert inputs.keys() == set(model.architecture.linears)
    return inputs


def perplexity(model: Model, tokens: Sequence[int] | Ints, window: int = 512) -> float:
    """Perplexity over windows that do not overlap; a shorter last window counts too.

    Raises FrontendError for a text of less than 2 tokens.
    """
    if window < 2:
        raise ValueError(f"a window must hold at least 2 tokens, not {window}")
    if len(tokens) < 2:
        raise FrontendError("the text is too short for a perplexity: it has less than 2 tokens")
    tokens = np.asarray(tokens)
    whole = len(tokens) // window * window
    windows = tokens[:whole].reshape(-1, window)
    parts = [windows[i:i + WINDOWS] for i in range(0, len(windows), WINDOWS)]
    if len(tokens) - whole > 1:
        parts.append(tokens[whole:].reshape(1, -1))
    head = model.tensor("head")
    loss, predictions = 0.0, 0
    for part in parts:
        states = _run_layers(model, _windows(model, part), model.architecture.layers, None)
        for x, row in zip(states, part, strict=True):
            logits = normalized(x[:-1], "final_norm", model) @ head.T
            top = logits.max(axis=1, keepdims=True)
            total = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
            loss += float((total - logits[np.arange(len(row) - 1), row[1:]]).sum(dtype=np.float64))
            predictions += len(row) - 1
    return float(np.exp(loss / predictions))


def _windows(model: Model, tokens: Sequence[int] | Ints) -> Ints:
    """Tokens as windows [B, T]."""
    windows = np.atleast_2d(np.asarray(tokens))
    vocabulary = model.architecture.vocabulary
    if windows.size == 0:
        raise FrontendError("the text is empty: it has no tokens")
    if windows.min() < 0 or windows.max() >= vocabulary:
        raise FrontendError(f"{model.source}: a token is outside the vocabulary of {vocabulary}; "
                            "the tokenizer belongs to another model")
    return windows


def _run_layers(model: Model, windows: Ints, count: int, capture: Capture | None) -> Floats:
    """Residual [B, T, width] after ``count`` layers."""
    if not 0 <= count <= model.architecture.layers:
        raise ValueError(f"cannot run {count} of {model.architecture.layers} layers")
    architecture = model.architecture
    length = windows.shape[1]
    x = embedded(model, windows)
    cos, sin = rotary(architecture, length)
    for layer in range(count):
        x = run_layer(model, layer, x, cos, sin, capture)
    return x


def embedded(model: Model, windows: Ints) -> Floats:
    """Residual [B, T, width] before the first layer."""
    architecture = model.architecture
    size, length = windows.shape
    x = model.rows("embedding", windows.ravel()).reshape(size, length, -1)
    if architecture.embedding_norm:
        x = normalized(x, "embedding_norm", model)
    if architecture.position == "learned":
        if length > architecture.context:
            raise FrontendError(f"{model.source}: {length} tokens are too many, the model has "
                                f"{architecture.context} learned positions; use a shorter text")
        x = x + model.rows("position_embedding", np.arange(length) + architecture.position_offset)
    return x


def run_layer(
    model: Model, layer: int, x: Floats, cos: Floats, sin: Floats, capture: Capture | None = None
) -> Floats:
    """Residual [B, T, width] behind one layer; cos, sin as `rotary` returns them."""
    architecture = model.architecture
    size, length, _ = x.shape
    prefix = f"layers.{layer}."

    def linear(name: str, x: Floats) -> Floats:
        if capture is not None:
            capture(layer, name, x.reshape(-1, x.shape[-1]))
        y: Floats = x @ model.tensor(f"{prefix}{name}.weight").T
        if model.has(bias := f"{prefix}{name}.bias"):
            y += model.tensor(bias)
        return y

    h = normalized(x, prefix + "attention_norm", model)
    q, k, v = (linear(name, h).reshape(size, length, -1, architecture.head_width)
               for name in "qkv")
    if architecture.qk_norm:
        q = normalized(q, prefix + "q_norm", model)
        k = normalized(k, prefix + "k_norm", model)
    if architecture.position == "rope":
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    bias = attention_bias(architecture, length)
    x = x + linear("o", np.stack([attend(*heads, bias) for heads in zip(q, k, v, strict=True)]))
    h = normalized(x, prefix + "mlp_norm", model)
    function = FUNCTIONS[architecture.activation]
    if architecture.gated:
        hidden, factor = function(linear("gate", h)), linear("up", h)
        if (of_factor := FACTORS.get(architecture.activation)) is not None:
            factor = of_factor(factor)
        hidden = hidden * factor
    else:
        hidden = function(linear("up", h))
    return x + linear("down", hidden.astype(np.float32, copy=False))


def normalized(x: Floats, name: str, model: Model) -> Floats:
    """A norm of the model along the last axis: a layer norm where it has a bias, or an RMS norm."""
    epsilon, weight = model.architecture.norm_epsilon, model.tensor(name)
    if model.has(bias := f"{name}.bias"):
        return layer_norm(x, weight, model.tensor(bias), epsilon)
    return rms_norm(x, weight, epsilon)


def layer_norm(x: Floats, weight: Floats, bias: Floats, epsilon: float) -> Floats:
    """``x`` less its mean over its standard deviation, times ``weight``, plus ``bias``."""
    centred = x - x.mean(axis=-1, keepdims=True, dtype=np.float32)
    return rms_norm(centred, weight, epsilon) + bias


def rms_norm(x: Floats, weight: Floats, epsilon: float) -> Floats:
    """``x`` over the root of its mean square, times ``weight``, along the last axis."""
    mean: Floats = np.mean(np.square(x), axis=-1, keepdims=True, dtype=np.float32)
    y: Floats = x / np.sqrt(mean + np.float32(epsilon)) * weight
    return y


def rotary(architecture: Architecture, length: int) -> tuple[Floats, Floats]:
    """Cosines and sines [T, rotary / 2] of the rotary embedding."""
    exponents = np.arange(0, architecture.rotary, 2) / architecture.rotary
    frequencies: Ints = architecture.rope_base ** -exponents
    if architecture.rope_factors is not None:
        frequencies /= np.array(architecture.rope_factors)
    angles = np.arange(length)[:, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x: Floats, cos: Floats, sin: Floats) -> Floats:
    """Rotary embedding of [B, T, heads, head_width]; pairs are half the rotating part apart."""
    half = cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
    cos, sin = cos[:, None, :], sin[:, None, :]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)


def alibi_slopes(heads: int) -> Floats:
    """Slope of each head (Press et al., "Train Short, Test Long", section 3): float32 [heads]."""
    power = 1 << (heads.bit_length() - 1)
    slopes = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)
    extra = 2.0 ** (-8.0 * np.arange(1, 2 * (heads - power), 2) / (2 * power))
    return np.concatenate([slopes, extra]).astype(np.float32)


def attention_bias(architecture: Architecture, length: int) -> Floats:
    """Added to scores [heads or 1, T, T]: minus infinity where a token (row) does not see."""
    distance = np.arange(length)[:, None] - np.arange(length)
    seen = distance >= 0
    if architecture.window:
        seen &= distance < architecture.window
    bias = np.where(seen, np.float32(0), np.float32(-np.inf))[None]
    if architecture.position == "alibi":
        bias = bias - alibi_slopes(architecture.heads)[:, None, None] * distance
    return np.asarray(bias, np.float32)


def attend(q: Floats, k: Floats, v: Floats, bias: Floats) -> Floats:
    """Attention of one window with grouped heads: [T, heads, head_width] to [T, all].

    bias: [heads or 1, T, T], added to the scores (`attention_bias`).
    """
    length, heads, head_width = q.shape
    groups = heads // k.shape[1]
    queries = q.reshape(length, -1, groups, head_width).transpose(1, 2, 0, 3)
    keys = k.transpose(1, 2, 0)[:, None]
    scores = queries @ keys * np.float32(head_width ** -0.5)
    scores += bias.reshape(-1, groups if len(bias) > 1 else 1, length, length)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = weights @ v.transpose(1, 0, 2)[:, None]
    y: Floats = mixed.transpose(2, 0, 1, 3).reshape(length, -1)
    return y
