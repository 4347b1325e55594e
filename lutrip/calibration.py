"""Calibration statistics of a model, and what the choice of calibration text changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compiler.calibration_text import SOURCES, Excerpt, calibration_excerpt, excerpt
from compiler.decoder.evaluate import WINDOW
from compiler.decoder.weight_store import write_arrays
from compiler.errors import FrontendError
from compiler.frontends.load import load_model, load_tokenizer
from compiler.frontends.tokenizer import Tokenizer
from compiler.statistics.collect import LINEARS_OF, collect, windows_of
from hw.errors import LutripError
from lutrip.evaluation import Evaluator, text_facts
from lutrip.options import write_json

STATISTICS, CHANNELS = "statistics.json", "channels.npz"
EVALUATED_TOKENS = 3072
BEHIND = ", next tokens"
"""Says of a text that it goes on behind the calibration text."""

Progress = Callable[[str, int, int], None]
"""Told what is done, and how many of how many steps."""


def named_texts(tokenizer: Tokenizer, tokens: int | None) -> dict[str, Excerpt]:
    """The texts of `SOURCES` that are here, at most ``tokens`` tokens of each."""
    found = {}
    for source in SOURCES:
        try:
            made = calibration_excerpt(tokenizer, source)
        except FrontendError:
            continue
        found[source] = replace(made, ids=made.ids[:tokens])
    return found


def chosen_texts(
    tokenizer: Tokenizer, calibration: str | None, compared: Sequence[str], tokens: int | None
) -> list[Excerpt]:
    """The calibration text and those that it is compared with.

    By default the `named_texts`, and the tokens behind the calibration text's own, where it has
    them, which tell how much two samples of one text differ. Raises LutripError for a text that
    was asked for and is not here or too short.
    """
    found = {} if calibration and compared else named_texts(tokenizer, tokens)
    for source in (*([calibration] if calibration else []), *compared):
        found[source] = calibration_excerpt(tokenizer, source, tokens)
    first = found[calibration or next(iter(found))]
    if compared:
        return [first, *(found[source] for source in dict.fromkeys(compared)
                         if source != first.source)]
    behind = excerpt(tokenizer, first.source, first.end, len(first.ids))
    return [first, *([replace(behind, source=f"{first.source}{BEHIND}")]
                     if len(behind.ids) == len(first.ids) else []),
            *(text for source, text in found.items() if source != first.source)]


def calibrate(
    model: str, out: Path, *, calibration: str | None = None, compared: Sequence[str] = (),
    tokens: int | None = None, window: int = WINDOW, robustness: str | None = None,
    hardware: str = "sim", evaluated_tokens: int = EVALUATED_TOKENS,
    progress: Progress = lambda text, done, total: None,
) -> dict[str, Any]:
    """Statistics of the float model on a calibration text, beside other texts.

    Writes ``statistics.json`` and ``channels.npz`` (ranges, mean squares and kurtosis of every
    channel) into ``out`` and returns the former. tokens: of each text, at most. robustness: a
    scheme that is quantized on each text and evaluated on the first ``evaluated_tokens`` of the
    news corpus. Raises LutripError in one line for anything wrong with the inputs.
    """
    loaded, tokenizer = load_model(model), load_tokenizer(model)
    texts = chosen_texts(tokenizer, calibration, compared, tokens)
    windows = {text.source: windows_of(loaded, text.ids, window) for text in texts}
    done, total = 0, loaded.architecture.layers * sum(map(len, windows.values()))

    def step() -> None:
        nonlocal done
        done += 1
        progress("layers of windows", done, total)

    layers, arrays = collect(loaded, windows, step)
    values: dict[str, Any] = {
        "model": model, "architecture": loaded.architecture.name, "window_tokens": window,
        "texts": [_facts(text) for text in texts], "linears_of": LINEARS_OF,
        "layers": layers, "robustness": [],
    }
    out.mkdir(parents=True, exist_ok=True)
    write_arrays(out / CHANNELS, {name: np.asarray(array) for name, array in arrays.items()})
    write_json(out / STATISTICS, values)
    if robustness is not None:
        for text in texts:
            if text.source.endswith(BEHIND):
                continue
            values["robustness"].append(_evaluated(
                model, robustness, hardware, text, window, evaluated_tokens, progress))
            write_json(out / STATISTICS, values)
    return values


def _facts(text: Excerpt) -> dict[str, Any]:
    if not text.source.endswith(BEHIND):
        return text_facts(text)
    return {**text_facts(text), "description": "behind the calibration text: what is chance"}


def _evaluated(
    model: str, scheme: str, hardware: str, text: Excerpt, window: int, tokens: int,
    progress: Progress,
) -> dict[str, Any]:
    """Scores of a scheme that is quantized on one text."""
    try:
        evaluator = Evaluator(model, hardware, tokens=tokens, window=window,
                              calibration=text.source, calibration_tokens=len(text.ids))
    except FrontendError as error:
        raise LutripError(f"--robustness evaluates the news corpus: {error}") from None
    made = evaluator.run(scheme, lambda said: progress(f"{text.source}: {said}", 0, 1),
                         lambda done, total: progress(f"{text.source}: evaluating", done, total))
    kept = ("scheme", "tokens", "predictions", "perplexity", "perplexity_float", "relative",
            "top1_agreement", "kl_divergence_nats", "residual_error", "text")
    return {"calibration": text.source, **{key: made[key] for key in kept}}
