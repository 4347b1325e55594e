"""Builds the testbench and the circuit for a simulator; unchanged builds are reused."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from cocotb_tools import runner as cocotb_runner

from hw.errors import ToolError
from sim.testbench import control_file
from sim.toolchain import Tool, Verilator

TIMESCALE = ("1ns", "1ps")
TOPLEVEL = "tb"
VERILATOR_FLAGS = (
    "--timing", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert",
    "-Wno-fatal", "-Wno-lint", "-Wno-style", "-CFLAGS", "-std=gnu++20",
)
OPTIMIZE = "OPT_FAST=-O2"
COMPLETE = "complete"
JOBS = min(2, os.cpu_count() or 1)


class VerilatorRunner(cocotb_runner.Verilator):
    """cocotb's runner without ``--public-flat-rw``, which keeps every signal of the circuit.

    Signals that Python touches are named by the testbench's control file instead; the wheel's
    makefile gets the variables that it lacks; waves are FST.
    """

    def __init__(self, tool: Verilator) -> None:
        super().__init__()
        self.tool = tool

    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(self.tool.path)

    def _build_command(self) -> list[list[str]]:
        self.env |= self.tool.environment()
        verilate, make = super()._build_command()
        verilate.remove("--public-flat-rw")
        if self.waves:
            verilate[verilate.index("--trace")] = "--trace-fst"
        make[make.index("-j") + 1] = str(JOBS)
        return [verilate, [*make, *self.tool.make_variables(), OPTIMIZE]]


def cocotb_simulator(tool: Tool) -> cocotb_runner.Runner:
    """cocotb's runner for a tool."""
    if isinstance(tool, Verilator):
        return VerilatorRunner(tool)
    return cocotb_runner.Icarus()


def build_key(sources: Sequence[Path], testbench: str, tool: Tool, *words: str) -> str:
    """Hash of everything a build depends on."""
    digest = hashlib.sha256()
    for text in (tool.name, tool.version, testbench, control_file(), *VERILATOR_FLAGS, OPTIMIZE,
                 *words):
        digest.update(text.encode() + b"\0")
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:24]


def cached(build_dir: Path, key: str, make: Callable[[Path], None]) -> Path:
    """Folder ``build_dir/key``, filled by ``make`` unless it is complete.

    A build happens in a folder of its own and is renamed when finished, so an interrupted one is
    never taken for whole and two at once do not meet.
    """
    folder = build_dir / key
    if (folder / COMPLETE).is_file():
        return folder
    build_dir.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=build_dir, prefix=f".{key}-"))
    try:
        make(scratch)
        (scratch / COMPLETE).touch()
        try:
            scratch.replace(folder)
        except OSError:
            if not (folder / COMPLETE).is_file():
                shutil.rmtree(folder)
                scratch.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def build(
    sources: Sequence[Path], testbench: str, tool: Tool, build_dir: Path, *, waves: bool
) -> Path:
    """Build for cocotb; returns the build folder. Raises ToolError with the log's path."""
    key = build_key(sources, testbench, tool, "waves" if waves else "plain")

    def make(folder: Path) -> None:
        bench = folder / "tb.v"
        bench.write_text(testbench)
        files = [*sources, bench]
        flags: list[str] = []
        if isinstance(tool, Verilator):
            control = folder / "public.vlt"
            control.write_text(control_file())
            files.insert(0, control)
            flags += VERILATOR_FLAGS
        log = build_dir / f"{key}.log"
        try:
            cocotb_simulator(tool).build(
                sources=files, hdl_toplevel=TOPLEVEL, build_dir=folder, timescale=TIMESCALE,
                waves=waves, build_args=flags, log_file=log,
            )
        except (RuntimeError, SystemExit) as error:
            raise ToolError(f"{tool.name} {tool.version} could not build the circuit "
                            f"({error}); see {log}") from None

    return cached(build_dir, key, make)
