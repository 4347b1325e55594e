"""Simulate a build: golden first, then the circuit on the same image, compared beat by beat."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.build import METADATA_FILE, Build, load_build
from compiler.image.program import decode_program, steps
from hw.errors import LutripError
from sim.activity import FILE as ACTIVITY_FILE
from sim.activity import read_changes, toggle_rates
from sim.circuit import BUILD_DIR, circuit
from sim.costs import Costs
from sim.counters import lookups, port_bytes, products, weight_bytes
from sim.decoder_build import KIND, execute_decoder
from sim.energy_operations import operation_energy
from sim.functional import run_image
from sim.locate import locate
from sim.passes import PassProgress
from sim.records import MemoryModel, SimulationResult
from sim.runner import simulate
from sim.timeline import read_events, spans, write_chrome_trace
from sim.values import (
    energy_values,
    engine_names,
    engine_values,
    memory_values,
    overlap_values,
    port_values,
    roofline_values,
    span_values,
)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """A simulated build: the values of its result and when each instruction ran."""

    values: dict[str, Any]
    spans: list[dict[str, Any]]


def weight_count(build: Build) -> int:
    """Weights of all linear layers of a build."""
    shapes = [linear["shape"] for linear in build.metadata["linears"].values()]
    return sum(rows * columns for rows, columns in shapes)


def is_decoder(path: Path) -> bool:
    """Whether the build folder holds a whole decoder."""
    try:
        metadata = json.loads((path / METADATA_FILE).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(metadata, dict) and metadata.get("kind") == KIND


def execute(
    path: Path, *, simulator: str = "verilator", waves: bool = False, activity: bool = False,
    max_cycles: int | None = None, memory: MemoryModel | None = None,
    build_dir: Path = BUILD_DIR, resume: bool = True,
    sample_layers: Sequence[int] | None = None,
    progress: Callable[[str], None] = lambda text: None,
    passes: Callable[[PassProgress], None] = lambda report: None,
) -> Execution:
    """Simulate the build folder ``path`` and return everything a report needs.

    The circuit's every write is compared with golden's. Files of the run (log, waves, Chrome
    trace) go to ``path``. resume, sample_layers, passes: see `sim.decoder_build.execute_decoder`;
    a build of a block is one program and is run anew. activity: count the changes of all nets and
    use them for the energy (`sim.activity`). progress: told what happens, in words.
    Raises LutripError for a wrong build, ToolError for a failing tool.
    """
    memory = memory or MemoryModel()
    if is_decoder(path):
        values, found = execute_decoder(
            path, simulator=simulator, waves=waves, activity=activity, max_cycles=max_cycles,
            memory=memory, build_dir=build_dir, resume=resume, sample_layers=sample_layers,
            progress=progress, passes=passes)
        return Execution(values=values, spans=found)
    if sample_layers is not None:
        raise LutripError("--sample-layers needs a build of a whole model; "
                          "compile it without --layers, with --split-layers")
    return _execute_block(path, simulator, waves, activity, max_cycles, memory, build_dir, progress)


def _execute_block(
    path: Path, simulator: str, waves: bool, activity: bool, max_cycles: int | None,
    memory: MemoryModel, build_dir: Path, progress: Callable[[str], None],
) -> Execution:
    build = load_build(path)
    config = build.hardware
    progress("golden")
    image = build.image.data
    expected = run_image(image, config, build.image.program_address).beats
    result = simulate(
        circuit(config, build_dir, progress), config, image, build.image.program_address,
        expected, path / "simulation", simulator=simulator, memory=memory, waves=waves,
        activity=activity, max_cycles=max_cycles, build_dir=build_dir / "sim", progress=progress,
    )
    found = spans(read_events(result.events), result.cycles)
    expanded = list(steps(decode_program(image[build.image.program_address:])))
    names = engine_names(expanded, build.instruction_ops)
    write_chrome_trace(path / "trace.json", found, config.clock_mhz, names)
    busy = span_values(found, names)
    toggles = (toggle_rates(read_changes(result.run_dir / ACTIVITY_FILE), result.counters)
               if activity else None)
    values = _values(path, build, result, Costs(config, toggles), busy, memory)
    first = result.first_mismatch
    values["first_mismatch"] = None if first is None else locate(
        first, expanded, build.instruction_ops, config)
    return Execution(values=values, spans=busy)


def _values(
    path: Path, build: Build, result: SimulationResult, costs: Costs,
    busy: Sequence[dict[str, Any]], memory: MemoryModel,
) -> dict[str, Any]:
    meta, config = build.metadata, build.hardware
    joules = costs.energy(result.counters)
    counts = costs.resources.rounded()
    tokens, seconds = len(meta["tokens"]), joules.seconds
    wall_s = max(result.wall_s, 1e-9)
    looked_up, multiplied = (f(result.counters, config) for f in (lookups, products))
    weights = weight_count(build)
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
        "beats": {tap.tap: tap.beats for tap in result.taps},
        "cycles": result.cycles, "clock_mhz": config.clock_mhz, "latency_s": seconds,
        "tokens_per_s": tokens / seconds, "energy_j": joules.total.value,
        "tokens_per_j": tokens / joules.total.value,
        "energy": {**energy_values(joules, costs.likely(result.counters), costs.toggles),
                   "operations": operation_energy(joules, busy)},
        "engines": engine_values(result.counters),
        "ports": port_values(result.counters, config, memory),
        "overlap": overlap_values(result.activity, result.counters),
        "counters": dict(result.counters),
        "memory": memory_values(memory, config),
        "accuracy": [{"tensor": tensor, "relative_error": error}
                     for tensor, error in meta["relative_error"].items()],
        "roofline": roofline_values(weights * tokens, result.counters, config),
        **counts, "resources": counts,
        "device": costs.device.name, "fits": costs.device.fits(costs.resources),
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
