"""Matrix products that lutrip and its peers are compared on, by the fast model and in RTL."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

import numpy as np

from compiler.build import SECTIONS, Build, compile_graph, region_addresses
from compiler.frontends.shapes import SHAPES
from compiler.image.image import header_bytes
from compiler.ir.graph import Graph
from compiler.lower.block import lower_linears
from compiler.lower.linear import Floats
from compiler.lower.passes import Program
from compiler.lower.tile import emit_graph
from compiler.lower.tokens import assign_tokens
from compiler.quant.quantized import QuantizedLinear
from compiler.quant.quantizer import LinearSpec, quantize_linears
from compiler.quant.scheme import Scheme, SchemeMap, SimdScheme
from compiler.structure import StructureBuilder, alike
from hw.config import HardwareConfig
from hw.fixed import Ints
from sim.circuit import circuit
from sim.estimate.plan import program_rows, region_bytes
from sim.estimate.program import Circuit
from sim.functional import run_image
from sim.records import MemoryModel
from sim.runner import simulate

GROUP = 128
REPEATS = 7
CALIBRATION_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class Gemm:
    """A product [tokens, inputs] x [inputs, columns]."""

    name: str
    tokens: int
    inputs: int
    columns: int

    @property
    def macs(self) -> int:
        """Multiplications of the shape, without anything filled up."""
        return self.tokens * self.inputs * self.columns


def linear_of(model: str, linear: str, tokens: int) -> Gemm:
    """A linear layer of a published shape on some tokens."""
    columns, inputs = SHAPES[model].linear_shape(linear)
    return Gemm(name=f"{model} {linear}, {tokens} token{'s' * (tokens > 1)}", tokens=tokens,
                inputs=inputs, columns=columns)


GEMMS = (
    Gemm(name="one tile, 8 tokens", tokens=8, inputs=128, columns=64),
    linear_of("smollm2-135m", "k", 1), linear_of("smollm2-135m", "k", 128),
    linear_of("smollm2-135m", "gate", 1),
    linear_of("qwen3-1.7b", "k", 1), linear_of("qwen3-1.7b", "k", 128),
)


def array_multipliers(hardware: HardwareConfig) -> int:
    """Products of the multiplier array in a cycle."""
    return hardware.lanes * hardware.simd_depth


def int8(hardware: HardwareConfig) -> SimdScheme:
    """Integer weights and activations of 8 bits, what the peers model too."""
    return SimdScheme(name="int8", weight_bits=8, act_bits=8,
                      group=min(GROUP, hardware.group_max))


@dataclass(frozen=True)
class Cost:
    """What something took: seconds on the clock and of all its processes."""

    wall_s: float
    cpu_s: float


class Stopwatch:
    """Measures from its making, processes that have ended included."""

    def __init__(self) -> None:
        self.wall, self.processor = time.perf_counter(), self._processor()

    @staticmethod
    def _processor() -> float:
        usages = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    def read(self) -> Cost:
        """Seconds since the making."""
        return Cost(time.perf_counter() - self.wall, self._processor() - self.processor)


def gemm_graph(linear: QuantizedLinear, x: Floats) -> Graph:
    """One linear layer of rows of activations [tokens, inputs]."""
    return lower_linears({"linear": linear}, {"linear": "x"}, {"x": x})


def structural_program(
    gemm: Gemm, hardware: HardwareConfig, scheme: Scheme | None = None
) -> Ints:
    """Rows of the program that `gemm_build` compiles, from the shape alone.

    Nothing is quantized or packed. scheme: other than int8. Raises CompileError when the hardware
    cannot hold it.
    """
    scheme = scheme or int8(hardware)
    builder = StructureBuilder(
        SHAPES["tiny"], SchemeMap(name=scheme.name, default=scheme), hardware, 1, alike)
    linear = builder.linear("q", scheme, gemm.columns, builder.source(scheme, gemm.inputs))
    x = np.zeros((gemm.tokens, gemm.inputs), np.float32)
    tiler = emit_graph(gemm_graph(linear, x), hardware)
    tasks, needed = tiler.context.tasks, dict[str, int]()
    for task in tasks:
        if task.region:
            size = region_bytes(task, hardware)
            needed[task.region] = max(needed.get(task.region, 0), size)
    sizes = {name: needed[name]
             for name in (*tiler.context.constants, *tiler.inputs, *tiler.outputs)}
    addresses = region_addresses(len(tasks), sizes, hardware)
    return program_rows(
        Program(assign_tokens(tasks, addresses, hardware), addresses), hardware)


def program_place(hardware: HardwareConfig) -> int:
    """Port word where the program of a `Build` begins."""
    return header_bytes(len(SECTIONS)) // hardware.port_bytes


def gemm_build(gemm: Gemm, hardware: HardwareConfig) -> Build:
    """The product with seeded weights and activations, quantized and compiled."""
    rng = np.random.default_rng(gemm.macs)
    weight = rng.normal(size=(gemm.columns, gemm.inputs)).astype(np.float32)
    x = rng.normal(size=(CALIBRATION_ROWS, gemm.inputs)).astype(np.float32)
    spec = LinearSpec(name="linear", input_name="x", weight=weight, bias=None, blocks=None,
                      scheme=int8(hardware))
    linears = quantize_linears([spec], {"x": x}, hardware)
    return compile_graph(gemm_graph(linears["linear"], x[:gemm.tokens]), hardware)


def model_costs(gemm: Gemm, hardware: HardwareConfig, repeats: int = REPEATS) -> dict[str, Any]:
    """Cycles of the fast model and its time, once from the shape and once from the program.

    The median of ``repeats``; compiled functions are loaded before.
    """
    memory, place = MemoryModel(), program_place(hardware)
    rows = structural_program(gemm, hardware)
    machine = Circuit.of(hardware, memory)
    cycles = machine.run(rows, place).cycles

    def whole() -> int:
        return Circuit.of(hardware, memory).run(structural_program(gemm, hardware), place).cycles

    def again() -> int:
        return machine.run(rows, place).cycles

    values: dict[str, Any] = {"cycles": cycles}
    for prefix, work in (("", whole), ("same_program_", again)):
        costs = []
        for _ in range(repeats):
            watch = Stopwatch()
            assert work() == cycles
            costs.append(watch.read())
        values[f"{prefix}wall_s"] = statistics.median(cost.wall_s for cost in costs)
        values[f"{prefix}cpu_s"] = statistics.median(cost.cpu_s for cost in costs)
    return values


def rtl_costs(
    gemm: Gemm, hardware: HardwareConfig, build_dir: Path, run_dir: Path
) -> dict[str, Any]:
    """Cycles of the circuit and the time of the whole run: golden, simulator, comparison.

    Quantizing, compiling and building the circuit are not timed. Raises ToolError without
    Verilator.
    """
    sources = circuit(hardware, build_dir)
    build = gemm_build(gemm, hardware)
    data, start = build.image.data, build.image.program_address
    watch = Stopwatch()
    expected = run_image(data, hardware, start).beats
    run = simulate(sources, hardware, data, start, expected, run_dir, build_dir=build_dir / "sim")
    cost = watch.read()
    words = sum(tap.expected or 0 for tap in run.taps)
    return {"cycles": run.cycles, "bit_exact": run.bit_exact, "words_compared": words,
            "wall_s": cost.wall_s, "cpu_s": cost.cpu_s, "loop_wall_s": run.wall_s}
