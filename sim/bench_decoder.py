"""Speeds of whole models: golden's tokens a second, and a decoded token's wall time in RTL."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compiler.decoder.build import DecoderCompiler
from compiler.decoder.golden import GoldenDecoder
from compiler.decoder.quantize import quantize_decoder
from compiler.decoder.quantized import QuantizedDecoder
from compiler.frontends.load import load_model, load_tokenizer
from compiler.quant.scheme import load_scheme
from compiler.text import CALIBRATION_TEXT
from hw.config import HardwareConfig
from sim.circuit import BUILD_DIR
from sim.execute import execute

MODEL = "smollm2-135m"
SCHEMES = ("lut2d", "rowgen-2bit", "simd-w8a8", "simd-w4a8")
PROMPT = "The capital of France is"
RTL_SCHEME = "simd-w4a8"
WINDOW, DECODED = 512, 16
PREFILL_BOUND, DECODE_BOUND = 50.0, 10.0
"""Tokens a second that golden must reach."""
WALL_BOUND_S = 60.0
"""Wall time that a decoded token may take in RTL."""

Say = Callable[[str], None]


def repeated_layer(name: str, hardware: HardwareConfig) -> QuantizedDecoder:
    """The model with its first layer at every place: the same work, a thirtieth of the wait."""
    model, tokenizer = load_model(MODEL), load_tokenizer(MODEL)
    architecture = model.architecture
    single = dataclasses.replace(
        model, architecture=dataclasses.replace(architecture, layers=1))
    decoder = quantize_decoder(single, load_scheme(name), hardware,
                               tokenizer.encode(CALIBRATION_TEXT), capacity=WINDOW + DECODED)
    first = decoder.layer(0)
    return dataclasses.replace(decoder, architecture=architecture, layer=lambda index: first)


def golden_rates(hardware: HardwareConfig, say: Say) -> list[dict[str, Any]]:
    """Tokens a second of the golden decoder: a 512-token prefill, then decoding."""
    tokens = load_tokenizer(MODEL).encode(CALIBRATION_TEXT * 2)[:WINDOW]
    rows = []
    for name in SCHEMES:
        say(f"golden decoder, {name}")
        golden = GoldenDecoder(repeated_layer(name, hardware))
        warm = golden.new_state()
        for part in (tokens, tokens[:1]):
            golden.next_token(golden.run(part, warm))
        state = golden.new_state()
        started = time.perf_counter()
        following = golden.next_token(golden.run(tokens, state))
        prefill = len(tokens) / (time.perf_counter() - started)
        started = time.perf_counter()
        for _ in range(DECODED):
            following = golden.next_token(golden.run([following], state))
        decode = DECODED / (time.perf_counter() - started)
        rows.append({
            "scheme": name, "prefill_tokens": len(tokens), "prefill_tokens_per_s": prefill,
            "decode_tokens_per_s": decode, "bound_prefill": PREFILL_BOUND,
            "bound_decode": DECODE_BOUND,
            "holds": prefill >= PREFILL_BOUND and decode >= DECODE_BOUND,
        })
    return rows


def rtl_token(hardware: HardwareConfig, run_dir: Path, say: Say) -> list[dict[str, Any]]:
    """Wall time of a decoded token in RTL and where it goes, in cycles and in seconds."""
    model, tokenizer = load_model(MODEL), load_tokenizer(MODEL)
    prompt = tokenizer.encode(PROMPT)
    say(f"whole model in RTL, {RTL_SCHEME}: compiling")
    decoder = quantize_decoder(model, load_scheme(RTL_SCHEME), hardware,
                               tokenizer.encode(CALIBRATION_TEXT), capacity=len(prompt) + 2)
    folder = run_dir / "token"
    DecoderCompiler(decoder, prompt, 3).write(folder, {"model": MODEL, "scheme": RTL_SCHEME})
    started = time.perf_counter()
    values = execute(folder, build_dir=BUILD_DIR, resume=False, progress=say).values
    total_s = time.perf_counter() - started
    rows = []
    for row in values["passes"]:
        if not row["name"].startswith("decode"):
            continue
        rows.append({
            "scheme": RTL_SCHEME, "pass": row["name"], "bit_exact": row["bit_exact"],
            "cycles": row["cycles"], "wall_s": row["wall_s"],
            "cycles_per_wall_s": row["cycles"] / row["wall_s"], "bound_wall_s": WALL_BOUND_S,
            "holds": row["bit_exact"] and row["wall_s"] <= WALL_BOUND_S,
        })
    counters = values["counters"]
    ports = [counters[f"read_words_w{number}"] for number in range(hardware.weight_ports)]
    where = {
        "linear_busy": counters["busy_linear"], "weight_words_per_port": max(ports),
        "drain_busy": counters["busy_drain"], "quantize_busy": counters["busy_quantize"],
        "norm_busy": counters["busy_norm"], "softmax_busy": counters["busy_softmax"],
        "cycles": counters["cycles"],
    }
    return [{**row, "of_all_passes": where, "whole_run_s": total_s} for row in rows]
