"""Agile-Quant (arXiv 2312.05693): its 4-bit multiplier by instruction counts, and on an FPGA.

The multiplier puts two weights into a register, 8 bits apart, and multiplies both by one
activation. Before sums, the two products are moved 16 bits apart: MUL, LSL, ORR, AND, ADD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.fixed import Ints
from sim.energy import PACKED_PRODUCTS

VECTOR_BITS, LANE_BITS = 128, 32
MASK = 0x00FF00FF


def packed_products(first: Ints, second: Ints, activation: Ints) -> tuple[Ints, list[str]]:
    """Products of two 4-bit weights with one activation, all unsigned, and the instructions.

    Follows appendix algorithm 1 of the paper on 32-bit lanes; the low halfword of a result is
    ``first * activation``, the high one ``second * activation``.
    """
    lanes = (first | second << 8).astype(np.uint32)
    product = lanes * activation.astype(np.uint32)
    spread = (product | product << np.uint32(8)) & np.uint32(MASK)
    return spread.astype(np.int64), ["MUL", "LSL", "ORR", "AND", "ADD"]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Inner loop of a matrix product on Arm vectors of 128 bits.

    products: multiply-adds of one round of ``instructions``; cores: those that can run it.
    """

    name: str
    instructions: Sequence[str]
    products: int
    cores: str

    @property
    def rate(self) -> float:
        """Multiply-adds for each instruction; loads are left out, as all kernels have them."""
        return self.products / len(self.instructions)


_HALVES = VECTOR_BITS // 16
_BYTES = VECTOR_BITS // 8
_WORDS = VECTOR_BITS // LANE_BITS
KERNELS = (
    Kernel(name="FP16, native", instructions=("FMLA",), products=_HALVES, cores="A77"),
    Kernel(name="FP16 widened to FP32", instructions=("FCVTL", "FCVTL", "FMLA"), products=_WORDS,
           cores="A72"),
    Kernel(name="8 bits, widening", instructions=("SMULL", "SADALP"), products=_HALVES,
           cores="A72, A77"),
    Kernel(name="8 bits, dot product", instructions=("SDOT",), products=_BYTES, cores="A77"),
    Kernel(name="8 bits, one product a 32-bit lane", instructions=("MUL", "ADD"),
           products=_WORDS, cores="A72, A77"),
    Kernel(name="4 bits, two products a lane (Agile-Quant)",
           instructions=("MUL", "LSL", "ORR", "AND", "ADD"), products=2 * _WORDS,
           cores="A72, A77"),
    Kernel(name="4 bits, the three moving instructions for nothing",
           instructions=("MUL", "ADD"), products=2 * _WORDS, cores="A72, A77"),
)


def end_to_end(data: Mapping[str, Any]) -> dict[str, float]:
    """Speed-up over FP16 that the paper's own GEMM ratios and nonlinear part give (Amdahl)."""
    gemm = data["gemm"]
    eight = sum(gemm["eight_over_half"]) / len(gemm["eight_over_half"])
    rest = gemm["nonlinear_part_of_half"]
    return {"8 bits": 1 / (rest + (1 - rest) / eight),
            "4 bits": 1 / (rest + (1 - rest) / (eight * gemm["four_over_eight"]))}


def published_speedups(data: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Lowest and highest published ratio, to FP16 and of 4 to 8 bits, over models and devices."""
    rows = [values for devices in data["seconds"]["rows"].values()
            for values in devices.values()]
    eight = [half / value for half, value, _ in rows]
    four = [half / value for half, _, value in rows]
    steps = [a / b for a, b in zip(four, eight, strict=True)]
    return {name: (min(ratios), max(ratios)) for name, ratios in (
        ("8 bits", eight), ("4 bits", four), ("4 over 8 bits", steps))}


def fpga_products() -> dict[str, int]:
    """Exact products of one multiplier slice and cycle in our array, by weights and activations."""
    return {mode.removeprefix("simd_steps_"): count for mode, count in PACKED_PRODUCTS.items()}
