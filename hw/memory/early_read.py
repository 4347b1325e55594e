"""Reads the first words of an instruction while it waits for its start."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import HardwareConfig
from hw.interfaces import ADDRESS_BITS, COUNT_BITS, ReadCommand
from hw.memory.fifo import Fifo

EARLY_WORDS = 32
"""Words of an instruction that are read before it starts, at most: what a table of 64 bits holds
(AMD UG574), so that fewer would not take fewer of them."""


class EarlyRead(wiring.Component):
    """Asks for the first words of the command that its client is about to give.

    They wait in a queue that has room for all of them, so that nobody else waits for the client.
    When the client gives the command, the rest is asked for. A command that was not known ahead
    is asked for in whole, a cycle after it was given; words leave 2 cycles after they come.

    A client takes all words of its commands before its next one is known ahead, so that the queue
    is empty then, and between programs.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    ahead : In(1), ``asked`` shows the client's next command, which it has not given yet; it must
        give it some time, and shows it until then. Not in a cycle in which it gives one
    asked : In(ReadCommand()), from the client
    words : Out(stream of port words), to the client
    command : Out(ReadCommand()), to the port
    data : In(stream of port words), from the port
    """

    asked: stream.Interface
    words: stream.Interface
    command: stream.Interface
    data: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "ahead": In(1),
            "asked": In(ReadCommand()),
            "words": Out(stream.Signature(config.port_bits)),
            "command": Out(ReadCommand()),
            "data": In(stream.Signature(config.port_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = Fifo(self.config.port_bits, EARLY_WORDS)
        connect(m, flipped(self.data), queue.i)
        address, left = Signal(ADDRESS_BITS), Signal(COUNT_BITS)
        more, given = Signal(), Signal(init=1)
        m.d.comb += [
            more.eq(left > EARLY_WORDS),
            self.command.p.address.eq(address),
            self.command.p.words.eq(left),
            # Words of a command that is not given yet would be taken for those of the one before.
            self.words.valid.eq(queue.o.valid & given),
            self.words.payload.eq(queue.o.payload),
            queue.o.ready.eq(self.words.ready & given),
        ]
        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.asked.ready.eq(1)
                m.d.sync += [
                    address.eq(self.asked.p.address), left.eq(self.asked.p.words),
                ]
                with m.If(self.asked.valid):
                    m.next = "ask"
                with m.Elif(self.ahead & ~queue.o.valid):
                    m.d.sync += given.eq(0)
                    m.next = "early"
            with m.State("early"):
                m.d.comb += [
                    self.command.valid.eq(1),
                    self.command.p.words.eq(Mux(more, EARLY_WORDS, left)),
                ]
                with m.If(self.command.ready):
                    m.d.sync += [
                        address.eq(address + EARLY_WORDS * self.config.port_bytes),
                        left.eq(Mux(more, left - EARLY_WORDS, 0)),
                    ]
                    m.next = "wait"
            with m.State("wait"):
                m.d.comb += self.asked.ready.eq(1)
                with m.If(self.asked.valid):
                    m.d.sync += given.eq(1)
                    m.next = "ask"
                    with m.If(left == 0):
                        m.next = "idle"
            with m.State("ask"):
                m.d.comb += self.command.valid.eq(1)
                with m.If(self.command.ready):
                    m.next = "idle"
        return m
