"""What errors behind single layers do to the text's probabilities, in the float model.

The residuals with an error each walk through the layers side by side, so that every layer is read
once. The loss is the Kullback-Leibler divergence of the next token, in nats for each token, from
the model without error: to second order what the error adds to the text's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from compiler import float_layer
from compiler.expression import Floats
from compiler.model import Model
from hw.fixed import Ints

Place = tuple[int, str]
"""Layer and linear."""
ROWS = 64
"""Tokens whose probabilities are computed at once."""


def log_probabilities(logits: Floats) -> Floats:
    """Natural logarithms of the softmax of the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    y: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return y


def divergence(model: Model, x: Floats, others: Mapping[Place, Floats]) -> dict[Place, float]:
    """Mean divergence of residuals [T, width] behind the last layer from that of ``x``."""
    head = model.tensor("head").T
    totals: dict[Place, float] = dict.fromkeys(others, 0.0)
    for at in range(0, len(x), ROWS):
        exact = log_probabilities(float_layer.final_hidden(model, x[at:at + ROWS]) @ head)
        weights = np.exp(exact)
        for key, other in others.items():
            y = log_probabilities(float_layer.final_hidden(model, other[at:at + ROWS]) @ head)
            totals[key] += float((weights * (exact - y)).sum(dtype=np.float64))
    return {key: max(total / len(x), 0.0) for key, total in totals.items()}


def losses_of_errors(
    model: Model, tokens: Ints, errors: Callable[[int], Mapping[str, Floats]],
    progress: Callable[[str], None] = lambda text: None,
) -> dict[Place, float]:
    """Loss that each error behind a layer causes, by layer and linear.

    errors: of a layer, by linear, float [T, width] in the model's units.
    """
    architecture = model.architecture
    x = float_layer.embed(model, tokens)
    others: dict[Place, Floats] = {}
    for index in range(architecture.layers):
        progress(f"errors through layer {index + 1} of {architecture.layers}")
        weights = float_layer.layer_weights(model, index)
        others = {key: float_layer.run_layer(architecture, weights, other)[0]
                  for key, other in others.items()}
        x, _ = float_layer.run_layer(architecture, weights, x)
        for linear, error in errors(index).items():
            others[index, linear] = x + error
    progress("errors through the head")
    return divergence(model, x, others)
