"""Several clients of one external read port."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.interfaces import COUNT_BITS, ReadCommand
from hw.memory.arbiter import RoundRobin
from hw.memory.fifo import Fifo

COMMANDS_IN_FLIGHT = 16
"""Commands whose words are still to come, at most."""


class ReadMux(wiring.Component):
    """Commands of all clients go out in round-robin order; words return to whoever asked.

    A command takes one cycle, words none. Words come back in the order of the commands, so a
    client that does not take its words stops the others: it must not wait for another client
    before it takes what it asked for.

    Parameters
    ----------
    config : HardwareConfig
    clients : number of clients

    Members
    -------
    commands : In(ReadCommand()), an array over clients
    words : Out(stream of port words), an array over clients
    command : Out(ReadCommand()), to the port
    data : In(stream of port words), from the port
    events : Out({client_words}), a bit for each client: it took a word
    """

    command: stream.Interface
    data: stream.Interface

    def __init__(self, config: HardwareConfig, clients: int) -> None:
        self.config = config
        self.clients = clients
        super().__init__({
            "commands": In(ReadCommand()).array(clients),
            "words": Out(stream.Signature(config.port_bits)).array(clients),
            "command": Out(ReadCommand()),
            "data": In(stream.Signature(config.port_bits)),
            "events": Out(data.StructLayout({"client_words": clients})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        owner = data.StructLayout({"client": bits_for(self.clients), "words": COUNT_BITS})
        m.submodules.order = order = Fifo(owner, COMMANDS_IN_FLIGHT)
        m.submodules.arbiter = arbiter = RoundRobin(self.clients)

        room = Signal()
        chosen = Signal.like(self.command.payload)
        m.d.comb += [
            room.eq((~self.command.valid | self.command.ready) & order.i.ready),
            arbiter.requests.eq(Cat(client.valid for client in self.commands)),
            arbiter.advance.eq(room),
            order.i.p.words.eq(chosen.words),
            order.i.valid.eq(room & arbiter.grant.any()),
        ]
        for number, client in enumerate(self.commands):
            m.d.comb += client.ready.eq(room & arbiter.grant[number])
            with m.If(arbiter.grant[number]):
                m.d.comb += [chosen.eq(client.payload), order.i.p.client.eq(number)]
        with m.If(room & arbiter.grant.any()):
            m.d.sync += [self.command.valid.eq(1), self.command.payload.eq(chosen)]
        with m.Elif(self.command.ready):
            m.d.sync += self.command.valid.eq(0)

        taken = Signal(COUNT_BITS)
        transfer, last = Signal(), Signal()
        m.d.comb += [
            transfer.eq(self.data.valid & self.data.ready),
            last.eq(taken + 1 == order.o.p.words),
            order.o.ready.eq(transfer & last),
        ]
        with m.If(transfer):
            m.d.sync += taken.eq(Mux(last, 0, taken + 1))
        for number, client in enumerate(self.words):
            m.d.comb += client.payload.eq(self.data.payload)
            with m.If(order.o.valid & (order.o.p.client == number)):
                m.d.comb += [
                    client.valid.eq(self.data.valid),
                    self.data.ready.eq(client.ready),
                    self.events.client_words[number].eq(transfer),
                ]
        return m
