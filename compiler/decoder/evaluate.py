"""Golden decoder beside the float model on a text, layer by layer over all windows at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from compiler import float_layer
from compiler.decoder.golden import LOGIT_ROWS, GoldenDecoder
from compiler.decoder.quantized import QuantizedDecoder
from compiler.decoder.reference import FloatReference
from compiler.decoder.scores import Scores, score
from compiler.decoder.weight_bits import layer_bits
from compiler.decoder.weight_store import write_arrays
from compiler.errors import CompileError
from compiler.expression import Floats
from compiler.model import Model
from compiler.rotation import rotate_model
from hw.fixed import Ints

WINDOW = 512
STATE = "golden.npz"

Progress = Callable[[int, int], None]
"""Told how many of how many steps are done."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Golden and float over the same predictions.

    predictions: scored tokens: all but the first of each window, whatever a scheme leaves out of
    its layers. top1_agreement: part of them where both name the same most likely token.
    kl_divergence: of golden from float, in nats per prediction. layer_errors: relative error of
    the golden residual behind each layer, in the Euclidean norm over each token and averaged over
    tokens; residual_error: the last of them. bits_per_weight: of the layers' linears
    (`compiler.decoder.weight_bits`), None where they stay float.
    """

    tokens: int
    predictions: int
    windows: int
    perplexity: float
    perplexity_float: float
    top1_agreement: float
    kl_divergence: float
    residual_error: float
    layer_errors: tuple[float, ...]
    bits_per_weight: float | None

    @property
    def relative(self) -> float:
        """Perplexity over float, less 1."""
        return self.perplexity / self.perplexity_float - 1


def windows_of(tokens: Sequence[int] | Ints, window: int) -> list[Ints]:
    """Windows that do not overlap, a shorter last one of at least 2 tokens included.

    Raises CompileError for a text of less than 2 tokens, ValueError for a window of less.
    """
    if window < 2:
        raise ValueError(f"a window must hold at least 2 tokens, not {window}")
    parts = [np.asarray(tokens[at:at + window]) for at in range(0, len(tokens), window)]
    if parts and len(parts[-1]) < 2:
        parts.pop()
    if not parts:
        raise CompileError("the text is too short for a perplexity: it has less than 2 tokens")
    return parts


@dataclass
class _State:
    """What is done: residual [tokens, width] behind the layers that have errors, scored windows."""

    residual: Ints
    errors: list[float]
    bits: int
    weights: int
    scored: list[Scores]

    def write(self, folder: Path | None) -> None:
        if folder is not None:
            write_arrays(folder / STATE, {
                "residual": self.residual, "errors": np.array(self.errors, np.float64),
                "counts": np.array([self.bits, self.weights]),
                "scored": np.array([astuple(part) for part in self.scored]).reshape(-1, 5)})


def _resumed(folder: Path | None, shape: tuple[int, int]) -> _State | None:
    """The state that an earlier run left, None where there is none that can be read."""
    if folder is None:
        return None
    try:
        with np.load(folder / STATE) as file:
            residual = file["residual"]
            scored = [Scores(int(count), float(loss), float(loss_float), float(divergence),
                             int(agreed))
                      for count, loss, loss_float, divergence, agreed in file["scored"]]
            bits, weights = map(int, file["counts"])
            state = _State(residual, list(map(float, file["errors"])), bits, weights, scored)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return state if residual.shape == shape else None


def evaluate(
    model: Model, decoder: QuantizedDecoder, tokens: Sequence[int], window: int = WINDOW,
    progress: Progress = lambda done, total: None, *, float_folder: Path | None = None,
    golden_folder: Path | None = None,
) -> Evaluation:
    """Scores of a quantized decoder and of the float model that it comes from.

    tokens: text that is not the calibration text; it is cut into `windows_of`. Every layer is
    loaded once for all windows. float_folder, golden_folder: keep what is done after each layer
    and each scored window, and take it over; their names must stand for everything that it
    depends on. Raises CompileError for a text of less than 2 tokens or a window beyond the
    decoder's capacity.
    """
    if window > decoder.capacity:
        raise CompileError(f"windows of {window} tokens do not fit the key-value cache's capacity "
                           f"of {decoder.capacity}")
    parts = windows_of(tokens, window)
    if decoder.rotated:
        # Float in the same rotation, so that the residuals can be compared.
        model = rotate_model(model, decoder.architecture.hidden_rotation)
    layers = decoder.architecture.layers
    done, total = 0, (2 * layers + 1) * len(parts)

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    golden = GoldenDecoder(decoder, kept_bytes=0)
    reference = FloatReference(model, parts, float_folder, step)
    state = _resumed(golden_folder, reference.shape)
    if state is None:
        embedded = np.concatenate([golden.embed(part, 0) for part in parts])
        state = _State(embedded, [], 0, 0, [])
    for index in range(len(state.errors), layers):
        exact = reference.behind(index + 1)
        if decoder.residual_order is not None:
            exact = exact[:, decoder.residual_order]
        layer, behind = golden.prepared_layer(index), []
        done = (2 * index + 1) * len(parts)
        for part in reference.windows(state.residual):
            behind.append(golden.run_layer(layer, part, golden.new_layer_state(), 0))
            step()
        state.residual = np.concatenate(behind)
        state.errors.append(residual_error(state.residual * decoder.residual_scale, exact))
        if not layer.layer.exact:
            bits, weights = layer_bits(decoder.architecture, layer.layer.linears)
            state.bits, state.weights = state.bits + bits, state.weights + weights
        state.write(golden_folder)
    exact, head = reference.behind(layers), model.tensor("head")
    windows = zip(parts, reference.windows(state.residual), reference.windows(exact), strict=True)
    done = 2 * layers * len(parts)
    for number, (part, x, x_float) in enumerate(windows):
        if number >= len(state.scored):
            state.scored.append(_scored(golden, model, head, part, x, x_float))
            state.write(golden_folder)
        step()
    sums = sum(state.scored, Scores())
    return Evaluation(
        tokens=sum(map(len, parts)), predictions=sums.predictions, windows=len(parts),
        perplexity=sums.perplexity, perplexity_float=sums.perplexity_float,
        top1_agreement=sums.agreed / sums.predictions,
        kl_divergence=sums.divergence / sums.predictions, residual_error=state.errors[-1],
        layer_errors=tuple(state.errors),
        bits_per_weight=state.bits / state.weights if state.weights else None)


def _scored(
    golden: GoldenDecoder, model: Model, head: Floats, part: Ints, x: Ints, x_float: Floats
) -> Scores:
    """Scores of one window; logits are there for `LOGIT_ROWS` tokens at once."""
    sums = Scores()
    for at in range(0, len(part) - 1, LOGIT_ROWS):
        rows = slice(at, min(at + LOGIT_ROWS, len(part) - 1))
        exact = float_layer.final_hidden(model, x_float[rows]) @ head.T
        sums += score(golden.logits(x[rows]), golden.decoder.head.y_scale, exact,
                      part[rows.start + 1:rows.stop + 1])
    return sums


def residual_error(actual: Floats, exact: Floats) -> float:
    """Mean over tokens of ``|actual - exact| / |exact|``, [tokens, width] each."""
    sizes = np.linalg.norm(exact.astype(np.float64), axis=1)
    return float((np.linalg.norm(actual - exact, axis=1) / np.maximum(sizes, 1e-30)).mean())
