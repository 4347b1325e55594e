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

    A word every 2 cycles: its pair is read, and written low half first 4 cycles later, beside the
    reads of the words behind it: words whose sums are not written yet belong to different pairs.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    i : In(stream of `residual_input`), taken when its pair has been asked for
    memory : Out(VectorRead)
    o : Out(VectorWrite)
    busy : Out(1), words that were taken are to be written
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
        second = Signal()
        low_arriving, high_arriving = Signal(), Signal()
        low_word, low, high = Signal(halves), Signal(halves), Signal(halves)
        values, address = Signal.like(self.i.p.values), Signal(16)
        full, move = Signal(), Signal()
        low_sums, high_sums = Signal(halves), Signal(halves)
        write_address, writing, writing_high = Signal(16), Signal(), Signal()
        request = self.memory.request

        # The high half is not asked for while the pair before waits to be added, so that its own
        # word, which cannot wait, finds room.
        m.d.comb += [
            request.valid.eq(self.i.valid & (~second | ~full | move)),
            request.payload.eq(self.i.p.address + second),
            self.i.ready.eq(second & request.ready & (~full | move)),
            move.eq(full & (~writing | (writing_high & self.o.ready))),
            self.busy.eq(high_arriving | full | writing),
            self.o.valid.eq(writing),
            self.o.p.address.eq(write_address + writing_high),
            self.o.p.data.eq(Mux(writing_high, high_sums.as_value(), low_sums.as_value())),
        ]
        asked = request.valid & request.ready
        m.d.sync += [low_arriving.eq(asked & ~second), high_arriving.eq(asked & second)]
        with m.If(asked):
            m.d.sync += second.eq(~second)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [values.eq(self.i.p.values), address.eq(self.i.p.address)]
        with m.If(low_arriving):
            m.d.sync += low_word.eq(self.memory.data)
        with m.If(high_arriving):
            m.d.sync += [low.eq(low_word), high.eq(self.memory.data), full.eq(1)]
        with m.Elif(move):
            m.d.sync += full.eq(0)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [writing_high.eq(~writing_high), writing.eq(~writing_high)]
        with m.If(move):
            m.d.sync += [writing.eq(1), writing_high.eq(0), write_address.eq(address)]
            for index in range(elements):
                old = Cat(low[index], high[index]).as_signed()
                total = saturated(old + values[index], INT32_MAX)
                m.d.sync += Cat(low_sums[index], high_sums[index]).eq(total)
        return m
