"""A design of the front in detail: files, commands, breakdown, neighbours."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from compiler.image.image import write_atomically
from compiler.quant.scheme import Scheme, SchemeMap, load_scheme
from hw.presets import names
from reports.explore.accuracy import Sensitivities
from reports.explore.evaluate import Outcome, costs_of, estimate_workload
from reports.explore.precision import Precision
from reports.explore.space import (
    Design,
    Point,
    design_of,
    options_values,
    part_values,
    values_of,
)
from reports.explore.study import Study
from sim.costs import Costs
from sim.estimate.model import PhaseEstimate
from sim.memory_presets import MemoryPreset, load_memory

PATH_ROWS = 12
"""Operations of a critical path that are listed."""


def design_folder(out: Path, number: int) -> Path:
    """Where the files of a design of a study's result are."""
    return out / "designs" / f"design-{number}"


def write_design(design: Design, folder: Path) -> dict[str, str]:
    """YAML files of hardware and scheme; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    hardware = {field: getattr(design.hardware, field)
                for field in design.hardware.__dataclass_fields__}
    hardware["name"] = folder.name if folder.name != hardware["name"] else hardware["name"]
    paths = {"hardware": folder / "hardware.yaml", "scheme": folder / "scheme.yaml"}
    _write(paths["hardware"], hardware)
    scheme = design.scheme
    if not scheme.layers and scheme.token_rule is None:
        _write(paths["scheme"], part_values(scheme.default) | options_values(scheme))
    else:
        _write(paths["scheme"], {
            "kind": "mix", "default": _part_file(scheme.default, folder, "default"),
            "layers": {key: _part_file(part, folder, key) for key, part in scheme.layers.items()},
            **options_values(scheme), **_rule(scheme)})
    files = {name: str(path) for name, path in paths.items()}
    return files | {"memory": _memory_file(design.memory, folder)}


def _memory_file(memory: MemoryPreset, folder: Path) -> str:
    """Name of a shipped memory, or a file of its own."""
    if memory.name in names("memory") and load_memory(memory.name) == memory:
        return memory.name
    path = folder / "memory.yaml"
    values = dataclasses.asdict(memory)
    del values["name"]
    _write(path, values)
    return str(path)


def _rule(scheme: SchemeMap) -> dict[str, Any]:
    """The token rule as a scheme file has it."""
    if scheme.token_rule is None:
        return {}
    return {"token_rule": dataclasses.asdict(scheme.token_rule)}


def _part_file(part: Scheme, folder: Path, place: str) -> str:
    """Name of a shipped scheme, or a file of its own, called after where in the mix it is."""
    if part.name in names("schemes") and load_scheme(part.name).default == part:
        return part.name
    path = folder / f"part-{place}.yaml"
    _write(path, part_values(part))
    return str(path)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    write_atomically(path, yaml.safe_dump(dict(value), sort_keys=False).encode())


def scheme_values(design: Design) -> dict[str, Any]:
    """What a page shows of a scheme."""
    scheme = design.scheme
    parts = {"default": scheme.default, **scheme.layers}
    return {key: {"name": part.name, **part_values(part)} for key, part in parts.items()
            } | options_values(scheme)


def phase_values(
    name: str, phase: PhaseEstimate, workload: str, design: Design, costs: Costs
) -> dict[str, Any]:
    """Prefill or decode of a workload."""
    bounds = {operation.name: operation.bound for operation in phase.operations}
    counters = {key: round(value) for key, value in phase.counters.items()}
    energy = costs.energy(counters)
    likely, _ = costs.likely(counters)
    rows = [{"name": key, "bound": bounds.get(key, key), "cycles": cycles}
            for key, cycles in phase.path.items()]
    return {
        "workload": workload, "phase": name, "cycles": round(phase.cycles),
        "latency_s": phase.cycles / (design.hardware.clock_mhz * 1e6), "tokens": phase.tokens,
        "passes": phase.passes, "energy_j": energy.total.value,
        "energy_lower_j": likely.lower, "energy_upper_j": likely.upper,
        "path": rows[:PATH_ROWS] + _rest(rows[PATH_ROWS:]),
        "energy_causes": [{"cause": f"{item.group}: {item.cause}", "joules": item.joules.value}
                          for item in energy.items if item.joules.value > 0]}


def _rest(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not rows:
        return []
    return [{"name": f"{len(rows)} others", "bound": "", "cycles": sum(
        row["cycles"] for row in rows)}]


def design_values(
    number: int, point: Point, outcome: Outcome, study: Study, out: Path,
    known: Sensitivities | None,
) -> dict[str, Any]:
    """Everything that a page shows of a design; writes its files. known: losses of schemes."""
    design = design_of(point, study)
    costs = costs_of(design)
    device, counts = costs.device, costs.resources.rounded()
    shares = device.shares(costs.resources)
    files = write_design(design, design_folder(out, number))
    phases = []
    for workload in study.workloads:
        found = estimate_workload(design, study.named.model(study.model), workload)
        assert found.decode is not None
        for name, phase in (("prefill", found.prefill), ("decode", found.decode)):
            phases.append(phase_values(name, phase, workload.name, design, costs))
    accuracy = None
    if known is not None:
        loss = known.loss(design.scheme, Precision.of(design.scheme, design.hardware))
        accuracy = {"perplexity_ratio": outcome.metrics["perplexity_ratio"],
                    "loss_nats": loss.nats, "provenance": loss.provenance, "source": loss.source,
                    "model": study.accuracy}
    return {
        "id": number, "name": f"design {number}", "parameters": values_of(point, study),
        "metrics": outcome.metrics, "bounds": outcome.bounds,
        "hardware": {field: getattr(design.hardware, field)
                     for field in design.hardware.__dataclass_fields__},
        "memory": design.memory.name, "scheme": scheme_values(design), "files": files,
        "commands": commands_of(study, files),
        "resources": {name: {"used": counts[name], "available": getattr(device, name),
                             "share": shares[name]} for name in counts},
        "verdict": device.verdict(costs.resources), "phases": phases, "accuracy": accuracy,
        "confirmation": None}


def commands_of(study: Study, files: Mapping[str, str]) -> list[str]:
    """Commands that give the design's numbers and its Verilog."""
    hardware, scheme, memory = (
        shlex.quote(files[key]) for key in ("hardware", "scheme", "memory"))
    folder = shlex.quote(str(Path(files["hardware"]).parent / "verilog"))
    return [
        *(f"lutrip estimate --model {shlex.quote(study.model)} --scheme {scheme} --hw {hardware} "
          f"--prefill {workload.prefill} --decode {workload.decode} --memory {memory}"
          for workload in study.workloads),
        f"lutrip generate --hw {hardware} --out {folder}"]


def neighbours_of(point: Point, study: Study) -> list[tuple[str, Any, Point]]:
    """Points with one parameter changed: its name, its value there, the point."""
    found = []
    for place, parameter in enumerate(study.parameters):
        for other, value in enumerate(parameter.values):
            if other != point[place]:
                changed = (*point[:place], other, *point[place + 1:])
                found.append((parameter.name, value, changed))
    return found


def neighbour_values(
    point: Point, study: Study, outcomes: Mapping[Point, Outcome]
) -> list[dict[str, Any]]:
    """What each single change of a design would do, of those that were tried."""
    rows = []
    own = values_of(point, study)
    for name, value, changed in neighbours_of(point, study):
        if (outcome := outcomes.get(changed)) is None:
            continue
        known = {metric: outcome.metrics.get(metric) for metric in study.objectives}
        rows.append({"parameter": name, "from": own[name], "to": value, "state": outcome.state,
                     "reason": outcome.reason, "metrics": known, "bounds": outcome.bounds})
    return rows
