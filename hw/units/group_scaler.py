"""Scales a group's dot product of one column to the layer's fixed point."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import ALPHA_MAX, HardwareConfig, bits_for
from hw.isa import FIELDS, Opcode
from hw.units.packed_dot import dot_bits, int4_dot_bits
from hw.units.rounding import round_half, shift_half

LATENCY = 4
"""Cycles from a dot product to its scaled sum."""
SCALE_BITS = 16


def mass_bits(config: HardwareConfig) -> int:
    """Signed bits of a group's sum of activations with its channel factors."""
    return 8 + bits_for(config.group_max) + ALPHA_MAX


class GroupScaler(wiring.Component):
    """``round_shift(dot * scale + mass * minimum, shift)`` of one column.

    One token per cycle, `LATENCY` cycles of latency.

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
    sum : Out(signed(32))
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
            "sum": Out(signed(32)),
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
        halves = Signal(signed(33), reset_less=True)
        result = Signal(signed(32), reset_less=True)
        with m.If(self.valid):
            m.d.sync += [
                product.eq(Mux(self.odd, self.odd_dot, self.dot) * self.scale),
                offset.eq(self.mass * self.minimum),
            ]
        with m.If(multiplied):
            m.d.sync += total.eq(product + offset)
        with m.If(added):
            m.d.sync += halves.eq(shift_half(total, self.shift))
        with m.If(shifted):
            m.d.sync += result.eq(round_half(halves))
        m.d.comb += self.sum.eq(result)
        return m
