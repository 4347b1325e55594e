"""What a design point is worth: cheap checks first, then the cycle model on each workload."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from compiler.lower.cache import positions_max
from compiler.own_blocks import NamedModel, as_stored
from compiler.structure import structural_decoder
from hw.errors import LutripError
from hw.resources import load_device
from reports.explore.accuracy import Loss, Sensitivities, map_key
from reports.explore.metrics import EARLY
from reports.explore.precision import Precision
from reports.explore.space import Design, Point, design_of
from reports.explore.study import Bound, Study, Workload
from sim.costs import Costs
from sim.estimate.model import Estimate, PhaseEstimate, estimate
from sim.memory_presets import OTHER_PORTS

State = Literal["feasible", "infeasible", "refused"]
REFUSED = 1e3
"""Violation of a point that cannot be built, beyond that of all that break bounds."""
BESIDE_LAYERS = ("embedding", "final_norm", "head_input", "head", "next_token")
"""Operations outside of the layers, by the first part of their names."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A point, evaluated.

    reason: why it is not feasible. violations: by constraint, 0 where it is met. metrics: those
    that are known. bounds: what bounds the longest part of the critical path, by phase. accuracy:
    measured, predicted or unknown. key: equal for points that stand for one design.
    """

    state: State
    reason: str = ""
    key: str = ""
    violations: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    bounds: dict[str, str] = field(default_factory=dict)
    accuracy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def design_key(design: Design) -> str:
    """Equal for designs that are one."""
    hardware = asdict(design.hardware)
    return hashlib.sha256(json.dumps(
        [hardware, map_key(design.scheme), _streams(design), asdict(design.memory)],
        sort_keys=True).encode()).hexdigest()[:16]


def _streams(design: Design) -> list[bool]:
    parts = (design.scheme.default, *design.scheme.layers.values())
    return [getattr(part, "gather", False) for part in parts]


def bound_cycles(phase: PhaseEstimate) -> dict[str, float]:
    """Cycles of the critical path by what bounds them."""
    bounds = {operation.name: operation.bound for operation in phase.operations}
    total: dict[str, float] = defaultdict(float)
    for name, cycles in phase.path.items():
        total[bounds.get(name, name)] += cycles
    return total


def layer_cycles(phase: PhaseEstimate) -> float:
    """Cycles of the critical path inside the layers."""
    return sum(cycles for name, cycles in phase.path.items()
               if name.partition(".")[0] not in BESIDE_LAYERS)


def size_metrics(design: Design, prices: Mapping[str, float]) -> dict[str, float]:
    """What is known without running anything."""
    costs = costs_of(design)
    device, counts = costs.device, costs.resources.rounded()
    shares = device.shares(costs.resources)
    metrics = {name: float(count) for name, count in counts.items()}
    metrics |= {
        "largest_share": max(shares.values()), "clock_mhz": float(design.hardware.clock_mhz),
        "ports": float(design.hardware.weight_ports + OTHER_PORTS)}
    if device.name in prices:
        metrics["price"] = prices[device.name]
    return metrics


@functools.lru_cache(maxsize=256)
def _costs(hardware: Any) -> Costs:
    return Costs(hardware)


def costs_of(design: Design) -> Costs:
    """Energy and size of a design's hardware."""
    return _costs(design.hardware)


def estimate_workload(design: Design, model: NamedModel, workload: Workload) -> Estimate:
    """The cycle model on one request; raises LutripError where the hardware cannot hold it."""
    hardware = design.hardware
    architecture, scheme = as_stored(model, design.scheme)
    positions = workload.prefill + workload.decode
    if positions > architecture.context:
        raise LutripError(f"workload {workload.name}: {positions} positions, "
                          f"{architecture.name} was made for {architecture.context}")
    if positions > positions_max(hardware):
        raise LutripError(f"workload {workload.name}: {positions} positions, an attention "
                          f"instruction of hardware {hardware.name} goes through "
                          f"{positions_max(hardware)} at most")
    decoder = structural_decoder(architecture, scheme, hardware, positions)
    return estimate(decoder, design.memory.at(hardware), workload.prefill, workload.decode)


def request_sums(design: Design, found: Estimate, workload: Workload) -> dict[str, float]:
    """Seconds, joules, bytes and tokens of one request."""
    assert found.decode is not None
    hertz = design.hardware.clock_mhz * 1e6
    costs = costs_of(design)
    sums = {"prefill_tokens": float(workload.prefill), "decode_tokens": float(workload.decode)}
    for name, phase in (("prefill", found.prefill), ("decode", found.decode)):
        counters = {key: round(value) for key, value in phase.counters.items()}
        sums |= {
            f"{name}_s": phase.cycles / hertz, f"{name}_layers_s": layer_cycles(phase) / hertz,
            f"{name}_j": costs.energy(counters).total.value}
    sums["read_bytes"] = design.hardware.port_bytes * sum(
        value for name, value in found.decode.counters.items() if name.startswith("read_words_"))
    return sums


def request_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    """Metrics of the mean request; sums: by weights that add up to 1."""
    prefill_s, decode_s, tokens = sums["prefill_s"], sums["decode_s"], sums["decode_tokens"]
    return {
        "time_to_first_token_s": prefill_s, "time_per_token_s": decode_s / tokens,
        "request_s": prefill_s + decode_s,
        "prefill_tokens_per_s": sums["prefill_tokens"] / prefill_s,
        "tokens_per_s": tokens / decode_s,
        "layers_time_to_first_token_s": sums["prefill_layers_s"],
        "layers_time_per_token_s": sums["decode_layers_s"] / tokens,
        "energy_to_first_token_j": sums["prefill_j"],
        "energy_per_token_j": sums["decode_j"] / tokens,
        "energy_per_request_j": sums["prefill_j"] + sums["decode_j"],
        "power_w": sums["decode_j"] / decode_s,
        "read_bytes_per_token": sums["read_bytes"] / tokens}


def broken(bounds: tuple[Bound, ...], metrics: Mapping[str, float]) -> dict[str, float]:
    """Violations of the bounds on the metrics that are known."""
    return {bound.metric: bound.violation(metrics[bound.metric])
            for bound in bounds if bound.metric in metrics}


def evaluate_point(point: Point, study: Study, known: Sensitivities | None = None) -> Outcome:
    """A point's outcome; known: of the model whose accuracy counts."""
    assert (known is None) == (study.accuracy is None)
    try:
        design = design_of(point, study)
    except LutripError as error:
        return refused(error)
    return evaluate_design(design, study, known)


def refused(error: LutripError) -> Outcome:
    """Of what cannot be built, or is unknown."""
    return Outcome(state="refused", reason=str(error), violations={"buildable": REFUSED})


def loss_metrics(loss: Loss) -> dict[str, float]:
    """A scheme's loss as metrics."""
    return {"loss_nats": loss.nats, "perplexity_ratio": math.exp(min(loss.nats, 700))}


def evaluate_design(design: Design, study: Study, known: Sensitivities | None) -> Outcome:
    """A design's outcome; known: of the model whose accuracy counts."""
    try:
        return _evaluate(design, study, known)
    except LutripError as error:
        return refused(error)


def _evaluate(design: Design, study: Study, known: Sensitivities | None) -> Outcome:
    key = design_key(design)
    metrics = size_metrics(design, study.prices)
    accuracy = ""
    if known is not None:
        loss = known.loss(design.scheme, Precision.of(design.scheme, design.hardware))
        metrics |= loss_metrics(loss)
        accuracy = loss.provenance
    violations = broken(tuple(b for b in study.bounds if b.metric in EARLY), metrics)
    reasons = [bound.text() for bound in study.bounds if violations.get(bound.metric, 0) > 0]
    device, resources = load_device(design.hardware.device), costs_of(design).resources
    if study.fits:
        violations["fits"] = max(0.0, metrics["largest_share"] - 1)
        if violations["fits"]:
            reasons.append(device.verdict(resources))
        elif study.headroom and "without headroom" in (said := device.verdict(resources)):
            violations["fits"] = metrics["largest_share"]
            reasons.append(said)
    if reasons:
        # The search is told how far off it is; the cycle model would add nothing to that.
        return Outcome(state="infeasible", reason="; ".join(reasons), key=key, metrics=metrics,
                       violations=violations, accuracy=accuracy)
    weight = sum(workload.weight for workload in study.workloads)
    bounds: dict[str, dict[str, float]] = {
        "prefill": defaultdict(float), "decode": defaultdict(float)}
    sums: dict[str, float] = {}
    model = study.named.model(study.model)
    for workload in study.workloads:
        found = estimate_workload(design, model, workload)
        for name, value in request_sums(design, found, workload).items():
            sums[name] = sums.get(name, 0.0) + value * workload.weight / weight
        assert found.decode is not None
        for phase, item in (("prefill", found.prefill), ("decode", found.decode)):
            for bound, cycles in bound_cycles(item).items():
                bounds[phase][bound] += cycles * workload.weight
    metrics |= request_metrics(sums)
    late = broken(tuple(b for b in study.bounds if b.metric not in EARLY), metrics)
    violations |= late
    reasons = [bound.text() for bound in study.bounds if late.get(bound.metric, 0) > 0]
    return Outcome(state="infeasible" if reasons else "feasible", reason="; ".join(reasons),
                   key=key, metrics=metrics, violations=violations,
                   bounds={phase: max(of, key=lambda bound: of[bound])
                           for phase, of in bounds.items()},
                   accuracy=accuracy)
