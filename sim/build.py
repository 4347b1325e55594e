"""Builds the testbench and the circuit for a simulator; unchanged builds are reused.

The commands of cocotb's own Verilator build keep every signal (``--public-flat-rw``), which stops
Verilator from optimizing; here only signals that Python touches stay visible.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cocotb_tools.config
from cocotb_tools.runner import Icarus
from filelock import FileLock

from hw.errors import ToolError
from sim.testbench import control_file
from sim.toolchain import Tool, Verilator, find_compiler
from sim.waves import fst_flags

TIMESCALE = ("1ns", "1ps")
TOPLEVEL = "tb"
PREFIX = "Vtop"
VERILATOR_FLAGS = (
    "--timing", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert",
    "-Wno-fatal", "-Wno-lint", "-Wno-style", "-CFLAGS", "-std=gnu++20",
)
OPTIMIZE = "OPT_FAST=-O1"
"""-O2 compiles twice as long and runs a circuit of useful size no faster."""
COMPLETE = "complete"
WAVES, ACTIVITY = "waves", "activity"
"""What a build can write of a run besides its result."""
RUNTIME_OBJECTS = "verilated*.o"
JOBS = min(2, os.cpu_count() or 1)


def key_of(*parts: str, files: Sequence[Path] = ()) -> str:
    """Hash of texts and of files' names and contents."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:24]


def cached(build_dir: Path, key: str, make: Callable[[Path], None]) -> Path:
    """Folder ``build_dir/key``, filled by ``make`` unless it is complete.

    A build happens in a folder of its own and is renamed when finished, so an interrupted one is
    never taken for whole. Of two at once one waits for the other.
    """
    folder = build_dir / key
    if (folder / COMPLETE).is_file():
        return folder
    build_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(build_dir / f".{key}.lock"):
        if (folder / COMPLETE).is_file():
            return folder
        scratch = Path(tempfile.mkdtemp(dir=build_dir, prefix=f".{key}-"))
        try:
            make(scratch)
            (scratch / COMPLETE).touch()
            if folder.exists():
                shutil.rmtree(folder)
            scratch.replace(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def verilate(
    tool: Verilator, sources: Sequence[Path], main: Path, folder: Path, build_dir: Path, log: Path,
    flags: Sequence[str],
) -> None:
    """Compile module ``tb`` with the C++ program ``main`` to ``folder/tb``.

    Verilator's own runtime is compiled once for each set of flags and then reused.
    Raises ToolError with the log's path.
    """
    commands = [
        [str(tool.path), "-cc", "--exe", "-Mdir", str(folder), "--top-module", TOPLEVEL,
         "--prefix", PREFIX, "-o", TOPLEVEL, "--timescale", "/".join(TIMESCALE),
         *VERILATOR_FLAGS, *flags, str(main), *map(str, sources)],
        ["make", "-j", str(JOBS), "-C", str(folder), "-f", f"{PREFIX}.mk", OPTIMIZE,
         *tool.make_variables()],
    ]
    runtime = key_of(tool.version, find_compiler().version, *VERILATOR_FLAGS, *flags)
    shared = build_dir / f"runtime-{runtime}"
    for objects in shared.glob(RUNTIME_OBJECTS):
        shutil.copy(objects, folder)
    environment = {**os.environ, **tool.environment()}
    # A make above this one (make test) must not pass its job server on.
    environment.pop("MAKEFLAGS", None)
    with log.open("w") as output:
        for command in commands:
            done = subprocess.run(command, cwd=folder, env=environment, stdout=output,
                                  stderr=subprocess.STDOUT, check=False)
            if done.returncode:
                raise ToolError(f"{Path(command[0]).name} failed with status {done.returncode} "
                                f"on the generated circuit; see {log}")

    def keep(target: Path) -> None:
        for objects in folder.glob(RUNTIME_OBJECTS):
            shutil.copy(objects, target)

    cached(build_dir, shared.name, keep)


def _build_verilator(
    tool: Verilator, sources: Sequence[Path], folder: Path, build_dir: Path, log: Path,
    trace: str | None,
) -> None:
    control = folder / "public.vlt"
    control.write_text(control_file())
    libraries = cocotb_tools.config.libs_dir
    flags = ["--vpi", "-LDFLAGS",
             f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator"]
    if trace == WAVES:
        flags += fst_flags(build_dir / "fst")
    elif trace == ACTIVITY:
        flags += ["--trace-saif"]
    main = Path(cocotb_tools.config.share_dir) / "lib" / "verilator" / "verilator.cpp"
    verilate(tool, [control, *sources], main, folder, build_dir, log, flags)


def _build_icarus(sources: Sequence[Path], folder: Path, log: Path) -> None:
    # Yosys makes combinational blocks start by a register's initial value changing at time 0. That
    # is an event in Verilog; SystemVerilog, cocotb's choice, initializes before the blocks wait.
    try:
        Icarus().build(sources=sources, hdl_toplevel=TOPLEVEL, build_dir=folder,
                       timescale=TIMESCALE, build_args=["-g2005"], log_file=log)
    except (RuntimeError, SystemExit) as error:
        raise ToolError(f"iverilog failed on the generated circuit ({error}); see {log}") from None


def build(
    sources: Sequence[Path], testbench: str, tool: Tool, build_dir: Path, *, trace: str | None
) -> Path:
    """Build for cocotb; returns the build folder. Raises ToolError with the log's path.

    trace: None, `WAVES`, or `ACTIVITY` (Verilator only).
    """
    key = key_of(tool.name, tool.version, testbench, control_file(), *VERILATOR_FLAGS, OPTIMIZE,
                 trace or "plain", files=sources)

    def make(folder: Path) -> None:
        bench = folder / "tb.v"
        bench.write_text(testbench)
        log = build_dir / f"{key}.log"
        if isinstance(tool, Verilator):
            _build_verilator(tool, [*sources, bench], folder, build_dir, log, trace)
        else:
            _build_icarus([*sources, bench], folder, log)

    return cached(build_dir, key, make)
