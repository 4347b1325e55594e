"""On-chip memories of the tokens' importance and of the order that it gives them."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, Signature, connect, flipped

from hw.golden.importance import IMPORTANCE_BITS, ORDER_ENTRIES
from hw.interfaces import MemoryRead
from hw.memory.small_memory import MemoryWrite, SmallMemory

ENTRY_BITS = (ORDER_ENTRIES - 1).bit_length()
ORDER_READERS = 2
"""Quantize, drain."""


def ImportanceAdd() -> Signature:
    """Adds to an entry, or sets it (``fresh``); never refused, not in neighbouring cycles."""
    return Signature({
        "valid": Out(1),
        "fresh": Out(1),
        "entry": Out(ENTRY_BITS),
        "value": Out(IMPORTANCE_BITS),
    })


def OrderRead() -> Signature:
    """Client of the order: the token at a place."""
    return MemoryRead(ENTRY_BITS, ENTRY_BITS)


class TokenOrder(wiring.Component):
    """Importance by token, tokens by place; a read returns every write of an earlier cycle.

    An addition is in its entry 2 cycles later; importance is read and added to in turn only.

    Members
    -------
    add : In(ImportanceAdd())
    importance : In(MemoryRead(8, 24))
    order : In(MemoryWrite(8, 8))
    reads : In(OrderRead()), an array of quantize and drain
    """

    def __init__(self) -> None:
        super().__init__({
            "add": In(ImportanceAdd()),
            "importance": In(MemoryRead(ENTRY_BITS, IMPORTANCE_BITS)),
            "order": In(MemoryWrite(ENTRY_BITS, ENTRY_BITS)),
            "reads": In(OrderRead()).array(ORDER_READERS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.entries = entries = SmallMemory(ENTRY_BITS, IMPORTANCE_BITS)
        add = self.add
        value, fresh = Signal.like(add.value), Signal()
        m.d.sync += [
            entries.write.valid.eq(add.valid), entries.write.address.eq(add.entry),
            value.eq(add.value), fresh.eq(add.fresh),
        ]
        m.d.comb += [
            entries.read.en.eq(add.valid | self.importance.en),
            entries.read.address.eq(Mux(add.valid, add.entry, self.importance.address)),
            entries.write.data.eq(Mux(fresh, 0, entries.read.data) + value),
            self.importance.data.eq(entries.read.data),
        ]
        for number in range(ORDER_READERS):
            places = SmallMemory(ENTRY_BITS, ENTRY_BITS)
            m.submodules[f"places_{number}"] = places
            m.d.comb += [
                places.write.valid.eq(self.order.valid),
                places.write.address.eq(self.order.address),
                places.write.data.eq(self.order.data),
            ]
            connect(m, flipped(self.reads[number]), places.read)
        return m
