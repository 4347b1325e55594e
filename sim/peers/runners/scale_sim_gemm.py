"""Runs one GEMM in SCALE-Sim, by its own Python: ``scale_sim_gemm.py JOB.json OUT.json``.

SCALE-Sim (https://github.com/scalesim-project/SCALE-Sim, arXiv 2504.15377) simulates a systolic
array cycle by cycle, addresses without values. Its wheel has no configuration files; those written
here hold the keys that its `scale_config.py` reads. Traces are not written, which is its fastest
way. This file must not import lutrip, which is not installed there.
"""

from __future__ import annotations

import csv
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

CONFIG = """\
[general]
run_name = run

[architecture_presets]
ArrayHeight: {rows}
ArrayWidth: {columns}
IfmapSramSzkB: {buffer_kb}
FilterSramSzkB: {buffer_kb}
OfmapSramSzkB: {buffer_kb}
IfmapOffset: 0
FilterOffset: 100000000
OfmapOffset: 200000000
Dataflow: {dataflow}
Bandwidth: {bandwidth}
ReadRequestBuffer: 64
WriteRequestBuffer: 64

[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: {bandwidth}
IfmapSRAMBankNum: 1
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: {bandwidth}
FilterSRAMBankNum: 1
FilterSRAMBankPort: 2

[sparsity]
SparsitySupport: false

[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""
LAYOUT = "Layer name" + ", factor" * 20 + ",\n" + "gemm" + ", 1" * 20 + ",\n"


def report(path: Path) -> dict[str, float]:
    """Columns of the one row of a COMPUTE_REPORT.csv, by stripped name."""
    with path.open(newline="") as file:
        header, row = list(csv.reader(file))[:2]
    pairs = zip(header, row, strict=True)
    return {name.strip(): float(value) for name, value in pairs if name.strip()}


def run(job: dict[str, Any], folder: Path) -> dict[str, float]:
    """Cycles and seconds of one GEMM; importing and writing the files is not timed.

    job: tokens, inputs, columns of the GEMM; rows, array_columns, buffer_kb, bandwidth (words a
    cycle) and dataflow of the array.
    """
    simulator = importlib.import_module("scalesim.scale_sim").scalesim
    (folder / "scale.cfg").write_text(CONFIG.format(
        rows=job["rows"], columns=job["array_columns"], buffer_kb=job["buffer_kb"],
        bandwidth=job["bandwidth"], dataflow=job["dataflow"]))
    (folder / "gemm.csv").write_text(
        f"Layer, M, N, K,\ngemm, {job['tokens']}, {job['columns']}, {job['inputs']},\n")
    (folder / "layout.csv").write_text(LAYOUT)
    wall, processor = time.perf_counter(), time.process_time()
    made = simulator(
        save_disk_space=True, verbose=False, config=str(folder / "scale.cfg"),
        topology=str(folder / "gemm.csv"), layout=str(folder / "layout.csv"), input_type_gemm=True)
    made.run_scale(top_path=str(folder))
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    # Its own get_total_cycles() fails: it reads a method as a list.
    found = report(folder / "run" / "COMPUTE_REPORT.csv")
    return {"cycles": int(found["Total Cycles"]), "wall_s": wall, "cpu_s": processor}


def main() -> int:
    """Read the job, run it, write the result."""
    job, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.write_text(json.dumps(run(json.loads(job.read_text()), job.parent)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
