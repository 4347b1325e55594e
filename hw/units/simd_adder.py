"""SIMD adder: one stage of the cascade that sums all positions."""

from __future__ import annotations

from amaranth import Cat, Const, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.units.lookup_layouts import SIMD_WORD_BITS, simd_field_bits


class SimdAdder(wiring.Component):
    """Adds an entry to the partial sum of every column: one step a cycle, one cycle later.

    Several columns share a 48-bit adder: their sums are unsigned and too small to carry into the
    next field.

    Parameters
    ----------
    config : HardwareConfig; ConfigError when sums could carry

    Members
    -------
    values : In(lanes x entry_bits)
    partial : In(lanes x field bits), from the position before
    total : Out(lanes x field bits)
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.field_bits = simd_field_bits(config)
        super().__init__({
            "values": In(config.lanes * config.entry_bits),
            "partial": In(config.lanes * self.field_bits),
            "total": Out(config.lanes * self.field_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width, fields = self.config.entry_bits, self.config.adder_columns
        zeros = Const(0, self.field_bits - width)
        totals = []
        for word in range(self.config.lanes // fields):
            packed = Cat(
                Cat(self.values.word_select(lane, width), zeros)
                for lane in range(word * fields, (word + 1) * fields)
            )
            total = self.partial.word_select(word, SIMD_WORD_BITS) + packed
            totals.append(total[:SIMD_WORD_BITS])
        m.d.sync += self.total.eq(Cat(totals))
        return m
