"""Speeds and byte counts that the documentation quotes: ``python -m sim.bench --out FILE``.

Every figure is measured here and now; ratios are taken within one run on one machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compiler.build import Build, compile_block, compile_graph
from compiler.frontends.load import load_model, load_tokenizer
from compiler.image.image import write_atomically
from compiler.lower.block import lower_linears
from compiler.quant.quantizer import LinearSpec, quantize_linears
from compiler.quant.scheme import Scheme, load_scheme
from compiler.rounded_rows import round_rows
from compiler.text import CALIBRATION_TEXT, DEFAULT_PROMPT
from hw.config import HardwareConfig
from hw.generate import generate
from hw.presets import load_hardware
from sim.bare import run_bare
from sim.bench_decoder import MODEL, golden_rates, rtl_token
from sim.bench_estimate import estimate_rates
from sim.circuit import BUILD_DIR, circuit
from sim.counters import lookups, port_bytes, products, weight_bytes
from sim.functional import run_image
from sim.runner import simulate

REPEATS = 5
DECODE_INPUTS, DECODE_COLUMNS, DECODE_TOKENS = 1024, 2048, 1
DECODE_BOUNDS = {"lut2d": 10.0, "lut2d-gather": 2.2, "rowgen-2bit": 2.4}
"""Bits per weight on the weight ports: what each scheme may read at most."""
COCOTB_BOUND = 0.8


def decode_build(scheme: Scheme, hardware: HardwareConfig) -> Build:
    """One linear layer with seeded weights and one token."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(DECODE_COLUMNS, DECODE_INPUTS)).astype(np.float32)
    x = rng.normal(size=(256, DECODE_INPUTS)).astype(np.float32)
    spec = LinearSpec(name="linear", input_name="x", weight=weight, bias=None, blocks=None,
                      scheme=scheme)
    layers = quantize_linears([spec], {"x": x}, hardware)
    layers = {"linear": round_rows(layers["linear"], x, hardware)}
    graph = lower_linears(layers, {"linear": "x"}, {"x": x[:DECODE_TOKENS]})
    return compile_graph(graph, hardware)


def decode_bits(hardware: HardwareConfig, run_dir: Path, say: Callable[[str], None]) -> Any:
    """Bits per weight on the port counters of the RTL, decoding one token."""
    sources = circuit(hardware)
    weights = DECODE_INPUTS * DECODE_COLUMNS
    rows = []
    for name, bound in DECODE_BOUNDS.items():
        say(f"decode of one linear layer, {name}")
        build = decode_build(load_scheme(name).default, hardware)
        data, start = build.image.data, build.image.program_address
        run = simulate(sources, hardware, data, start, run_image(data, hardware, start).beats,
                       run_dir / f"decode-{name}", build_dir=BUILD_DIR / "sim")
        bits = weight_bytes(run.counters, hardware) * 8 / weights
        rows.append({
            "scheme": name, "inputs": DECODE_INPUTS, "columns": DECODE_COLUMNS,
            "group_columns": 512, "bit_exact": run.bit_exact, "cycles": run.cycles,
            "bits_per_weight": bits, "bound_bits_per_weight": bound, "holds": bits <= bound,
            "centroid_bits_per_weight":
                port_bytes(run.counters, hardware)["centroid"] * 8 / weights,
        })
    return rows


def simulation_rates(
    hardware: HardwareConfig, run_dir: Path, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Rate of cocotb against a bare C++ loop, and work per wall second, on the demo's layer."""
    model, tokenizer = load_model(MODEL), load_tokenizer(MODEL)
    tokens = tokenizer.encode(DEFAULT_PROMPT)[:8]
    calibration = tokenizer.encode(CALIBRATION_TEXT)
    sources = circuit(hardware)
    rows = []
    for name in ("lut2d", "rowgen-2bit", "simd-w4a8", "simd-w4a4"):
        build = compile_block(model, load_scheme(name), hardware, layers=(0, 1), tokens=tokens,
                              calibration=calibration)
        data, start = build.image.data, build.image.program_address
        beats = run_image(data, hardware, start).beats
        rates: dict[str, list[float]] = {"cocotb": [], "bare": []}
        for _ in range(REPEATS):
            say(f"cocotb and bare loop in turn, {name}")
            run = simulate(sources, hardware, data, start, beats, run_dir / name,
                           build_dir=BUILD_DIR / "sim")
            bare = run_bare(sources, hardware, data, start, beats, run_dir / f"{name}-bare",
                            build_dir=BUILD_DIR / "sim")
            assert bare.cycles == run.cycles
            rates["cocotb"].append(run.cycles_per_s)
            rates["bare"].append(bare.cycles_per_s)
        ratio = statistics.median(
            a / b for a, b in zip(rates["cocotb"], rates["bare"], strict=True))
        rate = statistics.median(rates["cocotb"])
        rows.append({
            "scheme": name, "bit_exact": run.bit_exact, "cycles": run.cycles,
            "cocotb_cycles_per_s": rate, "bare_cycles_per_s": statistics.median(rates["bare"]),
            "cocotb_over_bare": ratio, "bound": COCOTB_BOUND, "holds": ratio >= COCOTB_BOUND,
            "lookups_per_wall_s": lookups(run.counters, hardware) * rate / run.cycles,
            "products_per_wall_s": products(run.counters, hardware) * rate / run.cycles,
        })
    return rows


def generation(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Seconds to generate the Verilog of configurations."""
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            manifest = generate(load_hardware(name), Path(folder) / name)
            seconds = time.perf_counter() - start
            files = manifest["files"]
            assert isinstance(files, list)
            size = sum((Path(folder) / name / file).stat().st_size for file in files)
        rows.append({"hardware": name, "generate_s": seconds, "modules": len(files),
                     "verilog_bytes": size})
    return rows


def machine() -> Mapping[str, Any]:
    """What the figures were taken on."""
    return {"processor": platform.machine(), "cores": os.cpu_count(),
            "python": platform.python_version()}


def finished(out: Path, result: Mapping[str, Any], parts: Sequence[str]) -> int:
    """Write the result and say which of its parts miss a bound; the exit status."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, (json.dumps(result, indent=2) + "\n").encode())
    missed = [f"{part}: {row.get('scheme')}" for part in parts for row in result[part]
              if not row["holds"]]
    print(f"{out}: " + ("all bounds hold" if not missed else f"missed: {', '.join(missed)}"))
    return 1 if missed else 0


def main() -> int:
    """Measure everything and write it; exit status 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hw", default="sim")
    parser.add_argument("--only", choices=("estimate",),
                        help="measure this part alone and keep the others of OUT")
    out, name = (vars(args := parser.parse_args())["out"], args.hw)

    def say(text: str) -> None:
        print(text, flush=True)

    if args.only is not None:
        result = {**json.loads(out.read_text()), "estimate": estimate_rates(say)}
        return finished(out, result, ("estimate",))
    hardware = load_hardware(name)
    run_dir = BUILD_DIR / "bench"
    result = {
        "command": "make bench", "machine": machine(), "hardware": name,
        "golden": golden_rates(hardware, say),
        "token": rtl_token(hardware, run_dir, say),
        "decode": decode_bits(hardware, run_dir, say),
        "simulation": simulation_rates(hardware, run_dir, say),
        "estimate": estimate_rates(say),
        "generation": generation(("tiny", "sim", "v80-lutllm", "v80")),
    }
    return finished(out, result, ("golden", "token", "decode", "simulation", "estimate"))


if __name__ == "__main__":
    raise SystemExit(main())
