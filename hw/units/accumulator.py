"""Accumulator: two banks of words of 32-bit sums."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import Accumulate, AccumulatorRead

SUM_BITS = 32


class Accumulator(wiring.Component):
    """Add sums to words of one bank while the drain engine reads the other.

    One word a cycle. A word that is written in a cycle can be written again, or read, two
    cycles later. Sums wrap around; the compiler proves that they fit.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    write : In(Accumulate), never refused
    read : In(AccumulatorRead); wins no port of a bank that is written in the same cycle
    events : Out({accumulator_steps})
    """

    write: wiring.PureInterface
    read: wiring.PureInterface
    events: data.View

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "write": In(Accumulate(config)),
            "read": In(AccumulatorRead(config)),
            "events": Out(data.StructLayout({"accumulator_steps": 1})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        write, read = self.write, self.read
        width = self.config.lanes * SUM_BITS

        adding, first, bank, read_bank = Signal(), Signal(), Signal(), Signal()
        address = Signal(range(self.config.accumulator_words))
        sums, old, new = Signal(width), Signal(width), Signal(width)
        m.d.sync += [adding.eq(write.valid), read_bank.eq(read.bank)]
        with m.If(write.valid):
            m.d.sync += [
                first.eq(write.first),
                bank.eq(write.bank),
                address.eq(write.address),
                sums.eq(write.sums.as_value()),
            ]

        stored = []
        for index in range(2):
            words = memory.Memory(
                shape=width, depth=self.config.accumulator_words, init=[]
            )
            m.submodules[f"bank{index}"] = words
            source, sink = words.read_port(), words.write_port()
            written = write.valid & (write.bank == index)
            m.d.comb += [
                source.en.eq(written | (read.en & (read.bank == index))),
                source.addr.eq(Mux(written, write.address, read.address)),
                sink.en.eq(adding & (bank == index)),
                sink.addr.eq(address),
                sink.data.eq(new),
            ]
            stored.append(source.data)

        lanes = [slice(low, low + SUM_BITS) for low in range(0, width, SUM_BITS)]
        m.d.comb += [
            old.eq(Mux(bank, stored[1], stored[0])),
            new.eq(Mux(first, sums, Cat((old[lane] + sums[lane])[:SUM_BITS] for lane in lanes))),
            read.data.eq(Mux(read_bank, stored[1], stored[0])),
            self.events.accumulator_steps.eq(adding),
        ]
        return m
