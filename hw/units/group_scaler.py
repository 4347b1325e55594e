"""Scales a group's dot product of one column to the layer's fixed point."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import ALPHA_MAX, HardwareConfig, bits_for
from hw.golden import packing
from hw.golden.softmax import LOG2_BITS
from hw.isa import FIELDS, Opcode
from hw.units.packed_dot import dot_bits, int4_dot_bits
from hw.units.rounding import round_half, shift_half

LATENCY = 4
"""Cycles from a dot product to its scaled sum."""
SCALE_BITS = 16
DOT_BITS = packing.WEIGHT_BITS
"""Signed bits of a dot product that one DSP block multiplies."""


def mass_bits(config: HardwareConfig) -> int:
    """Signed bits of a group's sum of activations with its channel factors, or of log2 weights."""
    return max(8 + ALPHA_MAX, 2 + LOG2_BITS if config.log2_softmax else 0) + bits_for(
        config.group_max)


class GroupScaler(wiring.Component):
    """``round_shift(dot * scale + mass * minimum, shift)`` of one column.

    One token per cycle, `LATENCY` cycles of latency. A dot product of more than `DOT_BITS` must
    have scale 1: only log2 products reach that, whose scales are 1 (`hw.isa.SimdMode`).

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    valid : In(1)
    odd : In(1), take the odd token's dot product
    dot, odd_dot : In, from `PackedDot`
    mass : In(signed(`mass_bits`)), of the token taken; 0 for a layer without minima
    scale, minimum : In(signed(16))
    shift : In(6), constant while an instruction runs
    sum : Out(signed(sum_bits)), its lowest bits where it has more
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "valid": In(1),
            "odd": In(1),
            "dot": In(signed(dot_bits(config))),
            "odd_dot": In(signed(int4_dot_bits(config))),
            "mass": In(signed(mass_bits(config))),
            "scale": In(signed(SCALE_BITS)),
            "minimum": In(signed(SCALE_BITS)),
            "shift": In(FIELDS[Opcode.SIMD]["shift"]),
            "sum": Out(signed(config.sum_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        multiplied = Signal()
        added = Signal()
        shifted = Signal()
        m.d.sync += [multiplied.eq(self.valid), added.eq(multiplied), shifted.eq(added)]
        product_bits = dot_bits(self.config) + SCALE_BITS
        product = Signal(signed(product_bits), reset_less=True)
        offset = Signal(signed(mass_bits(self.config) + SCALE_BITS), reset_less=True)
        total = Signal(signed(product_bits + 1), reset_less=True)
        halves = Signal(signed(self.config.sum_bits + 1), reset_less=True)
        result = Signal(signed(self.config.sum_bits), reset_less=True)
        dot = Signal(self.dot.shape())
        over = Signal(signed(max(0, len(dot) - DOT_BITS) + 1), reset_less=True)
        m.d.comb += dot.eq(Mux(self.odd, self.odd_dot, self.dot))
        with m.If(self.valid):
            m.d.sync += [
                offset.eq(self.mass * self.minimum),
                product.eq(dot[:DOT_BITS].as_signed() * self.scale),
            ]
            if len(dot) > DOT_BITS:
                m.d.sync += over.eq(dot[DOT_BITS:].as_signed() + dot[DOT_BITS - 1])
        with m.If(multiplied):
            m.d.sync += total.eq(product + (over << DOT_BITS) + offset)
        with m.If(added):
            m.d.sync += halves.eq(shift_half(total, self.shift))
        with m.If(shifted):
            m.d.sync += result.eq(round_half(halves))
        m.d.comb += self.sum.eq(result)
        return m
