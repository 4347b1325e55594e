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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compiler.build import Build, compile_block, compile_graph
from compiler.frontends.load import load_model, load_tokenizer
from compiler.image.image import write_atomically
from compiler.lower.block import lower_linears
from compiler.quant.quantizer import LinearSpec, quantize_linears
from compiler.quant.scheme import Lut2dScheme, RowgenScheme, Scheme, SimdScheme, load_scheme
from compiler.text import CALIBRATION_TEXT, DEFAULT_PROMPT
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.generate import generate
from hw.golden.lookup import rowgen_sums, table_sums
from hw.golden.multiplier import group_sums
from hw.golden.search import search
from hw.presets import load_hardware
from sim.bare import run_bare
from sim.circuit import BUILD_DIR, circuit
from sim.counters import lookups, port_bytes, products, weight_bytes
from sim.functional import run_image
from sim.runner import simulate

MODEL = "smollm2-135m"
REPEATS = 5
DECODE_INPUTS, DECODE_COLUMNS, DECODE_TOKENS = 1024, 2048, 1
DECODE_BOUNDS = {"lut2d": 10.0, "lut2d-gather": 2.2, "rowgen-2bit": 2.4}
"""Bits per weight on the weight ports: what each scheme may read at most."""
COCOTB_BOUND = 0.8
TOKEN_BOUND_S = 1.0


def best_of(action: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median seconds of an action, after one run that compiles what is compiled on first use."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def decode_build(scheme: Scheme, hardware: HardwareConfig) -> Build:
    """One linear layer with seeded weights and one token."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(DECODE_COLUMNS, DECODE_INPUTS)).astype(np.float32)
    x = rng.normal(size=(256, DECODE_INPUTS)).astype(np.float32)
    spec = LinearSpec(name="linear", input_name="x", weight=weight, bias=None, blocks=None,
                      scheme=scheme)
    layers = quantize_linears([spec], {"x": x}, hardware)
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


def _golden_linear(scheme: Scheme, shape: tuple[int, int]) -> Callable[[], Ints]:
    """The golden function of one layer for one token, on random integers of the right shape."""
    columns, inputs = shape
    rng = np.random.default_rng(0)
    if isinstance(scheme, SimdScheme):
        group = 32
        groups = -(-inputs // group)
        x = rng.integers(-127, 128, (1, groups * group)).astype(np.int8)
        weights = rng.integers(-8, 8, (columns, groups * group)).astype(np.int8)
        scales = rng.integers(-999, 999, (groups, columns)).astype(np.int16)
        alphas = np.zeros(groups * 4, np.uint8)
        return lambda: group_sums(x, weights, alphas, scales, scales, group, 8)
    positions, g = inputs // 2, scheme.group_columns
    groups = -(-columns // g)
    indices = rng.integers(0, scheme.weight_codes, (positions, columns)).astype(np.uint8)
    if isinstance(scheme, RowgenScheme):
        books = rng.integers(-127, 128, (positions, groups, scheme.weight_codes, 2))
        a = rng.integers(-127, 128, (1, positions, 2)).astype(np.int8)
        codebooks = books.astype(np.int8)
        return lambda: rowgen_sums(a, codebooks, indices, g)
    assert isinstance(scheme, Lut2dScheme)
    shape4 = (positions, scheme.act_codes, groups, scheme.weight_codes)
    tables = rng.integers(0, 256, shape4).astype(np.uint8)
    x16 = rng.integers(-32767, 32768, (1, positions, 2)).astype(np.int16)
    centroids = rng.integers(-32767, 32768, (positions, scheme.act_codes, 2)).astype(np.int16)
    return lambda: table_sums(search(x16, centroids), tables, indices, g)


def golden_token() -> list[dict[str, Any]]:
    """Seconds of golden for all linear layers of SmolLM2-135M, one token."""
    arch = load_model(MODEL).architecture
    shapes = [arch.linear_shape(name) for name in ("q", "k", "v", "o", "gate", "up", "down")]
    weights = sum(rows * columns for rows, columns in shapes) * arch.layers
    rows_of = []
    for name in ("lut2d", "rowgen-2bit", "simd-w4a8"):
        scheme = load_scheme(name).default
        seconds = sum(best_of(_golden_linear(scheme, shape)) for shape in shapes) * arch.layers
        vectors = 1 if isinstance(scheme, SimdScheme) else scheme.vector_length
        kind = "products" if isinstance(scheme, SimdScheme) else "lookups"
        rows_of.append({
            "scheme": name, "token_s": seconds, "bound_s": TOKEN_BOUND_S,
            "holds": seconds < TOKEN_BOUND_S, f"{kind}_per_s": weights / vectors / seconds,
        })
    return rows_of


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


def main() -> int:
    """Measure everything and write it; exit status 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hw", default="sim")
    out, name = (vars(args := parser.parse_args())["out"], args.hw)

    def say(text: str) -> None:
        print(text, flush=True)

    hardware = load_hardware(name)
    run_dir = BUILD_DIR / "bench"
    result = {
        "command": "make bench", "machine": machine(), "hardware": name,
        "golden": golden_token(),
        "decode": decode_bits(hardware, run_dir, say),
        "simulation": simulation_rates(hardware, run_dir, say),
        "generation": generation(("tiny", "sim", "v80-lutllm", "v80")),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, (json.dumps(result, indent=2) + "\n").encode())
    missed = [
        f"{part}: {row.get('scheme')}"
        for part in ("golden", "decode", "simulation") for row in result[part]
        if not row["holds"]
    ]
    print(f"{out}: " + ("all bounds hold" if not missed else f"missed: {', '.join(missed)}"))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
