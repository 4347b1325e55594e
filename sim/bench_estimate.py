"""Speed of the fast model: whole-model design points a second on one core.

A design point is one decoded token of a whole model, all layers and the output head, on one
hardware configuration with one memory. Points that differ in memory timing, clock or FIFO depth
share a program, which is lowered once; points that differ in scheme, context or geometry need a
program of their own, which costs far more than working it out. Both are measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from compiler.frontends.shapes import SHAPES
from compiler.lower.attention import Span
from compiler.quant.scheme import load_scheme
from compiler.structure import structural_decoder
from hw.presets import load_hardware
from sim.estimate.model import ITERATIONS
from sim.estimate.plan import Planner
from sim.estimate.program import Circuit
from sim.records import MemoryModel

POINTS = (("smollm2-135m", "simd-w4a8", "sim"), ("qwen3-1.7b", "simd-w4a8", "u280"),
          ("qwen3-1.7b", "rowgen-2bit", "u280"))
CONTEXT = 64
BOUND = 1000.0
"""Design points a second that share a program."""
ZIGZAG_MAPPINGS_PER_S, LUTLLM_POINTS_PER_S = 167.0, 127.0
"""What ZigZag and the model in LUT-LLM's repository did on another machine; for scale only."""
SHARED_POINTS, OWN_POINTS = 400, 5


def estimate_rates(say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Design points a second, with a shared program and with one of their own."""
    rows = []
    for shape, scheme, hardware in POINTS:
        say(f"fast model, {shape}, {scheme} on {hardware}")
        config = load_hardware(hardware)
        planner = Planner(structural_decoder(
            SHAPES[shape], load_scheme(scheme), config, CONTEXT + OWN_POINTS + 1),
            CONTEXT, OWN_POINTS + 2)
        item = planner.planned(Span(CONTEXT, 1), True)
        Circuit.of(config, MemoryModel()).run(item.rows, item.place, ITERATIONS)
        started = time.process_time()
        for number in range(SHARED_POINTS):
            memory = MemoryModel(latency_cycles=20 + number % 200, outstanding=1 + number % 64)
            Circuit.of(config, memory).run(item.rows, item.place, ITERATIONS)
        shared = SHARED_POINTS / (time.process_time() - started)
        started = time.process_time()
        for number in range(OWN_POINTS):
            own = planner.planned(Span(CONTEXT + 1 + number, 1), True)
            Circuit.of(config, MemoryModel()).run(own.rows, own.place, ITERATIONS)
        rows.append({
            "model": shape, "scheme": scheme, "hardware": hardware,
            "instructions": len(item.rows), "points_per_s": shared,
            "points_with_own_program_per_s": OWN_POINTS / (time.process_time() - started),
            "bound_points_per_s": BOUND, "holds": shared >= BOUND,
            "zigzag_mappings_per_s": ZIGZAG_MAPPINGS_PER_S,
            "lutllm_points_per_s": LUTLLM_POINTS_PER_S,
        })
    return rows
