"""Running maximum of int32 words and its column."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig

COLUMN_BITS = 24
LOWEST = -(1 << 31)
"""Below every saturated value, so that the first word always counts."""


class Argmax(wiring.Component):
    """Largest value of all words so far and its column, the lowest of equal ones.

    A word a cycle; it counts ``log2(word_elements) + 1`` cycles after it came.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    restart : In(1), element 0 of the next word is ``column``, the words behind follow it
    column : In(24)
    fresh : In(1), with ``restart``: forget the words so far
    valid : In(1), ``values`` is a word
    values : In(word_elements x signed(32)), above -2**31
    busy : Out(1), words do not count yet
    value : Out(signed(32))
    index : Out(24), the column of ``value``
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "restart": In(1),
            "column": In(COLUMN_BITS),
            "fresh": In(1),
            "valid": In(1),
            "values": In(data.ArrayLayout(signed(32), config.word_elements)),
            "busy": Out(1),
            "value": Out(signed(32), init=LOWEST),
            "index": Out(COLUMN_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        elements = self.config.word_elements
        enable = self.valid
        under_way: list[Signal] = []
        level = [(self.values[place], Const(0, 0)) for place in range(elements)]
        while len(level) > 1:
            depth = len(under_way)
            winners = []
            for node in range(len(level) // 2):
                (low, low_place), (high, high_place) = level[2 * node:2 * node + 2]
                value = Signal(signed(32), name=f"value_{depth}_{node}")
                place = Signal(depth + 1, name=f"place_{depth}_{node}")
                take_high = Signal(name=f"take_high_{depth}_{node}")
                m.d.comb += take_high.eq(high > low)
                with m.If(enable):
                    m.d.sync += [
                        value.eq(Mux(take_high, high, low)),
                        place.eq(Cat(Mux(take_high, high_place, low_place), take_high)),
                    ]
                winners.append((value, place))
            level = winners
            valid = Signal(name=f"valid_{depth}")
            m.d.sync += valid.eq(enable)
            under_way.append(valid)
            enable = valid

        (value, place), = level
        column = Signal(COLUMN_BITS)
        m.d.comb += self.busy.eq(Cat(under_way).any())
        with m.If(self.restart):
            m.d.sync += column.eq(self.column)
            with m.If(self.fresh):
                m.d.sync += self.value.eq(LOWEST)
        with m.Elif(enable):
            m.d.sync += column.eq(column + elements)
            with m.If(value > self.value):
                m.d.sync += [self.value.eq(value), self.index.eq(column + place)]
        return m
