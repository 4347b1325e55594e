"""Values of rows under way, found and used in the order of the rows."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, Signature


class RowTable(wiring.Component):
    """A value for each slot of a ring; a value is there in the cycle after it was written.

    No more than ``2**slot_bits`` rows are under way: a slot is free when it is written again.

    Parameters
    ----------
    slot_bits : bits of a slot's number
    shape : shape of the values
    readers : number of readers

    Members
    -------
    start : In(1), forget all values, go on with slot 0
    valid : In(1), value : In(shape), of the next row
    reads : In, an array over readers: data is the value of slot, without a delay
    known : Out(1), more values were written than used
    used : In(1), the next row has used its value (while ``known``)
    """

    def __init__(self, slot_bits: int, shape: Any, readers: int = 1) -> None:
        self.slot_bits = slot_bits
        self.shape = shape
        self.readers = readers
        super().__init__({
            "start": In(1),
            "valid": In(1),
            "value": In(shape),
            "reads": In(Signature({"slot": Out(slot_bits), "data": In(shape)})).array(readers),
            "known": Out(1),
            "used": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(
            shape=self.shape, depth=1 << self.slot_bits, init=[]
        )
        write = memory.write_port()
        following, waiting = Signal(self.slot_bits), Signal(self.slot_bits + 1)
        m.d.comb += [
            write.en.eq(self.valid),
            write.addr.eq(following),
            write.data.eq(self.value),
            self.known.eq(waiting != 0),
        ]
        for reader in self.reads:
            read = memory.read_port(domain="comb")
            m.d.comb += [read.addr.eq(reader.slot), reader.data.eq(read.data)]
        with m.If(self.start):
            m.d.sync += [following.eq(0), waiting.eq(0)]
        with m.Else():
            m.d.sync += [
                following.eq(following + self.valid), waiting.eq(waiting + self.valid - self.used),
            ]
        return m
