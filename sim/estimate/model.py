"""Whole models by the event model: prefill and decode at any context length."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.decoder.quantized import QuantizedDecoder
from compiler.lower.attention import Span
from hw.config import HardwareConfig
from hw.isa import Engine, Opcode
from hw.register_map import counters as counter_names
from sim.estimate import rows as row_of
from sim.estimate.breakdown import Operation, pass_operations, path_cycles, repeats
from sim.estimate.counters import counters_of, fetch_words
from sim.estimate.plan import PlannedPass, Planner
from sim.estimate.program import Circuit, Timeline
from sim.estimate.timeline import BEGAN, COMPLETED
from sim.records import MemoryModel

SAMPLES = 5
"""Passes of a kind that are worked out; cycles of those between follow the line between them."""
ITERATIONS = 4
"""Iterations of a loop over layers that are worked out."""
NOT_MODELLED = ("waiting_", "prefetched_words")
"""Counters of the circuit that the model does not have."""


@dataclass(frozen=True, kw_only=True)
class PhaseEstimate:
    """Prefill or decode.

    passes, tokens, cycles: of all its passes. counters: as the circuit's. operations: what each
    operation takes. path: cycles of the critical path by operation. contexts: positions before the
    passes that were worked out, and their cycles.
    """

    passes: int
    tokens: int
    cycles: float
    counters: dict[str, float]
    operations: list[Operation]
    path: dict[str, float]
    contexts: list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A model on hardware with a memory."""

    hardware: HardwareConfig
    memory: MemoryModel
    prefill: PhaseEstimate
    decode: PhaseEstimate | None


def sample_weights(positions: Sequence[int], chosen: Sequence[int]) -> list[float]:
    """How many of the positions each chosen one stands for, by linear interpolation."""
    return [float(np.interp(positions, chosen, unit).sum())
            for unit in np.eye(len(chosen))]


def chosen_of(count: int, most: int = SAMPLES) -> list[int]:
    """At most ``most`` of ``count`` places, evenly spread, the ends included."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def pass_counters(
    item: PlannedPass, timeline: Timeline, config: HardwareConfig
) -> Counter[str]:
    """Counters of a pass as the circuit's, without waiting cycles and prefetched words."""
    total: Counter[str] = Counter(dict.fromkeys(
        (name for name in counter_names(config) if not name.startswith(NOT_MODELLED)), 0))
    total["cycles"] = timeline.cycles
    times = repeats(item.rows)
    for task, count in zip(item.tasks, times, strict=False):
        if task.opcode == Opcode.LOOP:
            continue
        for name, value in counters_of(task.opcode, task.fields, config).items():
            total[name] += value * int(count)
    total["read_words_aux"] += fetch_words(int(times[:len(item.tasks)].sum()), config)
    weights = timeline.weights(item.rows)
    spent = timeline.steps[:, COMPLETED] - timeline.steps[:, BEGAN] + 1
    engines = item.rows[timeline.index, row_of.ENGINE]
    for engine in Engine:
        mine = engines == engine
        total[f"busy_{engine.name.lower()}"] = int((spent * weights)[mine].sum())
    return total


def phase(
    planner: Planner, circuit: Circuit, spans: Sequence[Span], last: int
) -> PhaseEstimate:
    """Estimate of consecutive passes; those that end behind ``last`` positions give a token."""
    chosen = chosen_of(len(spans))
    weights = sample_weights(range(len(spans)), chosen)
    cycles, tokens = 0.0, sum(span.tokens for span in spans)
    counters: dict[str, float] = defaultdict(float)
    operations: dict[str, Operation] = {}
    path: dict[str, float] = defaultdict(float)
    contexts = []
    for number, weight in zip(chosen, weights, strict=True):
        span = spans[number]
        item = planner.planned(span, span.end >= last)
        timeline = circuit.run(item.rows, item.place, ITERATIONS)
        contexts.append((span.position, timeline.cycles))
        cycles += weight * timeline.cycles
        for name, value in pass_counters(item, timeline, planner.config).items():
            counters[name] += value * weight
        for operation in pass_operations(item, timeline):
            known = operations.get(operation.name)
            operations[operation.name] = operation.times(weight).joined(known)
        for name, spent in path_cycles(item, timeline).items():
            path[name] += spent * weight
    return PhaseEstimate(
        passes=len(spans), tokens=tokens, cycles=cycles, counters=dict(counters),
        operations=sorted(operations.values(), key=lambda one: -one.busy_cycles),
        path=dict(sorted(path.items(), key=lambda one: -one[1])), contexts=contexts)


def estimate(
    decoder: QuantizedDecoder, memory: MemoryModel, prefill: int, decode: int
) -> Estimate:
    """Prefill of a prompt, whose last pass gives a token, and ``decode`` more tokens.

    decoder: a structural one will do (`compiler.structure`). Raises CompileError where the hardware
    cannot hold it.
    """
    planner = Planner(decoder, prefill, decode + 1)
    circuit = Circuit.of(planner.config, memory)
    passes = [span for span in planner.spans if span.end <= prefill]
    steps = planner.spans[len(passes):]
    return Estimate(
        hardware=planner.config, memory=memory, prefill=phase(planner, circuit, passes, prefill),
        decode=phase(planner, circuit, steps, prefill) if steps else None)
