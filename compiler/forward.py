"""Whole float32 forward passes: logits, perplexity, captured activations, greedy text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from compiler.errors import FrontendError
from compiler.float_layer import embed, final_hidden, layer_weights, run_layer
from compiler.model import INPUT_OF, Floats, Model
from hw.fixed import Ints

WINDOWS = 16
"""Windows of a perplexity that share the reading of a layer's weights."""

Capture = Callable[[int, str, Floats], None]
"""Told (layer, linear, input activations [tokens, in]) of every linear of a layer that has run."""


def forward(
    model: Model, tokens: Sequence[int] | Ints, layers: int | None = None,
    capture: Capture | None = None,
) -> Floats:
    """Logits [T, vocabulary] of tokens [T]; ``layers`` runs only the first so many layers."""
    count = model.architecture.layers if layers is None else layers
    x = _run_layers(model, _windows(model, tokens), count, capture)[0]
    return final_hidden(model, x) @ model.tensor("head").T


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
            logits = final_hidden(model, x[:-1]) @ head.T
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


def _run_layers(
    model: Model, windows: Ints, count: int, capture: Capture | None
) -> list[Floats]:
    """Residual [T, width] of each window behind ``count`` layers."""
    if not 0 <= count <= model.architecture.layers:
        raise ValueError(f"cannot run {count} of {model.architecture.layers} layers")
    states = [embed(model, window) for window in windows]
    for layer in range(count):
        weights = layer_weights(model, layer)
        for number, state in enumerate(states):
            states[number], made = run_layer(model.architecture, weights, state)
            if capture is not None:
                for linear in model.architecture.linears:
                    capture(layer, linear, made[INPUT_OF[linear]])
    return states
