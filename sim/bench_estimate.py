"""Speed of the fast model: whole-model design points a second on one core.

Three kinds of points, all of one decoded token or request of a whole model, all layers and the
output head:

- *shared*: a decoded token on hardware with another memory: points that differ in memory timing or
  clock share a program, and only its events are worked out;
- *own program*: a decoded token at another position, whose program is made first;
- *request*: prefill and decode of a request (`sim.estimate.model.estimate`) on other hardware,
  whose structure, pass length, memory layout and programs are made first.

Each rate is the best of several short repeats, as other work on the machine only slows them down.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from compiler.frontends.shapes import SHAPES
from compiler.lower.attention import Span
from compiler.quant.scheme import SchemeMap, load_scheme
from compiler.structure import structural_decoder
from hw.config import HardwareConfig
from hw.presets import load_hardware
from sim.estimate.model import ITERATIONS, estimate
from sim.estimate.plan import PlannedPass, Planner
from sim.estimate.program import Circuit
from sim.memory_presets import default_memory
from sim.records import MemoryModel

POINTS = (("smollm2-135m", "simd-w4a8", "sim"), ("smollm2-135m", "lut2d", "sim"),
          ("qwen3-1.7b", "simd-w4a8", "u280"), ("qwen3-1.7b", "rowgen-2bit", "u280"),
          ("qwen3-1.7b", "lut2d", "u280"))
CONTEXT = 64
PREFILL, DECODE = 128, 64
"""Tokens of a request."""
BOUND = 1000.0
"""Design points a second that share a program."""
ZIGZAG_MAPPINGS_PER_S, LUTLLM_POINTS_PER_S = 167.0, 127.0
"""What ZigZag and the model in LUT-LLM's repository did on another machine; for scale only."""
REPEATS = 12
SHARED_POINTS, OWN_POINTS = 50, 10
"""Points of a repeat."""


def variants(config: HardwareConfig) -> list[HardwareConfig]:
    """Hardware of other sizes that holds the same models."""
    return [dataclasses.replace(config, tokens_max=tokens, lanes=config.lanes * lanes,
                                read_fifo_words=config.read_fifo_words * words)
            for tokens, lanes, words in itertools.product(
                (config.tokens_max, config.tokens_max * 3 // 4, config.tokens_max // 2), (1, 2),
                (1, 2))]


def best_rate(repeats: Iterable[Iterable[Callable[[], object]]]) -> float:
    """Calls a second of processor time in the best of several repeats."""
    best = 0.0
    for calls in repeats:
        todo = list(calls)
        started = time.process_time()
        for call in todo:
            call()
        best = max(best, len(todo) / (time.process_time() - started))
    return best


def shared_point(config: HardwareConfig, item: PlannedPass, number: int) -> None:
    """A decoded token with another memory."""
    memory = MemoryModel(latency_cycles=20 + number % 200, outstanding=1 + number % 64)
    Circuit.of(config, memory).run(item.rows, item.place, ITERATIONS)


def own_point(planner: Planner, number: int) -> None:
    """A decoded token at another position."""
    made = planner.planned(Span(CONTEXT + 1 + number, 1), True)
    Circuit.of(planner.config, MemoryModel()).run(made.rows, made.place, ITERATIONS)


def request_point(shape: str, scheme: SchemeMap, config: HardwareConfig) -> None:
    """A request on other hardware."""
    decoder = structural_decoder(SHAPES[shape], scheme, config, PREFILL + DECODE)
    estimate(decoder, default_memory(config).at(config), PREFILL, DECODE)


def estimate_rates(say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Design points a second of every kind."""
    rows = []
    for shape, name, hardware in POINTS:
        say(f"fast model, {shape}, {name} on {hardware}")
        config, scheme = load_hardware(hardware), load_scheme(name)
        planner = Planner(structural_decoder(
            SHAPES[shape], scheme, config, CONTEXT + 1 + REPEATS * OWN_POINTS), CONTEXT,
            2 + REPEATS * OWN_POINTS)
        item = planner.planned(Span(CONTEXT, 1), True)
        shared_point(config, item, 0)
        request_point(shape, scheme, config)
        rate = best_rate(
            [partial(shared_point, config, item, number) for number in range(SHARED_POINTS)]
            for _ in range(REPEATS))
        own_rate = best_rate(
            [partial(own_point, planner, OWN_POINTS * repeat + number)
             for number in range(OWN_POINTS)] for repeat in range(REPEATS))
        request_rate = best_rate(
            [partial(request_point, shape, scheme, other) for other in variants(config)]
            for _ in range(REPEATS // 3))
        rows.append({
            "model": shape, "scheme": name, "hardware": hardware,
            "instructions": len(item.rows), "points_per_s": rate,
            "points_with_own_program_per_s": own_rate, "requests_per_s": request_rate,
            "prefill_tokens": PREFILL, "decode_tokens": DECODE,
            "bound_points_per_s": BOUND, "holds": rate >= BOUND,
            "load_average": os.getloadavg()[0],
            "zigzag_mappings_per_s": ZIGZAG_MAPPINGS_PER_S,
            "lutllm_points_per_s": LUTLLM_POINTS_PER_S,
        })
    return rows
