"""Reads of the vector memory as a stream."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import VectorRead

SLOTS = 3
"""Words that keep one read a cycle going over the two cycles from request to word."""


class VectorReader(wiring.Component):
    """Words of the vector memory, in the order of their addresses.

    A word a cycle; a word is offered 2 cycles after its request is granted. No more reads are
    under way than there is room for, because the memory's data cannot wait.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    i : In(stream of 16-bit addresses)
    o : Out(stream of vector memory words)
    memory : Out(VectorRead)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "i": In(stream.Signature(16)),
            "o": Out(stream.Signature(config.port_bits)),
            "memory": Out(VectorRead(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        words = [Signal(self.config.port_bits, name=f"word_{n}") for n in range(SLOTS)]
        filled = Signal(SLOTS)
        room = Signal()
        granted = Signal()
        taken = Signal()
        arriving = Signal()
        request = self.memory.request
        m.d.comb += [
            room.eq(sum(filled) + arriving < SLOTS),
            request.valid.eq(self.i.valid & room),
            request.payload.eq(self.i.payload),
            self.i.ready.eq(request.ready & room),
            granted.eq(request.valid & request.ready),
            taken.eq(self.o.valid & self.o.ready),
        ]
        m.d.sync += arriving.eq(granted)

        # Slot 0 is offered; the others move up behind it.
        m.d.comb += [self.o.payload.eq(words[0]), self.o.valid.eq(filled[0])]
        count = Signal(range(SLOTS + 1))
        m.d.comb += count.eq(sum(filled) - taken)
        for n in range(SLOTS):
            with m.If(taken):
                m.d.sync += filled[n].eq(filled[n + 1] if n + 1 < SLOTS else 0)
                if n + 1 < SLOTS:
                    m.d.sync += words[n].eq(words[n + 1])
            with m.If(arriving & (count == n)):
                m.d.sync += [filled[n].eq(1), words[n].eq(self.memory.data)]

        return m
