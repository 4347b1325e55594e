"""Some lanes of the accumulator."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out


class AccumulatorSlice(wiring.Component):
    """Two banks of words of ``lanes`` sums: one word is added to, one is read, each cycle.

    A slice is one memory of a bank: narrow enough for short wires, and one Verilog module for
    the whole accumulator.

    Parameters
    ----------
    lanes : sums of a word
    sum_bits : bits of a sum, which wraps around
    depth : words of each bank

    Members
    -------
    fetch, fetch_address : In, for each bank: read this word, which arrives in the next cycle
    add, bank, first : In, a cycle after the fetch: add ``sums`` to the word at ``add_address`` that
        was fetched from ``bank``, or to ``base``, if first
    base : In(sum_bits)
    sums : In(lanes x sum_bits)
    read_bank : In, the bank that ``data`` shows
    data : Out(lanes x sum_bits)
    """

    def __init__(self, lanes: int, sum_bits: int, depth: int) -> None:
        self.lanes, self.sum_bits, self.depth = lanes, sum_bits, depth
        width, address_bits = lanes * sum_bits, (depth - 1).bit_length()
        super().__init__({
            "fetch": In(2),
            "fetch_address": In(address_bits).array(2),
            "add": In(1),
            "bank": In(1),
            "first": In(1),
            "add_address": In(address_bits),
            "base": In(sum_bits),
            "sums": In(width),
            "read_bank": In(1),
            "data": Out(width),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, width = self.sum_bits, self.lanes * self.sum_bits
        old, new = Signal(width), Signal(width)
        stored = []
        for index in range(2):
            words = memory.Memory(shape=width, depth=self.depth, init=[])
            m.submodules[f"bank{index}"] = words
            source, sink = words.read_port(), words.write_port()
            m.d.comb += [
                source.en.eq(self.fetch[index]),
                source.addr.eq(self.fetch_address[index]),
                sink.en.eq(self.add & (self.bank == index)),
                sink.addr.eq(self.add_address),
                sink.data.eq(new),
            ]
            stored.append(source.data)
        lanes = [slice(low, low + bits) for low in range(0, width, bits)]
        total = Cat((Mux(self.first, self.base, old[lane]) + self.sums[lane])[:bits]
                    for lane in lanes)
        m.d.comb += [
            old.eq(Mux(self.bank, stored[1], stored[0])),
            new.eq(total),
            self.data.eq(Mux(self.read_bank, stored[1], stored[0])),
        ]
        return m
