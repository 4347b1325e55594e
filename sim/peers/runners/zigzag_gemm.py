"""Maps one GEMM with ZigZag, by its own Python: ``zigzag_gemm.py JOB.json OUT.json``.

ZigZag (https://github.com/KULeuven-MICAS/zigzag) searches the order of loops and gives latency and
energy from formulas. The accelerator is the wheel's own example `gemm_l1_l3`, 8 x 8 x 8 int8
multipliers over two memories; the loops on the array are its example's, cut to the GEMM, and the
order of the others is searched for the least latency. This file must not import lutrip, which is
not installed there.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

SIDE = 8
"""Multipliers along each of the array's three directions."""
MAPPING = """\
- name: default
  spatial_mapping:
    D1:
      - D, {tokens}
    D2:
      - C, {inputs}
    D3:
      - K, {columns}
  memory_operand_links:
    O: O
    W: I2
    I: I1
"""


def workload(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The GEMM O[d][k] += I[d][c] * W[c][k] with constant weights, in ZigZag's format."""
    return [{
        "id": 0, "name": "gemm", "operator_type": "Gemm", "equation": "O[d][k]+=I[d][c]*W[c][k]",
        "dimension_relations": [], "loop_dims": ["C", "D", "K"],
        "loop_sizes": [job["inputs"], job["tokens"], job["columns"]],
        "operand_source": {"I": 0, "W": 0},
        "operand_precision": {"W": 8, "I": 8, "O": 32, "O_final": 8},
    }]


def run(job: dict[str, Any], folder: Path) -> dict[str, float]:
    """Cycles and seconds of one GEMM, tokens x inputs x columns; importing is not timed."""
    package = importlib.import_module("zigzag")
    estimate = importlib.import_module("zigzag.api").get_hardware_performance_zigzag
    inputs = Path(str(package.__path__[0])) / "inputs"
    mapping = folder / "mapping.yaml"
    mapping.write_text(MAPPING.format(
        **{name: min(SIDE, job[name]) for name in ("tokens", "inputs", "columns")}))
    logging.disable(logging.CRITICAL)
    wall, processor = time.perf_counter(), time.process_time()
    _, latency, _ = estimate(
        workload(job), str(inputs / "hardware" / "gemm_l1_l3.yaml"), str(mapping),
        opt="latency", dump_folder=str(folder / "outputs"), loma_show_progress_bar=False)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {"cycles": int(latency), "wall_s": wall, "cpu_s": processor}


def main() -> int:
    """Read the job, run it, write the result."""
    job, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.write_text(json.dumps(run(json.loads(job.read_text()), job.parent)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
