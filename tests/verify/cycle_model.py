"""The cycle model against RTL over random runs: ``python tests/verify/cycle_model.py``.

Hardware, model shape, scheme, prompt, passes and memory timings come from the seed. RTL runs go to
a file, from which an interrupted command goes on; the model is worked out at the end. Writes the
errors, their distribution as a figure, and exits 1 where a bound is missed, 3 where a tool fails.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycle_runs import Run, collect, read_runs
from random_decoders import hardware_pool

from compiler.image.image import write_atomically
from hw.errors import ToolError
from hw.isa import LutMode, Opcode
from sim.estimate.program import Circuit
from sim.estimate.rows import pack_rows

MEAN_BOUND, WORST_BOUND = 0.01, 0.05
COMMAND = "python tests/verify/cycle_model.py"


def modelled(run: Run) -> int:
    """Cycles of a run by the model."""
    circuit = Circuit.of(run.hardware, run.memory)
    place = run.place // run.hardware.port_bytes
    return circuit.run(pack_rows(run.program, run.hardware), place).cycles


def kinds(run: Run) -> str:
    """What the linear engine did."""
    modes = {LutMode(fields["mode"]).name.lower() for opcode, fields in run.program
             if opcode == Opcode.LUT}
    array = {"simd"} if any(opcode == Opcode.SIMD for opcode, _ in run.program) else set()
    return "+".join(sorted(modes | array)) or "none"


def row_of(run: Run) -> dict[str, Any]:
    """A run, both cycle counts, the error."""
    cycles, memory = modelled(run), run.memory
    return {
        "hardware": run.hardware.name, "pass": run.name, "kinds": kinds(run),
        "instructions": len(run.program), "latency_cycles": memory.latency_cycles,
        "bytes_per_cycle": memory.bytes_per_cycle, "outstanding": memory.outstanding,
        "row_miss_cycles": memory.row_miss_cycles, "refresh_cycles": memory.refresh_cycles,
        "rtl_cycles": run.cycles, "model_cycles": cycles,
        "error": (cycles - run.cycles) / run.cycles}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of all runs."""
    errors = np.abs([row["error"] for row in rows])
    return {
        "runs": len(rows), "mean_absolute_error": float(errors.mean()),
        "median_absolute_error": float(np.median(errors)),
        "percentile_95": float(np.percentile(errors, 95)),
        "worst_absolute_error": float(errors.max()),
        "runs_by_hardware": {name: sum(row["hardware"] == name for row in rows)
                             for name in sorted({row["hardware"] for row in rows})},
        "rtl_cycles": sum(row["rtl_cycles"] for row in rows)}


def figure(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Errors over cycles, and how many are how large."""
    errors = 100 * np.array([row["error"] for row in rows])
    cycles = [row["rtl_cycles"] for row in rows]
    plt.rcParams["svg.hashsalt"] = COMMAND
    canvas, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(3, 2))
    refreshed = np.array([row["refresh_cycles"] > 0 for row in rows])
    for chosen, label in ((~refreshed, "no refresh"), (refreshed, "refresh")):
        left.plot(np.array(cycles)[chosen], errors[chosen], ".", label=label)
    left.set(xscale="log", xlabel="cycles in RTL", ylabel="error of the model, %")
    left.axhline(0, color="gray", linewidth=0.6)
    left.legend(frameon=False)
    ordered = np.sort(np.abs(errors))
    right.plot(ordered, np.arange(1, len(ordered) + 1) / len(ordered))
    right.set(xlabel="absolute error, %", ylabel="part of the runs", ylim=(0, 1.02))
    for bound in (MEAN_BOUND, WORST_BOUND):
        right.axvline(100 * bound, color="gray", linewidth=0.6, linestyle="--")
    canvas.tight_layout()
    canvas.savefig(path, metadata={"Date": None})
    plt.close(canvas)


def main() -> int:
    """Simulate what is left, then compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--hardware", type=int, default=5, help="hardware sizes in the pool")
    parser.add_argument("--cases", type=int, help="seed of all but the hardware, if another")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--work", type=Path, default=Path("build/cycle-model.jsonl"),
                        help="file of the RTL runs")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--figure", type=Path, help="SVG file for the distribution")
    parser.add_argument("--build-dir", type=Path, default=Path("build"))
    arguments = parser.parse_args()
    cases = arguments.seed if arguments.cases is None else arguments.cases
    arguments.work.parent.mkdir(parents=True, exist_ok=True)
    try:
        collect(arguments.work, hardware_pool(arguments.seed, arguments.hardware), cases,
                arguments.runs, arguments.build_dir,
                lambda said: print(said, file=sys.stderr, flush=True))
    except ToolError as error:
        print(error, file=sys.stderr)
        return 3
    rows = [row_of(run) for run in read_runs(arguments.work)]
    found = summary(rows)
    result = {
        "command": f"{COMMAND} --seed {arguments.seed} --hardware {arguments.hardware} "
                   f"--cases {cases} --runs {arguments.runs}",
        "mean_bound": MEAN_BOUND, "worst_bound": WORST_BOUND, **found, "rows": rows}
    if arguments.json:
        write_atomically(arguments.json, (json.dumps(result, indent=1) + "\n").encode())
    if arguments.figure:
        figure(rows, arguments.figure)
    print(f"{found['runs']} runs: mean absolute error {found['mean_absolute_error']:.3%}, 95 % of "
          f"them below {found['percentile_95']:.3%}, worst {found['worst_absolute_error']:.3%}")
    holds = (found["mean_absolute_error"] <= MEAN_BOUND
             and found["worst_absolute_error"] <= WORST_BOUND)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
