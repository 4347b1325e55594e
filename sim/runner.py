"""Runs programs of a memory image on the circuit and compares every write with golden's."""

from __future__ import annotations

import json
import os
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
from sim.activity import FILE as ACTIVITY_FILE
from sim.build import ACTIVITY, TIMESCALE, TOPLEVEL, WAVES, build
from sim.compare import ExpectedBeats, read_activity, read_checks, write_expected
from sim.counters import counter_registers
from sim.records import Job, MemoryModel, Patch, SimulationResult
from sim.testbench import library_sources, testbench, top_ports
from sim.toolchain import Tool, find_simulator
from sim.watch import Watcher

DEPTH_MIN = 1 << 18
BUILD_DIR = Path("build") / "sim"
BENCH = "sim.benches.accelerator"
IMAGE, RECORDS, PROGRESS = "image.bin", "records.jsonl", "progress.txt"
OLD_FILES = (RECORDS, PROGRESS, "checks_*.txt", "events_*.txt", "output_*.txt",
             "expected_*.bin", "patch_*.bin", "waves.fst", ACTIVITY_FILE)
COPY_BYTES = 1 << 24
"""Bytes of an image that are reversed at a time."""


def simulate(
    sources: Sequence[Path],
    config: HardwareConfig,
    image: bytes | Path,
    program_address: int,
    expected: ExpectedBeats,
    run_dir: Path,
    *,
    output: tuple[int, int] | None = None,
    **options: Any,
) -> SimulationResult:
    """Run one program; options as for `simulate_passes`.

    program_address, expected, output: see `Job`.
    """
    job = Job(program_address=program_address, expected=expected, output=output)
    return simulate_passes(sources, config, image, [job], run_dir, **options)[0]


def simulate_passes(
    sources: Sequence[Path],
    config: HardwareConfig,
    image: bytes | Path,
    jobs: Sequence[Job],
    run_dir: Path,
    *,
    simulator: str = "verilator",
    memory: MemoryModel | None = None,
    waves: bool = False,
    activity: bool = False,
    max_cycles: int | None = None,
    watchdog_cycles: int = WATCHDOG_LIMIT,
    build_dir: Path = BUILD_DIR,
    image_key: str | None = None,
    progress: Callable[[str], None] = lambda text: None,
    running: Callable[[int, int], None] = lambda run, cycle: None,
    finished: Callable[[int, SimulationResult], None] = lambda run, result: None,
) -> list[SimulationResult]:
    """Run programs one after the other in the circuit of ``sources`` (module ``lutrip_top``).

    They share one memory, which starts as ``image`` (bytes, or a file of them). The first program
    that is not bit-exact is the last one run. run_dir: gets logs, event logs and waves.
    activity: write changes of all nets to ``run_dir/activity.saif`` (Verilator; not with waves).
    max_cycles: limit of each program. image_key: names the image's content; a run folder that
    already holds it is not written again. progress: told what happens, in words. running,
    finished: told the cycle of a program now and then, and its result when it ends, from a thread.

    Raises ToolError when a tool is missing or fails, LutripError for a wrong image.
    """
    if activity and (waves or simulator != "verilator"):
        raise LutripError("--activity needs Verilator and goes without --waves; leave one out")
    tool = find_simulator(simulator)
    run_dir = run_dir.resolve()
    words = prepare(run_dir, config, image, jobs, image_key)
    registers = register_map(config)
    text = bench_text(sources, config, registers, words)
    progress(f"{tool.name} {tool.version}: building the circuit")
    started = time.perf_counter()
    trace = WAVES if waves else ACTIVITY if activity else None
    folder = build([*library_sources(), *sources], text, tool, build_dir.resolve(), trace=trace)
    build_s = time.perf_counter() - started

    case: dict[str, Any] = {
        "registers": {register.name: (register.offset, register.bits) for register in registers},
        "identity": ["configuration"],
        "read": ["status", "errors", *(item.name for item in counter_registers(config))],
        "done_bit": STATUS_BITS["done"], "records": RECORDS, "host": os.getpid(),
        "runs": [{
            "program": {"program": job.program_address, "watchdog_limit": watchdog_cycles},
            "output": [part // config.port_bytes for part in job.output or (0, 0)],
            "expected": {tap: len(beats.address) for tap, beats in job.expected.items()},
        } for job in jobs],
    }
    (run_dir / "case.json").write_text(json.dumps(case))
    waves_file = run_dir / "waves.fst" if waves else None
    trace_file = run_dir / ACTIVITY_FILE if activity else waves_file
    results: list[SimulationResult] = []

    def take(record: dict[str, Any]) -> None:
        run = record["run"]
        results.append(_result(tool, config, jobs[run], record, run_dir, build_s, waves_file))
        if results[-1].bit_exact:
            # The inputs of a long run add up.
            for path in (*run_dir.glob(f"expected_*_{run}.bin"), run_dir / f"patch_{run}.bin"):
                path.unlink(missing_ok=True)
        finished(run, results[-1])

    progress("running")
    with Watcher(run_dir / RECORDS, run_dir / PROGRESS, take, running) as watcher:
        _run(tool, folder, run_dir, run_plusargs(config, memory or MemoryModel(), words,
                                                 max_cycles), trace_file)
    watcher.check()
    if not results:
        raise ToolError(f"{tool.name} ended without a result; see {run_dir / 'simulate.log'}")
    if results[-1].bit_exact and len(results) < len(jobs):
        raise ToolError(f"{tool.name} ended after {len(results)} of {len(jobs)} programs; "
                        f"see {run_dir / 'simulate.log'}")
    progress(f"{results[-1].status} after {sum(result.cycles for result in results)} cycles")
    return results


def prepare(
    run_dir: Path, config: HardwareConfig, image: bytes | Path, jobs: Sequence[Job],
    image_key: str | None = None,
) -> int:
    """Write the run's input files, remove the outputs of an earlier run; returns port words."""
    run_dir.mkdir(parents=True, exist_ok=True)
    for pattern in OLD_FILES:
        for path in run_dir.glob(pattern):
            path.unlink()
    words = _write_image(run_dir, config, image, image_key)
    for run, job in enumerate(jobs):
        write_expected(job.expected, run_dir, config, run)
        if job.patch is not None:
            (run_dir / f"patch_{run}.bin").write_bytes(_patch_bytes(job.patch))
    return words


def _write_image(
    run_dir: Path, config: HardwareConfig, image: bytes | Path, image_key: str | None
) -> int:
    """Write the words as $fread takes them: most significant byte first."""
    size = len(image) if isinstance(image, bytes) else image.stat().st_size
    if not size:
        raise LutripError("the memory image is empty; compile again")
    words = -(-size // config.port_bytes)
    key, path = run_dir / "image.key", run_dir / IMAGE
    wanted = f"{image_key} {words}"
    if image_key and path.is_file() and key.is_file() and key.read_text() == wanted:
        return words
    key.unlink(missing_ok=True)
    source = (np.frombuffer(image, np.uint8) if isinstance(image, bytes)
              else np.memmap(image, np.uint8, "r"))
    with path.open("wb") as file:
        for start in range(0, size, COPY_BYTES):
            part = source[start:start + COPY_BYTES]
            padded = np.zeros(-(-len(part) // config.port_bytes) * config.port_bytes, np.uint8)
            padded[:len(part)] = part
            file.write(padded.reshape(-1, config.port_bytes)[:, ::-1].tobytes())
    if image_key:
        key.write_text(wanted)
    return words


def _patch_bytes(patch: Patch) -> bytes:
    address = patch.words.astype(">u4").view(np.uint8).reshape(-1, 4)
    return np.concatenate([address, patch.data[:, ::-1]], axis=1).tobytes()


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
    tool: Tool, folder: Path, run_dir: Path, plusargs: list[str], trace: Path | None
) -> None:
    log = run_dir / "simulate.log"
    arguments = [] if trace is None or tool.name == "icarus" else ["--trace-file", str(trace)]
    if trace is not None and tool.name == "icarus":
        plusargs = [*plusargs, "+waves"]
    try:
        get_runner(tool.name).test(
            hdl_toplevel=TOPLEVEL, hdl_toplevel_lang="verilog", test_module=BENCH,
            build_dir=folder, test_dir=run_dir, plusargs=plusargs, test_args=arguments,
            extra_env={"LUTRIP_CASE": str(run_dir / "case.json")}, timescale=TIMESCALE,
            waves=trace is not None, log_file=log, results_xml=str(run_dir / "results.xml"),
        )
    except (RuntimeError, SystemExit) as error:
        raise ToolError(f"{tool.name} failed ({error}); see {log}") from None


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
    tool: Tool, config: HardwareConfig, job: Job, record: dict[str, Any], run_dir: Path,
    build_s: float, waves: Path | None,
) -> SimulationResult:
    values: dict[str, int] = record["values"]
    run = record["run"]
    if values["configuration"] != int(config.digest(), 16):
        raise LutripError(
            f"the circuit was generated for another configuration than {config.name} "
            f"(digest {values['configuration']:016x}, not {config.digest()}); generate it again"
        )
    checks = run_dir / f"checks_{run}.txt"
    taps, mismatches = read_checks(checks, job.expected, config)
    status = _status(values, bool(record["expired"]))
    errors = [name for name, bit in ERROR_BITS.items() if values["errors"] >> bit & 1]
    if record["memory_fault"]:
        errors.append("memory")
    counters = {item.name: values[item.name] for item in counter_registers(config)}
    memory = None
    if job.output is not None:
        lines = (run_dir / f"output_{run}.txt").read_text().split()
        memory = b"".join(bytes.fromhex(line)[::-1] for line in lines)
    return SimulationResult(
        simulator=tool.name, simulator_version=tool.version, status=status, errors=tuple(errors),
        cycles=counters["cycles"], counters=counters, activity=read_activity(checks),
        bit_exact=status == "done" and not errors and all(tap.exact for tap in taps),
        taps=tuple(taps), mismatches=tuple(mismatches),
        busy_engines=_engines(values["status"] >> STATUS_BUSY),
        waiting_engines=_engines(values["status"] >> STATUS_WAITING),
        wall_s=record["wall_s"], build_s=build_s, run_dir=run_dir,
        events=run_dir / f"events_{run}.txt", waves=waves, output=memory,
    )
