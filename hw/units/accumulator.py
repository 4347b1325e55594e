"""Accumulator: two banks of words of sums."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import Accumulate, AccumulatorRead
from hw.units.accumulator_slice import AccumulatorSlice
from hw.units.slice_lanes import slice_lanes
from hw.verilog import module


class Accumulator(wiring.Component):
    """Add sums to words of one bank while the drain engine reads the other.

    One word a cycle. A word that is written in a cycle can be written again, or read, two
    cycles later. Sums wrap around; the compiler proves that they fit when their zero is added.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    write : In(Accumulate), never refused
    read : In(AccumulatorRead), of a bank that is not written in the same cycle
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
        adding, first, bank, read_bank = Signal(), Signal(), Signal(), Signal()
        address = Signal(range(self.config.accumulator_words))
        bits, lanes = self.config.sum_bits, self.config.lanes
        base, sums = Signal(bits), Signal(lanes * bits)
        m.d.sync += [adding.eq(write.valid), read_bank.eq(read.bank)]
        with m.If(write.valid):
            m.d.sync += [
                first.eq(write.first),
                bank.eq(write.bank),
                address.eq(write.address),
                base.eq(write.base),
                sums.eq(write.sums.as_value()),
            ]
        m.d.comb += self.events.accumulator_steps.eq(adding)

        fetch = [write.valid & (write.bank == index) for index in range(2)]
        width = slice_lanes(self.config) * bits
        shown = []
        for low in range(0, lanes * bits, width):
            part = module("accumulator_slice", AccumulatorSlice(
                width // bits, bits, self.config.accumulator_words))
            m.submodules[f"slice{low // width}"] = part
            m.d.comb += [
                part.add.eq(adding),
                part.bank.eq(bank),
                part.first.eq(first),
                part.add_address.eq(address),
                part.base.eq(base),
                part.sums.eq(sums[low:low + width]),
                part.read_bank.eq(read_bank),
            ]
            for index in range(2):
                m.d.comb += [
                    part.fetch[index].eq(fetch[index] | (read.en & (read.bank == index))),
                    part.fetch_address[index].eq(
                        Mux(fetch[index], write.address, read.address)
                    ),
                ]
            shown.append(part.data)
        m.d.comb += read.data.as_value().eq(Cat(shown))
        return m
