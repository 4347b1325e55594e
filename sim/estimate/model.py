"""Whole models by the event model: prefill and decode at any context length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.decoder.quantized import QuantizedDecoder
from compiler.lower.append import rows_before
from compiler.lower.attention import Span
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import Engine
from sim.estimate import rows as row_of
from sim.estimate.breakdown import (
    DISPATCH,
    Floats,
    Operation,
    operation_sums,
    operations,
    path_sums,
    repeats,
)
from sim.estimate.counters import fetch_words
from sim.estimate.plan import PlannedPass, Planner
from sim.estimate.program import Circuit, Timeline
from sim.estimate.timeline import BEGAN, COMPLETED
from sim.records import MemoryModel

SAMPLES = 5
"""Passes of a kind that are worked out; cycles of those between follow the line between them."""
ITERATIONS = 9
"""Iterations of a loop over layers that are worked out, if they do not repeat before."""


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


def chosen_of(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` places, evenly spread, the ends included."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def sampled(
    spans: Sequence[Span], last: int, samples: int, period: int = 1
) -> list[tuple[int, float]]:
    """Passes that are worked out, and how many each stands for.

    The last one of a prompt, which gives a token and can be shorter, stands for itself. period: of
    the positions whose passes have the same kinds of instructions; those between stand apart.
    """
    alike = [span for span in spans
             if (span.tokens, span.end >= last) == (spans[0].tokens, spans[0].end >= last)]
    apart = range(len(alike), len(spans))
    places = {span.position % period for span in alike}
    most = max(2, -(-(samples - len(apart)) // len(places)))
    found: list[tuple[int, float]] = []
    for place in places:
        numbers = [number for number, span in enumerate(alike) if span.position % period == place]
        chosen = [numbers[at] for at in chosen_of(len(numbers), most)]
        found += zip(chosen, sample_weights(numbers, chosen), strict=True)
    return [*sorted(found), *((number, 1.0) for number in apart)]


def pass_counters(item: PlannedPass, timeline: Timeline) -> Ints:
    """Counters of a pass as the circuit's, by column of `Shapes`."""
    known, times = item.known, repeats(item.rows)[:-1]
    ran = item.shapes >= 0
    by_shape = np.bincount(item.shapes[ran], times[ran], len(known.counted)).astype(np.int64)
    there = np.flatnonzero(by_shape)
    total: Ints = by_shape[there] @ np.stack([known.counted[number] for number in there])
    total[known.columns["cycles"]] = timeline.cycles
    total[known.columns["read_words_aux"]] += fetch_words(int(times.sum()), known.config)
    spent = timeline.steps[:, COMPLETED] - timeline.steps[:, BEGAN] + 1
    engines = item.rows[timeline.index, row_of.ENGINE]
    busy = np.bincount(engines, spent * timeline.weights, len(Engine))
    for engine in Engine:
        total[known.columns[f"busy_{engine.name.lower()}"]] = int(busy[engine])
    return total


def weighted(parts: Sequence[tuple[float, Floats]], size: int) -> Floats:
    """Sum of arrays, each so many times, filled up to ``size``."""
    total = np.zeros((*parts[0][1].shape[:-1], size))
    for weight, part in parts:
        total[..., :part.shape[-1]] += part * weight
    return total


def phase(
    planner: Planner, circuit: Circuit, spans: Sequence[Span], last: int, samples: int
) -> PhaseEstimate:
    """Estimate of consecutive passes; those that end behind ``last`` positions give a token."""
    contexts, cycles, rest, known = [], 0.0, 0.0, planner.shapes
    counters, sums, paths = [], [], []
    period = 1 + rows_before(planner.config)
    for number, weight in sampled(spans, last, samples, period):
        span = spans[number]
        item = planner.planned(span, span.end >= last)
        timeline = circuit.run(item.rows, item.place, ITERATIONS)
        contexts.append((span.position, timeline.cycles))
        cycles += weight * timeline.cycles
        counters.append((weight, pass_counters(item, timeline)))
        sums.append((weight, operation_sums(item, timeline)))
        path = path_sums(item, timeline)
        paths.append((weight, path[:-1]))
        rest += float(path[-1]) * weight
    spent = dict(zip(known.names, weighted(paths, len(known.names)).tolist(), strict=True))
    spent[DISPATCH] = rest
    return PhaseEstimate(
        passes=len(spans), tokens=sum(span.tokens for span in spans), cycles=cycles,
        counters=dict(zip(known.columns, weighted(counters, len(known.columns)).tolist(),
                          strict=True)),
        operations=operations(weighted(sums, len(known.names)), known),
        path={name: spent[name] for name in sorted(spent, key=lambda name: -spent[name])
              if spent[name]}, contexts=contexts)


def estimate(
    decoder: QuantizedDecoder, memory: MemoryModel, prefill: int, decode: int,
    samples: int = SAMPLES,
) -> Estimate:
    """Prefill of a prompt, whose last pass gives a token, and ``decode`` more tokens.

    decoder: a structural one will do (`compiler.structure`). samples: passes of a kind that are
    worked out at most, 2 or more; fewer are faster and less exact between them. Raises CompileError
    where the hardware cannot hold it.
    """
    planner = Planner(decoder, prefill, decode + 1)
    circuit = Circuit.of(planner.config, memory)
    passes = [span for span in planner.spans if span.end <= prefill]
    steps = planner.spans[len(passes):]
    return Estimate(
        hardware=planner.config, memory=memory,
        prefill=phase(planner, circuit, passes, prefill, samples),
        decode=phase(planner, circuit, steps, prefill, samples) if steps else None)
