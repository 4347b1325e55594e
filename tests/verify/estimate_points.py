"""What the fast model gives for assorted design points, kept so that it stays what it is.

    python -m tests.verify.estimate_points            compare with the kept figures
    python -m tests.verify.estimate_points --write    keep those of now

A change of the model or of the compiler's programs changes them, one for speed must not.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compiler.frontends.shapes import SHAPES
from compiler.image.image import write_atomically
from compiler.quant.scheme import load_scheme
from compiler.structure import structural_decoder
from hw.presets import load_hardware
from sim.estimate.model import Estimate, PhaseEstimate, estimate
from sim.records import MemoryModel

KEPT = Path(__file__).parents[2] / "docs" / "measured" / "estimate-points.json"
COMMAND = "python -m tests.verify.estimate_points --write"
HBM = {"latency_cycles": 63, "row_miss_cycles": 2, "refresh_interval_cycles": 878,
       "refresh_cycles": 58}
DDR = {"latency_cycles": 30, "row_bytes": 8192, "row_miss_cycles": 6,
       "refresh_interval_cycles": 1560, "refresh_cycles": 70}
POINTS: tuple[tuple[str, str, str, dict[str, Any], dict[str, Any], int, int], ...] = (
    ("tiny", "lut2d-gather-tiny", "tiny", {}, {"bytes_per_cycle": 5.0, "outstanding": 3}, 10, 3),
    ("tiny-opt", "simd-w4a8-tiny", "tiny", {"tokens_max": 5}, {"row_miss_cycles": 5}, 12, 9),
    ("tiny-mistral", "simd-w4a4-agile-tiny", "tiny", {}, {"refresh_interval_cycles": 100,
                                                         "refresh_cycles": 9}, 24, 12),
    ("smollm2-135m", "simd-w4a8", "sim", {}, {}, 64, 16),
    ("smollm2-135m", "mix-lut-simd", "sim", {"read_fifo_words": 32}, DDR, 40, 5),
    ("smollm2-135m", "rowgen-2bit-sparse", "kv260", {}, {**DDR, "bytes_per_cycle": 9.0}, 33, 4),
    ("qwen2.5-0.5b", "simd-w4a4", "u280", {"tokens_max": 16}, HBM, 50, 3),
    ("qwen3-1.7b", "simd-w4a8", "u280", {"lanes": 512}, HBM, 128, 64),
    ("qwen3-1.7b", "rowgen-2bit", "v80", {"tokens_max": 48, "accumulator_words": 2048}, HBM, 128,
     64),
    ("qwen3-1.7b", "lut2d", "u280", {"chains": 8, "read_fifo_words": 256}, HBM, 40, 2),
    ("qwen3-1.7b", "lut2d-gather", "v80", {}, HBM, 20, 2),
    ("qwen3-1.7b", "mix-lut-simd", "kv260", {"vector_words": 16384}, DDR, 30, 2),
)
"""Model, scheme, hardware and what is changed in it, memory, prefill, decode."""


def phase_values(found: PhaseEstimate) -> dict[str, Any]:
    """A phase in plain values; what the counters and operations are in all, and all of the path."""
    return {
        "cycles": found.cycles, "contexts": [list(context) for context in found.contexts],
        "counters": {name: value for name, value in sorted(found.counters.items()) if value},
        "path": {name: value for name, value in sorted(found.path.items()) if value},
        "operations": {one.name: [one.instructions, one.busy_cycles, one.missing_cycles, one.bound]
                       for one in sorted(found.operations, key=lambda one: one.name)},
    }


def point_values(number: int) -> dict[str, Any]:
    """Prefill and decode of a point."""
    shape, scheme, hardware, changes, memory, prefill, decode = POINTS[number]
    config = dataclasses.replace(load_hardware(hardware), **changes)
    decoder = structural_decoder(SHAPES[shape], load_scheme(scheme), config, prefill + decode)
    found: Estimate = estimate(decoder, MemoryModel(**memory), prefill, decode)
    assert found.decode is not None
    values = {"prefill": phase_values(found.prefill), "decode": phase_values(found.decode)}
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def differences(kept: Any, found: Any, where: str = "") -> Iterator[str]:
    """Where two nests of values differ."""
    if isinstance(kept, dict) and isinstance(found, dict):
        for key in sorted({*kept, *found}):
            yield from differences(kept.get(key), found.get(key), f"{where}/{key}")
    elif kept != found:
        yield f"{where}: kept {kept}, now {found}"


def main() -> int:
    """Compare or keep; exit status 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    found = [point_values(number) for number in range(len(POINTS))]
    if write:
        text = json.dumps({"command": COMMAND, "points": found}, separators=(",", ":"))
        write_atomically(KEPT, text.replace('{"prefill"', '\n{"prefill"').encode() + b"\n")
        return 0
    lines = list(differences(json.loads(KEPT.read_text())["points"], found))
    for point, (kept, values) in enumerate(
            zip(json.loads(KEPT.read_text())["points"], found, strict=True)):
        for line in differences(kept, values, f"point {point}"):
            print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    raise SystemExit(main())
