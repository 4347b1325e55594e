"""Runs the testbench without cocotb and Python: the fastest loop that Verilator allows.

A yardstick for `sim.runner`: the same Verilog and image, but the testbench's own host writes the
registers and no signal is kept visible.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hw.config import HardwareConfig
from hw.errors import ToolError
from hw.register_map import WATCHDOG_LIMIT, register_map
from sim.build import OPTIMIZE, TOPLEVEL, VERILATOR_FLAGS, cached, key_of, verilate
from sim.compare import ExpectedBeats
from sim.records import Job, MemoryModel
from sim.runner import BUILD_DIR, bench_text, prepare, run_plusargs
from sim.testbench import library_sources
from sim.toolchain import find_make, find_verilator

MAIN = """\
#include <chrono>
#include <cstdio>
#include <memory>
#include "Vtop.h"
#include "verilated.h"

int main(int argc, char** argv) {
    const std::unique_ptr<VerilatedContext> context{new VerilatedContext};
    context->commandArgs(argc, argv);
    const std::unique_ptr<Vtop> top{new Vtop{context.get()}};
    top->eval();  // loads the image
    const auto start = std::chrono::steady_clock::now();
    while (!context->gotFinish() && top->eventsPending()) {
        context->time(top->nextTimeSlot());
        top->eval();
    }
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
    top->final();
    std::printf("wall_s %.6f\\n", wall.count());
    return 0;
}
"""


@dataclass(frozen=True, kw_only=True)
class BareResult:
    """Cycles as the accelerator counted them, and seconds of the loop without loading."""

    cycles: int
    wall_s: float

    @property
    def cycles_per_s(self) -> float:
        """Simulated cycles for each second."""
        return self.cycles / self.wall_s


def run_bare(
    sources: Sequence[Path],
    config: HardwareConfig,
    image: bytes,
    program_address: int,
    expected: ExpectedBeats,
    run_dir: Path,
    *,
    memory: MemoryModel | None = None,
    build_dir: Path = BUILD_DIR,
) -> BareResult:
    """Run a program image in a C++ loop; arguments as in `sim.runner.simulate`.

    Raises ToolError when Verilator is missing, fails, or the run does not end.
    """
    tool = find_verilator()
    find_make()
    run_dir, build_dir = run_dir.resolve(), build_dir.resolve()
    job = Job(program_address=program_address, expected=expected)
    words = prepare(run_dir, config, image, [job])
    text = bench_text(sources, config, register_map(config), words)
    files = [*library_sources(), *sources]
    key = key_of("bare", tool.version, *VERILATOR_FLAGS, OPTIMIZE, MAIN, text, files=files)

    def make(folder: Path) -> None:
        main, bench = folder / "bare.cpp", folder / "tb.v"
        main.write_text(MAIN)
        bench.write_text(text)
        verilate(tool, [*files, bench], main, folder, build_dir, build_dir / f"{key}.log", [])

    program = cached(build_dir, key, make) / TOPLEVEL
    plusargs = [*run_plusargs(config, memory or MemoryModel(), words, None), "+bare",
                f"+program={program_address}", f"+watchdog={WATCHDOG_LIMIT}"]
    done = subprocess.run([str(program), *plusargs], cwd=run_dir, capture_output=True, text=True,
                          check=False)
    log = run_dir / "bare.log"
    log.write_text(done.stdout + done.stderr)
    cycles = re.search(r"^cycles (\d+)", done.stdout, re.MULTILINE)
    wall = re.search(r"^wall_s (\S+)", done.stdout, re.MULTILINE)
    if done.returncode or cycles is None or wall is None:
        raise ToolError(f"the bare simulation failed with status {done.returncode}; see {log}")
    return BareResult(cycles=int(cycles[1]), wall_s=float(wall[1]))
