"""Runs a program image on the circuit and compares every write with the expected ones."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cocotb_tools.runner import get_runner

from hw.config import HardwareConfig
from hw.errors import LutripError, ToolError
from hw.isa import Engine
from hw.register_map import (
    ERROR_BITS,
    STATUS_BITS,
    STATUS_BUSY,
    STATUS_WAITING,
    WATCHDOG_LIMIT,
    Register,
    register_map,
)
from sim.build import TIMESCALE, TOPLEVEL, build
from sim.compare import ExpectedBeats, read_checks, write_expected
from sim.counters import counter_registers
from sim.records import MemoryModel, SimulationResult
from sim.testbench import library_sources, testbench, top_ports
from sim.toolchain import Tool, find_simulator

DEPTH_MIN = 1 << 18
BUILD_DIR = Path("build") / "sim"
BENCH = "sim.benches.accelerator"
OUTPUTS = ("registers.json", "checks.txt", "events.txt", "output.txt")


def simulate(
    sources: Sequence[Path],
    config: HardwareConfig,
    image: bytes | Path,
    program_address: int,
    expected: ExpectedBeats,
    run_dir: Path,
    *,
    simulator: str = "verilator",
    memory: MemoryModel | None = None,
    waves: bool = False,
    max_cycles: int | None = None,
    watchdog_cycles: int = WATCHDOG_LIMIT,
    output: tuple[int, int] | None = None,
    build_dir: Path = BUILD_DIR,
    progress: Callable[[str], None] = lambda text: None,
) -> SimulationResult:
    """Run the circuit in ``sources`` (module ``lutrip_top``) on a memory image.

    image: bytes of the external memory, or a file of them. program_address: byte address of the
    first instruction. expected: beats by tap; taps left out are counted but not compared.
    run_dir: gets logs, event log (``events.txt``) and waves. max_cycles: limit of the run.
    output: byte address and size (whole port words) of memory to return.
    progress: told what happens, in words.

    Raises ToolError when a tool is missing or fails, LutripError for a wrong image.
    """
    tool = find_simulator(simulator)
    data = image if isinstance(image, bytes) else image.read_bytes()
    run_dir = run_dir.resolve()
    words = prepare(run_dir, config, data, expected)
    registers = register_map(config)
    text = bench_text(sources, config, registers, words)
    progress(f"{tool.name} {tool.version}: building the circuit")
    started = time.perf_counter()
    folder = build([*library_sources(), *sources], text, tool, build_dir.resolve(), waves=waves)
    build_s = time.perf_counter() - started

    case: dict[str, Any] = {
        "registers": {register.name: (register.offset, register.bits) for register in registers},
        "identity": ["configuration"],
        "program": {"program": program_address, "watchdog_limit": watchdog_cycles},
        "read": ["status", "errors", *(item.name for item in counter_registers(config))],
    }
    (run_dir / "case.json").write_text(json.dumps(case))
    plusargs = run_plusargs(config, memory or MemoryModel(), words, max_cycles)
    if output is not None:
        plusargs += [f"+output_word={output[0] // config.port_bytes}",
                     f"+output_words={output[1] // config.port_bytes}"]
    progress("running")
    waves_file = run_dir / "waves.fst" if waves else None
    _run(tool, folder, run_dir, plusargs, waves_file)
    result = _result(tool, config, expected, run_dir, build_s, waves_file, output is not None)
    progress(f"{result.status} after {result.cycles} cycles")
    return result


def prepare(run_dir: Path, config: HardwareConfig, image: bytes, expected: ExpectedBeats) -> int:
    """Write the run's input files, remove the outputs of an earlier run; returns port words."""
    if not image:
        raise LutripError("the memory image is empty; compile again")
    run_dir.mkdir(parents=True, exist_ok=True)
    for name in (*OUTPUTS, "waves.fst"):
        (run_dir / name).unlink(missing_ok=True)
    words = -(-len(image) // config.port_bytes)
    padded = np.zeros((words, config.port_bytes), np.uint8)
    padded.reshape(-1)[: len(image)] = np.frombuffer(image, np.uint8)
    # $fread fills a word from its most significant byte.
    (run_dir / "image.bin").write_bytes(np.ascontiguousarray(padded[:, ::-1]).tobytes())
    write_expected(expected, run_dir, config)
    return words


def bench_text(
    sources: Sequence[Path], config: HardwareConfig, registers: Sequence[Register], words: int
) -> str:
    """Testbench for a circuit; its memory is a power of two so that builds can be shared."""
    depth = max(DEPTH_MIN, 1 << (words - 1).bit_length())
    return testbench(config, top_ports(sources), registers, depth)


def run_plusargs(
    config: HardwareConfig, memory: MemoryModel, words: int, max_cycles: int | None
) -> list[str]:
    """Arguments of the testbench."""
    limit = [] if max_cycles is None else [f"+max_cycles={max_cycles}"]
    return memory.plusargs(config, words) + limit


def _run(
    tool: Tool, folder: Path, run_dir: Path, plusargs: list[str], waves: Path | None
) -> None:
    log = run_dir / "simulate.log"
    arguments = [] if waves is None or tool.name == "icarus" else ["--trace-file", str(waves)]
    if waves is not None and tool.name == "icarus":
        plusargs = [*plusargs, "+waves"]
    try:
        get_runner(tool.name).test(
            hdl_toplevel=TOPLEVEL, hdl_toplevel_lang="verilog", test_module=BENCH,
            build_dir=folder, test_dir=run_dir, plusargs=plusargs, test_args=arguments,
            extra_env={"LUTRIP_CASE": str(run_dir / "case.json")}, timescale=TIMESCALE,
            waves=waves is not None, log_file=log, results_xml=str(run_dir / "results.xml"),
        )
    except (RuntimeError, SystemExit) as error:
        raise ToolError(f"{tool.name} failed ({error}); see {log}") from None
    if not (run_dir / "registers.json").is_file():
        raise ToolError(f"{tool.name} ended without a result; see {log}")


def _engines(mask: int) -> tuple[str, ...]:
    return tuple(engine.name.lower() for engine in Engine if mask >> engine & 1)


def _status(values: dict[str, int], expired: bool) -> str:
    flags = {name for name, bit in STATUS_BITS.items() if values["status"] >> bit & 1}
    if "hang" in flags:
        return "hang"
    if "error" in flags:
        return "error"
    return "max_cycles" if expired else "done"


def _result(
    tool: Tool, config: HardwareConfig, expected: ExpectedBeats, run_dir: Path, build_s: float,
    waves: Path | None, has_output: bool,
) -> SimulationResult:
    record = json.loads((run_dir / "registers.json").read_text())
    values: dict[str, int] = record["values"]
    if values["configuration"] != int(config.digest(), 16):
        raise LutripError(
            f"the circuit was generated for another configuration than {config.name} "
            f"(digest {values['configuration']:016x}, not {config.digest()}); generate it again"
        )
    taps, mismatches = read_checks(run_dir / "checks.txt", expected, config)
    status = _status(values, bool(record["expired"]))
    errors = [name for name, bit in ERROR_BITS.items() if values["errors"] >> bit & 1]
    if record["memory_fault"]:
        errors.append("memory")
    counters = {item.name: values[item.name] for item in counter_registers(config)}
    memory = None
    if has_output:
        lines = (run_dir / "output.txt").read_text().split()
        memory = b"".join(bytes.fromhex(line)[::-1] for line in lines)
    return SimulationResult(
        simulator=tool.name, simulator_version=tool.version, status=status, errors=tuple(errors),
        cycles=counters["cycles"], counters=counters,
        bit_exact=status == "done" and not errors and all(tap.exact for tap in taps),
        taps=tuple(taps), mismatches=tuple(mismatches),
        busy_engines=_engines(values["status"] >> STATUS_BUSY),
        waiting_engines=_engines(values["status"] >> STATUS_WAITING),
        wall_s=record["wall_s"], build_s=build_s, run_dir=run_dir, waves=waves, output=memory,
    )
