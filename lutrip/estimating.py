"""`lutrip estimate`: a whole model by the fast model, with what it was measured against."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from compiler.lower.cache import positions_max
from compiler.model import Architecture
from compiler.own_blocks import as_stored, named_model
from compiler.quant.scheme import load_scheme
from compiler.structure import structural_decoder
from hw.config import HardwareConfig
from hw.errors import LutripError
from hw.presets import load_hardware
from hw.resources import load_device
from hw.resources import total as resources_of
from sim.costs import Costs
from sim.counters import total as added
from sim.counters import weight_bytes
from sim.estimate.model import Estimate, PhaseEstimate, estimate
from sim.estimate.roofline import ceilings
from sim.memory_presets import MemoryPreset, default_memory, load_memory
from sim.values import energy_values

ERROR_FILE = Path(str(resources.files("sim"))).parent / "docs" / "measured" / "cycle-model.json"


def measured_error() -> dict[str, Any] | None:
    """The model's error against RTL as last measured, None where the file is not installed."""
    if not ERROR_FILE.is_file():
        return None
    found = json.loads(ERROR_FILE.read_text())
    return {key: found[key] for key in (
        "command", "runs", "mean_absolute_error", "worst_absolute_error")}


def operation_count(architecture: Architecture, first: int, tokens: int, given: int) -> int:
    """Operations of a phase, a multiply-add as two.

    Those of all linears, of the attention's scores and mixes over the positions that each token
    sees, and of the output head. first: position of its first token; given: tokens that it gives.
    """
    linears = sum(columns * inputs for columns, inputs in map(
        architecture.linear_shape, architecture.linears))
    seen = np.arange(first + 1, first + tokens + 1)
    if architecture.window:
        seen = np.minimum(seen, architecture.window)
    attention = 2 * architecture.heads * architecture.head_width * int(seen.sum())
    head = given * architecture.vocabulary * architecture.width
    return 2 * (architecture.layers * (tokens * linears + attention) + head)


def modelled_energy(costs: Costs, counters: Mapping[str, int]) -> dict[str, Any]:
    """Energy of modelled counters by cause, with its ranges."""
    return energy_values(costs.energy(counters), costs.likely(counters), counted="modelled")


def memory_values(preset: MemoryPreset, config: HardwareConfig) -> dict[str, Any]:
    """The memory, and what the ports ask of it together beside what its device gives."""
    return {
        "preset": preset.name, "sources": preset.sources,
        "ports_gb_per_s": preset.ports_gb_per_s(config),
        "device_gb_per_s": preset.device_gb_per_s(), **dataclasses.asdict(preset.at(config))}


def check_positions(config: HardwareConfig, prefill: int, decode: int) -> None:
    """Raise LutripError for a context that is too long, before anything is worked out."""
    if prefill < 1 or decode < 0:
        raise LutripError(f"--prefill must be 1 or more and --decode not negative, not {prefill} "
                          f"and {decode}")
    if prefill + decode > (most := positions_max(config)):
        raise LutripError(
            f"--prefill {prefill} and --decode {decode} are {prefill + decode} positions, an "
            f"attention instruction of hardware {config.name} goes through {most} at most; use "
            "a shorter context")


def phase_values(
    found: PhaseEstimate, config: HardwareConfig, costs: Costs, operations: int
) -> dict[str, Any]:
    """Values of prefill or decode; operations: of `operation_count`."""
    seconds = found.cycles / (config.clock_mhz * 1e6)
    counters = {name: round(value) for name, value in found.counters.items()}
    joules = costs.energy(counters)
    return {
        "simulated": False, "passes": found.passes, "tokens": found.tokens,
        "cycles": round(found.cycles), "latency_s": seconds,
        "tokens_per_s": found.tokens / seconds, "energy_j": joules.total.value,
        "energy": modelled_energy(costs, counters),
        "tokens_per_j": found.tokens / joules.total.value, "counters": counters,
        "operations": [{
            "name": one.name, "engine": one.engine, "instructions": round(one.instructions),
            "busy_cycles": round(one.busy_cycles), "missing_cycles": round(one.missing_cycles),
            "bound": one.bound} for one in found.operations],
        "critical_path": [{"name": name, "cycles": round(spent)}
                          for name, spent in found.path.items()],
        "roofline": {
            "operations": operations, "bytes": weight_bytes(counters, config),
            "operations_per_cycle": operations / found.cycles,
            **ceilings(counters, config)},
        "contexts": [{"position": position, "cycles": cycles}
                     for position, cycles in found.contexts],
    }


def estimate_values(
    model: str, scheme: str, hardware: str, prefill: int, decode: int, memory: str | None = None
) -> dict[str, Any]:
    """What ``lutrip estimate`` prints; raises LutripError in one line for wrong inputs."""
    config, chosen = load_hardware(hardware), load_scheme(scheme)
    check_positions(config, prefill, decode)
    preset = default_memory(config) if memory is None else load_memory(memory)
    architecture, chosen = as_stored(named_model(model), chosen)
    if prefill + decode > architecture.context:
        raise LutripError(f"--prefill {prefill} and --decode {decode} are {prefill + decode} "
                          f"positions, {architecture.name} was made for {architecture.context}; "
                          "use a shorter context")
    decoder = structural_decoder(architecture, chosen, config, prefill + decode)
    found: Estimate = estimate(decoder, preset.at(config), prefill, decode)
    costs = Costs(config)
    phases = {"prefill": phase_values(
        found.prefill, config, costs, operation_count(architecture, 0, prefill, 1))}
    if found.decode is not None:
        phases["decode"] = phase_values(
            found.decode, config, costs, operation_count(architecture, prefill, decode, decode))
    counters = added(values["counters"] for values in phases.values())
    total = sum(values["cycles"] for values in phases.values())
    return {
        "model": model, "scheme": scheme, "hardware": config.name, "simulated": False,
        "clock_mhz": config.clock_mhz,
        "verdict": load_device(config.device).verdict(resources_of(config)),
        "memory": memory_values(preset, config),
        "prefill_tokens": prefill, "decode_tokens": decode, "cycles": total,
        "latency_s": total / (config.clock_mhz * 1e6),
        "energy_j": sum(values["energy_j"] for values in phases.values()),
        "energy": modelled_energy(costs, counters),
        "measured_error": measured_error(), **phases,
    }
