"""Perplexity of the golden decoder beside float, layer by layer over all windows at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from compiler import float_layer
from compiler.decoder.golden import LOGIT_ROWS, GoldenDecoder
from compiler.decoder.quantized import QuantizedDecoder
from compiler.errors import CompileError
from compiler.expression import Floats
from compiler.model import Model
from hw.fixed import Ints

WINDOW = 512

Progress = Callable[[int, int], None]
"""Told how many of how many steps are done."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Perplexities over the same predictions.

    residual_error: relative error of the golden residual behind the last layer, in the Euclidean
    norm over each token and averaged over tokens.
    """

    tokens: int
    predictions: int
    windows: int
    perplexity: float
    perplexity_float: float
    residual_error: float

    @property
    def relative(self) -> float:
        """Perplexity over float, less 1."""
        return self.perplexity / self.perplexity_float - 1


def evaluate(
    model: Model, decoder: QuantizedDecoder, tokens: Sequence[int], window: int = WINDOW,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Perplexity of a quantized decoder and of the float model it comes from.

    tokens: text that is not the calibration text; it is cut into windows that do not overlap, a
    shorter last one included. Every layer is loaded once for all windows. Raises CompileError for
    a text of less than 2 tokens or a window beyond the decoder's capacity.
    """
    if window < 2:
        raise ValueError(f"a window must hold at least 2 tokens, not {window}")
    if window > decoder.capacity:
        raise CompileError(f"windows of {window} tokens do not fit the key-value cache's capacity "
                           f"of {decoder.capacity}")
    parts = [np.asarray(tokens[at:at + window]) for at in range(0, len(tokens), window)]
    if parts and len(parts[-1]) < 2:
        parts.pop()
    if not parts:
        raise CompileError("the text is too short for a perplexity: it has less than 2 tokens")
    golden = GoldenDecoder(decoder, kept_bytes=0)
    architecture = model.architecture
    steps, done = (architecture.layers + 1) * len(parts), 0
    exact = [float_layer.embed(model, part) for part in parts]
    integers = [golden.embed(part, 0) for part in parts]
    for index in range(architecture.layers):
        weights = float_layer.layer_weights(model, index)
        layer = golden.prepared_layer(index)
        for n in range(len(parts)):
            exact[n], _ = float_layer.run_layer(architecture, weights, exact[n])
            integers[n] = golden.run_layer(layer, integers[n], golden.new_layer_state(), 0)
            done += 1
            progress(done, steps)
    head = model.tensor("head")
    loss = loss_float = error = 0.0
    for part, x, x_float in zip(parts, integers, exact, strict=True):
        for at in range(0, len(part) - 1, LOGIT_ROWS):
            rows = slice(at, min(at + LOGIT_ROWS, len(part) - 1))
            following = part[rows.start + 1:rows.stop + 1]
            loss += total_loss(golden.logits(x[rows]) * decoder.head.y_scale, following)
            loss_float += total_loss(float_layer.final_hidden(model, x_float[rows]) @ head.T,
                                     following)
        gap = np.linalg.norm(x * decoder.residual_scale - x_float, axis=1)
        error += float((gap / np.linalg.norm(x_float, axis=1)).sum())
        done += 1
        progress(done, steps)
    count = sum(len(part) for part in parts)
    predictions = count - len(parts)
    return Evaluation(
        tokens=count, predictions=predictions, windows=len(parts),
        perplexity=float(np.exp(loss / predictions)),
        perplexity_float=float(np.exp(loss_float / predictions)), residual_error=error / count)


def total_loss(logits: Floats, following: Ints) -> float:
    """Sum of the negative log probabilities of the tokens that follow."""
    top = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    return float((total - logits[np.arange(len(following)), following]).sum(dtype=np.float64))
