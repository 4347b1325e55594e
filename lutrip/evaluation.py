"""Evaluation of schemes on one text: what they share is done once, what is done is kept."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compiler.calibration_text import (
    DESCRIPTIONS,
    Excerpt,
    calibration_excerpt,
    check_apart,
    default_calibration,
    excerpt,
)
from compiler.decoder.evaluate import WINDOW, evaluate, windows_of
from compiler.decoder.quantize import quantize_decoder
from compiler.decoder.work_folder import (
    default_folder,
    float_version,
    folder_of,
    golden_version,
    model_digest,
)
from compiler.frontends.load import load_model, load_tokenizer
from compiler.quant.scheme import load_scheme
from hw.errors import LutripError
from hw.presets import load_hardware
from lutrip.options import write_json

TOKENS = 4096
RESULT = "result.json"

Quantizing = Callable[[str], None]
Progress = Callable[[int, int], None]


def text_facts(text: Excerpt) -> dict[str, Any]:
    """What a result says about a text."""
    facts: dict[str, Any] = text.facts()
    if text.source in DESCRIPTIONS:
        facts["description"] = DESCRIPTIONS[text.source]
    return facts


class Evaluator:
    """A model, a text and a calibration text, for any number of schemes.

    text, calibration: names of `compiler.calibration_text.SOURCES` or files; calibration None:
    windows 40 to 51 of the news corpus where that is evaluated, else the built-in passages.
    tokens: from window ``first_window`` on. fixed_point_only: linears stay float. work: folder of
    the states (default: ``evaluate`` in the cache); resume: take over what lies there.
    Raises LutripError in one line for anything wrong, also for a calibration on what is evaluated.
    """

    def __init__(
        self, model: str, hardware: str = "sim", *, text: str = "news", tokens: int = TOKENS,
        window: int = WINDOW, first_window: int = 0, calibration: str | None = None,
        calibration_tokens: int | None = None, fixed_point_only: bool = False,
        work: Path | None = None, resume: bool = True,
    ) -> None:
        self.name, self.hardware = model, load_hardware(hardware)
        self.model, tokenizer = load_model(model), load_tokenizer(model)
        self.window, self.first_window = window, first_window
        self.text = excerpt(tokenizer, text, first_window * window, tokens)
        if first_window and not self.text.ids:
            raise LutripError(f"text {text} ends before window {first_window}; give a smaller "
                              "--first-window or a longer text")
        windows_of(self.text.ids, window)
        self.calibration = calibration_excerpt(
            tokenizer, calibration or default_calibration(self.text), calibration_tokens)
        check_apart(self.text, self.calibration)
        self.fixed_point_only, self.resume = fixed_point_only, resume
        self.work = default_folder() if work is None else work
        self.model_key = model_digest(self.model)
        self.fresh: set[Path] = set()

    def run(
        self, scheme: str, quantizing: Quantizing = lambda text: None,
        progress: Progress = lambda done, total: None,
    ) -> dict[str, Any]:
        """Scores of a scheme, a name or a YAML file, as data; ``*_s`` are wall times."""
        chosen = load_scheme(scheme)
        shared = (self.model_key, self.window, self.text.ids)
        golden = folder_of(self.work, "golden", golden_version(), *shared, self.name, self.text,
                           self.calibration, chosen, self.hardware, self.fixed_point_only)
        exact = folder_of(self.work, "float", float_version(), *shared, chosen.rotation)
        if not self.resume:
            for folder in {golden, exact} - self.fresh:
                shutil.rmtree(folder, ignore_errors=True)
        self.fresh |= {golden, exact}
        if (done := read_result(golden / RESULT)) is not None:
            return done
        start = time.monotonic()
        decoder = quantize_decoder(
            self.model, chosen, self.hardware, self.calibration.ids, self.window,
            exact=self.fixed_point_only, work=self.work, progress=quantizing)
        quantized = time.monotonic()
        made = evaluate(self.model, decoder, self.text.ids, self.window, progress,
                        float_folder=exact, golden_folder=golden)
        values = {
            "model": self.name, "scheme": chosen.name, "hardware": self.hardware.name,
            "fixed_point_only": self.fixed_point_only, "tokens": made.tokens,
            "windows": made.windows, "window_tokens": self.window,
            "first_window": self.first_window, "predictions": made.predictions,
            "perplexity": made.perplexity, "perplexity_float": made.perplexity_float,
            "relative": made.relative, "top1_agreement": made.top1_agreement,
            "kl_divergence_nats": made.kl_divergence, "bits_per_weight": made.bits_per_weight,
            "residual_error": made.residual_error, "layer_errors": list(made.layer_errors),
            "residual_scale": decoder.residual_scale,
            "residual_peak_calibrated": decoder.residual_peak,
            "text": text_facts(self.text), "calibration": text_facts(self.calibration),
            "quantize_s": round(quantized - start, 1),
            "evaluate_s": round(time.monotonic() - quantized, 1),
            "peak_memory_bytes": peak_memory_bytes(),
        }
        write_json(golden / RESULT, values)
        # The residual is only needed to go on.
        for left in golden.glob("*.npz"):
            left.unlink(missing_ok=True)
        return values


def read_result(path: Path) -> dict[str, Any] | None:
    """A finished evaluation, None where there is none that can be read."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def peak_memory_bytes() -> int:
    """Most memory that the process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
