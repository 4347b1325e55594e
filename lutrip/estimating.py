"""`lutrip estimate`: a whole model by the fast model, with what it was measured against."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources
from pathlib import Path
from typing import Any

from compiler.frontends.load import load_model
from compiler.frontends.shapes import PREFIX, SHAPES
from compiler.model import Architecture, Model
from compiler.quant.scheme import SchemeMap, SimdScheme, load_scheme
from compiler.quant.simd import runs_native, weight_group
from compiler.structure import structural_decoder
from hw.config import HardwareConfig
from hw.errors import LutripError
from hw.presets import load_hardware
from sim.costs import Costs
from sim.counters import weight_bytes
from sim.estimate.model import Estimate, PhaseEstimate, estimate
from sim.estimate.roofline import ceilings
from sim.memory_presets import default_memory, load_memory

ERROR_FILE = Path(str(resources.files("sim"))).parent / "docs" / "measured" / "cycle-model.json"


def measured_error() -> dict[str, Any] | None:
    """The model's error against RTL as last measured, None where the file is not installed."""
    if not ERROR_FILE.is_file():
        return None
    found = json.loads(ERROR_FILE.read_text())
    return {key: found[key] for key in (
        "command", "runs", "mean_absolute_error", "worst_absolute_error")}


def own_groups(model: Model, scheme: SchemeMap) -> SchemeMap:
    """The scheme with the weight groups of a file's own integers where these run as they are."""
    layers = dict(scheme.layers)
    for index in range(model.architecture.layers):
        for name in model.architecture.linears:
            part = scheme.of(name, index)
            if not isinstance(part, SimdScheme) or not part.native_blocks:
                continue
            blocks = model.blocks(f"layers.{index}.{name}.weight")
            if blocks is not None and runs_native(blocks, part):
                layers[f"{index}.{name}"] = dataclasses.replace(
                    part, group=weight_group(blocks, part), native_blocks=False,
                    asymmetric=blocks.minima is not None)
    return dataclasses.replace(scheme, layers=layers)


def architecture_of(name: str, scheme: SchemeMap) -> tuple[Architecture, SchemeMap]:
    """Architecture of a model and the scheme as the model's file has it run."""
    if (shape := name.removeprefix(PREFIX)) != name and shape in SHAPES:
        return SHAPES[shape], scheme
    model = load_model(name)
    return model.architecture, own_groups(model, scheme)


def phase_values(
    found: PhaseEstimate, config: HardwareConfig, costs: Costs, macs: float
) -> dict[str, Any]:
    """Values of prefill or decode; macs: multiply-adds of the linears of a token."""
    seconds = found.cycles / (config.clock_mhz * 1e6)
    joules = costs.energy({name: round(value) for name, value in found.counters.items()})
    counters = {name: round(value) for name, value in found.counters.items()}
    return {
        "simulated": False, "passes": found.passes, "tokens": found.tokens,
        "cycles": round(found.cycles), "latency_s": seconds,
        "tokens_per_s": found.tokens / seconds, "energy_j": joules.total.value,
        "energy_low_j": joules.total.lower, "energy_high_j": joules.total.upper,
        "tokens_per_j": found.tokens / joules.total.value, "counters": counters,
        "operations": [{
            "name": one.name, "engine": one.engine, "instructions": round(one.instructions),
            "busy_cycles": round(one.busy_cycles), "missing_cycles": round(one.missing_cycles),
            "bound": one.bound} for one in found.operations],
        "critical_path": [{"name": name, "cycles": round(spent)}
                          for name, spent in found.path.items()],
        "roofline": {
            "operations": 2 * macs * found.tokens, "bytes": weight_bytes(counters, config),
            "operations_per_cycle": 2 * macs * found.tokens / found.cycles,
            **ceilings(counters, config)},
        "contexts": [{"position": position, "cycles": cycles}
                     for position, cycles in found.contexts],
    }


def estimate_values(
    model: str, scheme: str, hardware: str, prefill: int, decode: int, memory: str | None = None
) -> dict[str, Any]:
    """What ``lutrip estimate`` prints; raises LutripError in one line for wrong inputs."""
    if prefill < 1 or decode < 0:
        raise LutripError(f"--prefill must be 1 or more and --decode not negative, not {prefill} "
                          f"and {decode}")
    config, chosen = load_hardware(hardware), load_scheme(scheme)
    preset = default_memory(config) if memory is None else load_memory(memory)
    architecture, chosen = architecture_of(model, chosen)
    decoder = structural_decoder(architecture, chosen, config, prefill + decode)
    found: Estimate = estimate(decoder, preset.at(config), prefill, decode)
    costs = Costs(config)
    macs = float(sum(columns * inputs for columns, inputs in (
        architecture.linear_shape(name) for name in architecture.linears)) * architecture.layers)
    phases = {"prefill": phase_values(found.prefill, config, costs, macs)}
    if found.decode is not None:
        phases["decode"] = phase_values(found.decode, config, costs, macs)
    total = sum(values["cycles"] for values in phases.values())
    return {
        "model": model, "scheme": scheme, "hardware": config.name, "simulated": False,
        "clock_mhz": config.clock_mhz, "memory": {
            "preset": preset.name, "sources": preset.sources,
            **dataclasses.asdict(preset.at(config))},
        "prefill_tokens": prefill, "decode_tokens": decode, "cycles": total,
        "latency_s": total / (config.clock_mhz * 1e6),
        "energy_j": sum(values["energy_j"] for values in phases.values()),
        "measured_error": measured_error(), **phases,
    }
