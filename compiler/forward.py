"""The float32 reference: a forward pass of the Llama family in numpy.

One window of tokens is computed whole, without a key-value cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from compiler.errors import FrontendError
from compiler.model import LINEARS, Architecture, Floats, Model
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
    return _normalized(x, model.tensor("final_norm"), model) @ model.tensor("head").T


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
    assert inputs.keys() == set(LINEARS)
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
    head, norm = model.tensor("head"), model.tensor("final_norm")
    loss, predictions = 0.0, 0
    for part in parts:
        states = _run_layers(model, _windows(model, part), model.architecture.layers, None)
        for x, row in zip(states, part, strict=True):
            logits = _normalized(x[:-1], norm, model) @ head.T
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
    size, length = windows.shape
    x = model.rows("embedding", windows.ravel()).reshape(size, length, -1)
    cos, sin = rotary(architecture, length)
    for layer in range(count):
        prefix = f"layers.{layer}."

        def linear(name: str, x: Floats, layer: int = layer, prefix: str = prefix) -> Floats:
            if capture is not None:
                capture(layer, name, x.reshape(-1, x.shape[-1]))
            y: Floats = x @ model.tensor(f"{prefix}{name}.weight").T
            if model.has(bias := f"{prefix}{name}.bias"):
                y += model.tensor(bias)
            return y

        h = _normalized(x, model.tensor(prefix + "attention_norm"), model)
        q, k, v = (linear(name, h).reshape(size, length, -1, architecture.head_width)
                   for name in "qkv")
        if architecture.qk_norm:
            q = _normalized(q, model.tensor(prefix + "q_norm"), model)
            k = _normalized(k, model.tensor(prefix + "k_norm"), model)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        x = x + linear("o", np.stack([attend(*heads) for heads in zip(q, k, v, strict=True)]))
        h = _normalized(x, model.tensor(prefix + "mlp_norm"), model)
        gate, up = linear("gate", h), linear("up", h)
        x = x + linear("down", silu(gate) * up)
    return x


def _normalized(x: Floats, weight: Floats, model: Model) -> Floats:
    return rms_norm(x, weight, model.architecture.norm_epsilon)


def rms_norm(x: Floats, weight: Floats, epsilon: float) -> Floats:
    """``x`` over the root of its mean square, times ``weight``, along the last axis."""
    mean: Floats = np.mean(np.square(x), axis=-1, keepdims=True, dtype=np.float32)
    y: Floats = x / np.sqrt(mean + np.float32(epsilon)) * weight
    return y


def silu(x: Floats) -> Floats:
    """``x * sigmoid(x)``, without overflow."""
    y: Floats = x * np.float32(0.5) * (1 + np.tanh(x * np.float32(0.5)))
    return y


def rotary(architecture: Architecture, length: int) -> tuple[Floats, Floats]:
    """Cosines and sines [T, head_width / 2] of the rotary embedding."""
    exponents = np.arange(0, architecture.head_width, 2) / architecture.head_width
    frequencies: Ints = architecture.rope_base ** -exponents
    if architecture.rope_factors is not None:
        frequencies /= np.array(architecture.rope_factors)
    angles = np.arange(length)[:, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x: Floats, cos: Floats, sin: Floats) -> Floats:
    """Rotary embedding of [B, T, heads, head_width]; pairs are half a head apart."""
    first, second = np.split(x, 2, axis=-1)
    cos, sin = cos[:, None, :], sin[:, None, :]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attend(q: Floats, k: Floats, v: Floats) -> Floats:
    """Causal attention of one window with grouped heads: [T, heads, head_width] to [T, all]."""
    length, heads, head_width = q.shape
    groups = heads // k.shape[1]
    queries = q.reshape(length, -1, groups, head_width).transpose(1, 2, 0, 3)
    keys = k.transpose(1, 2, 0)[:, None]
    scores = queries @ keys * np.float32(head_width ** -0.5)
    scores[..., np.triu(np.ones((length, length), bool), 1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = weights @ v.transpose(1, 0, 2)[:, None]
    y: Floats = mixed.transpose(2, 0, 1, 3).reshape(length, -1)
    return y
