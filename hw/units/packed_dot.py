"""Dot products of two output columns on packed multipliers, with power-of-two channel factors."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import ALPHA_MAX, HardwareConfig, bits_for
from hw.golden import packing
from hw.golden.softmax import LOG2_BITS
from hw.isa import SimdMode
from hw.units.delay import delayed
from hw.units.packed_multiplier import PackedMultiplier, int8_weights
from hw.verilog import module

LATENCY = 6
"""Cycles from the last chunk of a group to its dot products."""
SUM_BITS = 48
ALPHA_BITS = 3


def part_bits(config: HardwareConfig) -> int:
    """Signed bits of a chunk's dot product; of log2 products if there are any."""
    if config.log2_softmax:
        return 8 + LOG2_BITS + bits_for(config.simd_depth)
    return packing.INT8_OFFSET


def dot_bits(config: HardwareConfig) -> int:
    """Signed bits of a group's dot product with its channel factors; log2 products have none."""
    return max(15 + ALPHA_MAX, 8 + LOG2_BITS if config.log2_softmax else 0) + bits_for(
        config.group_max)


def int4_dot_bits(config: HardwareConfig) -> int:
    """Signed bits of a group's dot product of int4 operands with its channel factors."""
    return 8 + bits_for(config.group_max) + ALPHA_MAX


def dot_step_layout() -> data.StructLayout:
    """What accompanies a chunk: its place in the group and the shifts of the accumulator.

    shift: applied to the sum of the chunks before it; final: applied after the last chunk.
    """
    return data.StructLayout({
        "valid": 1, "first": 1, "last": 1, "shift": ALPHA_BITS, "final": ALPHA_BITS,
    })


class PackedDot(wiring.Component):
    """``simd_depth`` inputs of two columns each cycle; two tokens in W4A4.

    ``partial = (partial << shift) + chunk`` over the chunks of a group and ``partial << final`` at
    its end (TRIP's factors as shifts of the accumulator). Results follow the last chunk by
    `LATENCY` cycles and stay until the next group's. W8L4 multiplies by the lower part of a power
    of two; products with a power that has an upper part are summed once more, and shifted.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    mode : In(2), `SimdMode`; constant while a group is under way
    step : In(`dot_step_layout`)
    bytes, nibbles : 2 x In(simd_depth * 8 or 4), int8 or int4 weights of the two columns
    activations : simd_depth x In(signed(18)), from `pack_activation` or `split_power`
    upper : In(simd_depth), from `split_power`, 2 cycles behind the activations; only if the
        configuration has log2_softmax
    dots : 2 x Out(signed(`dot_bits`)), both columns of the token (the even one in W4A4)
    odd_dots : 2 x Out(signed(`int4_dot_bits`)), both columns of the odd token (W4A4 only)
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        upper = {"upper": In(config.simd_depth)} if config.log2_softmax else {}
        super().__init__(upper | {
            "mode": In(2),
            "step": In(dot_step_layout()),
            "bytes": In(config.simd_depth * 8).array(2),
            "nibbles": In(config.simd_depth * packing.NIBBLE_BITS).array(2),
            "activations": In(signed(packing.ACTIVATION_BITS)).array(config.simd_depth),
            "dots": Out(signed(dot_bits(config))).array(2),
            "odd_dots": Out(signed(int4_dot_bits(config))).array(2),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        int8 = Signal()
        m.d.comb += int8.eq(int8_weights(self.mode))
        valid = self.step.valid
        stages = [valid]
        for stage in range(1, LATENCY):
            stages.append(delayed(m, stages[-1], 1, f"valid{stage}", reset_less=False))

        products = []
        for k in range(self.config.simd_depth):
            cell = module("packed_multiplier", PackedMultiplier())
            m.submodules[f"multiplier{k}"] = cell
            m.d.comb += [
                cell.valid.eq(valid),
                cell.int8.eq(int8),
                cell.activation.eq(self.activations[k]),
            ]
            for column in range(2):
                m.d.comb += [
                    cell.bytes[column].eq(self.bytes[column].word_select(k, 8)),
                    cell.nibbles[column].eq(
                        self.nibbles[column].word_select(k, packing.NIBBLE_BITS)
                    ),
                ]
            products.append(cell.product)

        total = Signal(SUM_BITS, reset_less=True)
        with m.If(stages[2]):
            m.d.sync += total.eq(reduce(add, products, Mux(int8, 0, packing.INT4_BIAS)))
        upper_total = Signal(SUM_BITS, reset_less=True)
        if self.config.log2_softmax:
            with m.If(stages[2] & (self.mode == SimdMode.W8L4)):
                m.d.sync += upper_total.eq(reduce(add, (
                    Mux(self.upper[k], product, 0) for k, product in enumerate(products)
                )))

        width = part_bits(self.config)
        parts = [Signal(signed(width), name=f"part{c}", reset_less=True) for c in range(2)]
        odd_parts = [
            Signal(signed(packing.FIELD_BITS), name=f"odd_part{c}", reset_less=True)
            for c in range(2)
        ]
        with m.If(stages[3]):
            self._decode(m, total, upper_total, parts, odd_parts)

        # The step information of a chunk meets its decoded part.
        step = delayed(m, self.step, 4, "step")
        end = delayed(m, step, 1, "end")
        ended = Signal()
        m.d.comb += ended.eq(stages[5] & end.last)
        for column in range(2):
            self._accumulate(m, stages[4], step, ended, end, parts[column],
                             self.dots[column], f"dot{column}")
            self._accumulate(m, stages[4], step, ended, end, odd_parts[column],
                             self.odd_dots[column], f"odd_dot{column}")
        return m

    def _decode(
        self, m: Module, total: Any, upper_total: Any, parts: list[Any], odd_parts: list[Any]
    ) -> None:
        """Take the packed sums apart as `hw.golden.packing` defines it."""
        int8_sums, upper_sums = self._int8_sums(total), self._int8_sums(upper_total)
        flip = 1 << (packing.FIELD_BITS - 1)
        fields = [
            (total.word_select(k, packing.FIELD_BITS) ^ flip).as_signed() for k in range(4)
        ]
        with m.Switch(self.mode):
            with m.Case(SimdMode.W4A4):
                for column in range(2):
                    m.d.sync += [
                        parts[column].eq(fields[2 * column]),
                        odd_parts[column].eq(fields[2 * column + 1]),
                    ]
            with m.Case(SimdMode.W4A8):
                for column in range(2):
                    upper = fields[2 * column + 1] << packing.NIBBLE_BITS
                    m.d.sync += parts[column].eq(fields[2 * column] + upper)
            if self.config.log2_softmax:
                with m.Case(SimdMode.W8L4):
                    for part, low, upper in zip(parts, int8_sums, upper_sums, strict=True):
                        # The sum of all products holds those of the upper powers, not shifted.
                        m.d.sync += part.eq(low + (upper << packing.UPPER_SHIFT) - upper)
            with m.Default():
                m.d.sync += [part.eq(sum_) for part, sum_ in zip(parts, int8_sums, strict=True)]

    @staticmethod
    def _int8_sums(total: Any) -> list[Any]:
        """Both columns' sums of a packed sum."""
        low, high = total[: packing.INT8_OFFSET], total[packing.INT8_OFFSET :]
        upper = (high + low[-1])[: packing.INT8_OFFSET]
        return [low.as_signed(), upper.as_signed()]

    @staticmethod
    def _accumulate(
        m: Module, valid: Any, step: Any, ended: Any, end: Any, part: Any, result: Any, name: str
    ) -> None:
        """One shift-accumulator and its result register."""
        partial = Signal(result.shape(), name=f"{name}_partial", reset_less=True)
        register = Signal(result.shape(), name=f"{name}_result", reset_less=True)
        with m.If(valid):
            m.d.sync += partial.eq(Mux(step.first, 0, partial << step.shift) + part)
        with m.If(ended):
            m.d.sync += register.eq(partial << end.final)
        m.d.comb += result.eq(register)
