"""Simulate a build: golden first, then the circuit on the same image, compared beat by beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.build import Build, load_build
from compiler.image.program import decode_program
from hw.config import HardwareConfig
from hw.isa import ENGINE_OF, Engine
from hw.resources import Resources, load_device, total
from sim.circuit import BUILD_DIR, circuit
from sim.counters import engine_times, lookups, port_bytes, products, weight_bytes
from sim.energy import Energy, energy
from sim.energy_table import load_energy
from sim.functional import run_image
from sim.locate import locate
from sim.records import MemoryModel, SimulationResult
from sim.runner import simulate
from sim.timeline import BUSY, Span, read_events, spans, write_chrome_trace


@dataclass(frozen=True, kw_only=True)
class Execution:
    """A simulated build: the values of its result and when each instruction ran."""

    values: dict[str, Any]
    spans: list[dict[str, Any]]
    simulation: SimulationResult


def _program(build: Build) -> list[Engine]:
    data = build.image.data[build.image.program_address:]
    return [ENGINE_OF[opcode] for opcode, _ in decode_program(data)]


def _names(build: Build) -> dict[Engine, list[str]]:
    """Operation of each engine's instructions, in order."""
    names: dict[Engine, list[str]] = {engine: [] for engine in Engine}
    for engine, op in zip(_program(build), build.instruction_ops, strict=True):
        names[engine].append(op)
    return names


def _roofline(build: Build, result: SimulationResult) -> dict[str, Any]:
    """Multiply-adds of the layers against the hardware's peak and the weight ports."""
    config = build.hardware
    weights = weight_count(build)
    operations = weights * len(build.metadata["tokens"])
    moved = max(1, weight_bytes(result.counters, config))
    cycles = max(1, result.cycles)
    peaks = []
    if result.counters["lut_steps"]:
        peaks.append(config.positions * config.lanes * config.vector_length)
    for mode, tokens in (("w4a4", 2), ("w4a8", 1), ("w8a8", 1)):
        if result.counters[f"simd_steps_{mode}"]:
            peaks.append(config.simd_depth * config.lanes * tokens)
    return {
        "operations": operations, "bytes": moved,
        "operations_per_byte": operations / moved,
        "operations_per_cycle": operations / cycles,
        "peak_operations_per_cycle": max(peaks, default=0),
        "bytes_per_cycle": config.weight_ports * config.port_bytes,
    }


def weight_count(build: Build) -> int:
    """Weights of all linear layers of a build."""
    shapes = [linear["shape"] for linear in build.metadata["linears"].values()]
    return sum(rows * columns for rows, columns in shapes)


def _ports(result: SimulationResult, config: HardwareConfig, memory: MemoryModel) -> list[Any]:
    limit = min(memory.bytes_per_cycle or config.port_bytes, config.port_bytes)
    return [
        {"port": port, "words": moved // config.port_bytes, "bytes": moved,
         "bytes_per_cycle": moved / max(1, result.cycles), "limit_bytes_per_cycle": limit}
        for port, moved in port_bytes(result.counters, config).items()
    ]


def _energy(joules: Energy, provenance: str) -> dict[str, Any]:
    return {
        "table": joules.table, "power_w": joules.total.value / joules.seconds,
        "low_j": joules.total.lower, "high_j": joules.total.upper,
        "causes": [
            {"cause": f"{item.group}: {item.cause}", "joules": item.joules.value,
             "low_joules": item.joules.lower, "high_joules": item.joules.upper,
             "provenance": provenance}
            for item in joules.items
        ],
    }


def execute(
    path: Path, *, simulator: str = "verilator", waves: bool = False,
    max_cycles: int | None = None, memory: MemoryModel | None = None,
    build_dir: Path = BUILD_DIR, progress: Callable[[str], None] = lambda text: None,
) -> Execution:
    """Simulate the build folder ``path`` and return everything a report needs.

    The circuit's every write is compared with golden's. Files of the run (log, waves, Chrome
    trace) go to ``path``. Raises LutripError for a wrong build, ToolError for a failing tool.
    """
    memory = memory or MemoryModel()
    build = load_build(path)
    config = build.hardware
    progress("golden")
    image = build.image.data
    expected = run_image(image, config, build.image.program_address).beats
    result = simulate(
        circuit(config, build_dir, progress), config, image, build.image.program_address,
        expected, path / "simulation", simulator=simulator, memory=memory, waves=waves,
        max_cycles=max_cycles, build_dir=build_dir / "sim", progress=progress,
    )
    device = load_device(config.device)
    resources = total(config)
    joules = energy(result.counters, config, resources,
                    load_energy(device.energy, config.device))
    found = spans(read_events(result.run_dir / "events.txt"), result.cycles)
    names = _names(build)
    write_chrome_trace(path / "trace.json", found, config.clock_mhz, names)
    values = _values(path, build, result, joules, device.counts(resources), memory)
    values |= {"device": device.name, "fits": device.fits(resources)}
    return Execution(values=values, spans=_spans(found, names), simulation=result)


def _spans(found: list[Span], names: dict[Engine, list[str]]) -> list[dict[str, Any]]:
    return [
        {"engine": span.engine.name.lower(), "name": names[span.engine][span.order],
         "start_cycle": span.start, "end_cycle": span.end}
        for span in found if span.state == BUSY and span.order < len(names[span.engine])
    ]


def _values(
    path: Path, build: Build, result: SimulationResult, joules: Energy, resources: Resources,
    memory: MemoryModel,
) -> dict[str, Any]:
    meta, config = build.metadata, build.hardware
    tokens, seconds = len(meta["tokens"]), joules.seconds
    wall_s = max(result.wall_s, 1e-9)
    looked_up, multiplied = (f(result.counters, config) for f in (lookups, products))
    weights = weight_count(build)
    first = result.first_mismatch
    counted = port_bytes(result.counters, config)
    return {
        "title": f"{meta['architecture']}, {meta['scheme']} on {config.name}",
        "model": meta["model"], "scheme": meta["scheme"], "hardware": meta["hardware"],
        "configuration_hash": config.digest(),
        "layers": "{}:{}".format(*meta["layers"]), "parts": meta["parts"], "tokens": tokens,
        "instructions": len(meta["instructions"]),
        "simulated": True,
        "simulator": f"{result.simulator} {result.simulator_version}",
        "status": result.status, "errors": list(result.errors),
        "bit_exact": result.bit_exact,
        "first_mismatch": None if first is None else locate(first, build),
        "beats": {tap.tap: tap.beats for tap in result.taps},
        "cycles": result.cycles, "clock_mhz": config.clock_mhz, "latency_s": seconds,
        "tokens_per_s": tokens / seconds, "energy_j": joules.total.value,
        "tokens_per_j": tokens / joules.total.value,
        "energy": _energy(joules, f"simulated counters x table {joules.table}"),
        "engines": [
            {"engine": engine, "busy_cycles": time.busy_cycles,
             "waiting_cycles": time.waiting_cycles, "idle_cycles": time.idle_cycles}
            for engine, time in engine_times(result.counters).items()
        ],
        "ports": _ports(result, config, memory),
        "counters": dict(result.counters),
        "memory": {
            "latency_cycles": memory.latency_cycles,
            "bytes_per_cycle": memory.bytes_per_cycle or config.port_bytes,
            "outstanding": memory.outstanding,
        },
        "accuracy": [{"tensor": tensor, "relative_error": error}
                     for tensor, error in meta["relative_error"].items()],
        "roofline": _roofline(build, result),
        **resources.rounded(),
        "resources": resources.rounded(),
        "bits_per_weight": {
            "weights": weight_bytes(result.counters, config) * 8 / weights,
            "centroids": counted["centroid"] * 8 / weights,
        },
        "lookups": looked_up, "products": multiplied,
        "wall_s": result.wall_s, "cycles_per_wall_s": result.cycles / wall_s,
        "lookups_per_wall_s": looked_up / wall_s, "products_per_wall_s": multiplied / wall_s,
        "circuit_build_s": result.build_s,
        "memory_map": [
            {"section": name, "address": section.address, "bytes": section.size}
            for name, section in build.image.sections.items()
        ],
        "folder": path.name,
    }
