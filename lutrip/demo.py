"""What the demo runs: a whole model's first words, single layers, and a summary written last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compiler.build import write_build
from compiler.image.image import write_atomically
from lutrip.api import compile, compile_decoder, discard_result, simulate
from reports.records import RESULT, SUMMARY
from sim.circuit import generator_hash

SCHEMES = ("lut2d", "lut2d-gather", "rowgen-2bit", "simd-w4a8", "simd-w4a4")
GENERATION, GENERATION_SCHEME = "generation", "simd-w4a8"
PROMPT, NEW_TOKENS = "The capital of France is", 2
TINY_SCHEMES = (
    "lut2d-tiny", "lut2d-gather-tiny", "rowgen-2bit", "simd-w4a8-tiny", "simd-w4a4-tiny",
)
TINY_MODEL, TINY_HARDWARE, TINY_TOKENS = "shape:tiny", "tiny", 7

Say = Callable[[str], None]


def run_generation(
    folder: Path, model: str, hardware: str, *, build_dir: Path, fresh: bool, progress: Say
) -> dict[str, Any]:
    """All layers and the head, token by token; passes of an equal image are kept."""
    name = f"generation, {GENERATION_SCHEME}"
    compile_decoder(model, GENERATION_SCHEME, hardware, folder, prompt=PROMPT,
                    new_tokens=NEW_TOKENS, progress=lambda text: progress(f"{name}: {text}"))
    return simulate(folder, build_dir=build_dir, resume=not fresh,
                    progress=lambda text: progress(f"{name}: {text}"))


def run_one(
    folder: Path, model: str, hardware: str, scheme: str, tokens: int, *, simulator: str,
    build_dir: Path, fresh: bool, progress: Say,
) -> dict[str, Any]:
    """Compile and simulate one scheme; an equal run that is already finished is kept."""
    progress(f"{scheme}: compiling")
    build = compile(model, scheme, hardware, tokens=tokens)
    key = f"{build.metadata['image_sha256']} {generator_hash()} {simulator}"
    kept = _finished(folder / RESULT, key)
    if kept is not None and not fresh:
        return kept
    discard_result(folder)
    write_build(build, folder)
    values = simulate(folder, simulator=simulator, build_dir=build_dir,
                      progress=lambda text: progress(f"{scheme}: {text}"))
    write_atomically(folder / "key.txt", key.encode())
    return values


def _finished(path: Path, key: str) -> dict[str, Any] | None:
    try:
        if (path.parent / "key.txt").read_text() != key:
            return None
        values: dict[str, Any] = json.loads(path.read_text())
        return values
    except (OSError, ValueError):
        return None


def run_demo(
    out: Path, *, model: str, hardware: str, tokens: int, build_dir: Path, fresh: bool,
    progress: Say, finished: Callable[[], None],
) -> dict[str, Any]:
    """Run everything and write ``summary.json`` last; returns the summary."""
    out.mkdir(parents=True, exist_ok=True)
    (out / SUMMARY).unlink(missing_ok=True)
    generated = run_generation(out / GENERATION, model, hardware, build_dir=build_dir, fresh=fresh,
                               progress=progress)
    finished()
    runs = []
    for scheme in SCHEMES:
        runs.append(run_one(
            out / scheme, model, hardware, scheme, tokens, simulator="verilator",
            build_dir=build_dir, fresh=fresh, progress=progress))
        finished()
    tiny = []
    icarus = shutil.which("iverilog") is not None
    for scheme in TINY_SCHEMES:
        cycles: dict[str, int | None] = {"verilator": None, "icarus": None}
        exact = True
        for simulator in ("verilator", "icarus") if icarus else ("verilator",):
            values = run_one(
                out / "tiny" / f"{scheme}-{simulator}", TINY_MODEL, TINY_HARDWARE, scheme,
                TINY_TOKENS, simulator=simulator, build_dir=build_dir, fresh=fresh,
                progress=progress)
            cycles[simulator] = values["cycles"]
            exact = exact and values["bit_exact"]
        tiny.append({
            "scheme": scheme, "bit_exact": exact, "verilator_cycles": cycles["verilator"],
            "icarus_cycles": cycles["icarus"],
            "equal": cycles["icarus"] in (None, cycles["verilator"]),
        })
        finished()
    summary = {
        "runs": runs, "generation": generated, "tiny": tiny,
        "all_bit_exact": all(run["bit_exact"] for run in [generated, *runs, *tiny]),
        "all_cycles_equal": all(run["equal"] for run in tiny),
    }
    write_atomically(out / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    return summary
