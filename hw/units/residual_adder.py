"""Adds words of int32 values to the residual in the vector memory."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.golden.dequant import INT32_MAX
from hw.interfaces import VectorRead, VectorWrite
from hw.units.rounding import saturated

HALF_BITS = 16


def residual_input(config: HardwareConfig) -> data.StructLayout:
    """Values of one word; ``address`` is the pair's low-half word."""
    return data.StructLayout({
        "address": 16,
        "values": data.ArrayLayout(signed(32), config.word_elements),
    })


class ResidualAdder(wiring.Component):
    """`hw.golden.residual.add` of a word to its pair of words in the vector memory.

    A word takes 4 cycles and is written, low half first, in the 2 cycles behind them, beside the
    reads of the next word: consecutive words belong to different pairs.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    i : In(stream of `residual_input`), held until its pair is read
    memory : Out(VectorRead)
    o : Out(VectorWrite)
    busy : Out(1), words are to be written
    """

    i: stream.Interface
    memory: wiring.PureInterface
    o: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "i": In(stream.Signature(residual_input(config))),
            "memory": Out(VectorRead(config)),
            "o": Out(VectorWrite(config)),
            "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        elements = self.config.word_elements
        halves = data.ArrayLayout(HALF_BITS, elements)
        low, high = Signal(halves), Signal(halves)
        low_sums, high_sums = Signal(halves), Signal(halves)
        address, writing, second = Signal(16), Signal(), Signal()
        request = self.memory.request

        low_arriving = Signal()
        m.d.sync += low_arriving.eq(0)
        with m.If(low_arriving):
            m.d.sync += low.eq(self.memory.data)
        m.d.comb += [
            self.busy.eq(writing),
            self.o.valid.eq(writing),
            self.o.p.address.eq(address + second),
            self.o.p.data.eq(Mux(second, high_sums.as_value(), low_sums.as_value())),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [second.eq(~second), writing.eq(~second)]

        with m.FSM():
            with m.State("low"):
                m.d.comb += [
                    request.valid.eq(self.i.valid),
                    request.payload.eq(self.i.p.address),
                ]
                with m.If(self.i.valid & request.ready):
                    m.d.sync += low_arriving.eq(1)
                    m.next = "high"
            with m.State("high"):
                m.d.comb += [
                    request.valid.eq(self.i.valid),
                    request.payload.eq(self.i.p.address + 1),
                ]
                with m.If(self.i.valid & request.ready):
                    m.next = "arrive"
            with m.State("arrive"):
                m.d.sync += high.eq(self.memory.data)
                m.next = "add"
            with m.State("add"):
                m.d.comb += self.i.ready.eq(~writing)
                with m.If(~writing):
                    m.d.sync += [writing.eq(1), second.eq(0), address.eq(self.i.p.address)]
                    for index in range(elements):
                        old = Cat(low[index], high[index]).as_signed()
                        total = saturated(old + self.i.p.values[index], INT32_MAX)
                        m.d.sync += Cat(low_sums[index], high_sums[index]).eq(total)
                    m.next = "low"
        return m
