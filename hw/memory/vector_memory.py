"""On-chip memory of int16 activations, shared by the engines."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.interfaces import VectorRead, VectorWrite
from hw.memory.arbiter import RoundRobin


class VectorMemory(wiring.Component):
    """One word is read and one written each cycle; each side serves its clients in turn.

    A read returns every write that was transferred in an earlier cycle. A read and a write of one
    word in the same cycle are not ordered. The data bus is shared: it holds the word of the client
    whose request was taken in the cycle before.

    Parameters
    ----------
    config : HardwareConfig
    readers, writers : number of clients

    Members
    -------
    reads : In(VectorRead(config)), an array over readers
    writes : In(VectorWrite(config)), an array over writers
    events : Out({vector_reads, vector_writes}), words that are read and written in this cycle
    """

    def __init__(self, config: HardwareConfig, readers: int, writers: int) -> None:
        self.config = config
        self.readers = readers
        self.writers = writers
        super().__init__({
            "reads": In(VectorRead(config)).array(readers),
            "writes": In(VectorWrite(config)).array(writers),
            "events": Out(data.StructLayout({"vector_reads": 1, "vector_writes": 1})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self.config.vector_words
        m.submodules.memory = memory = Memory(shape=self.config.port_bits, depth=depth, init=[])
        m.submodules.readers = readers = RoundRobin(self.readers)
        m.submodules.writers = writers = RoundRobin(self.writers)
        address_bits = bits_for(depth)

        read_port = memory.read_port()
        read_address = Signal(address_bits)
        m.d.comb += [
            readers.requests.eq(Cat(client.request.valid for client in self.reads)),
            readers.advance.eq(1),
            read_port.en.eq(readers.requests.any()),
            read_port.addr.eq(read_address),
            self.events.vector_reads.eq(readers.requests.any()),
        ]
        for number, client in enumerate(self.reads):
            m.d.comb += [
                client.request.ready.eq(readers.grant[number]),
                client.data.eq(read_port.data),
            ]
            with m.If(readers.grant[number]):
                m.d.comb += read_address.eq(client.request.payload)

        write_port = memory.write_port()
        chosen = Signal.like(self.writes[0].payload)
        m.d.comb += [
            writers.requests.eq(Cat(client.valid for client in self.writes)),
            writers.advance.eq(1),
            write_port.en.eq(writers.requests.any()),
            write_port.addr.eq(chosen.address[:address_bits]),
            write_port.data.eq(chosen.data),
            self.events.vector_writes.eq(writers.requests.any()),
        ]
        for number, client in enumerate(self.writes):
            m.d.comb += client.ready.eq(writers.grant[number])
            with m.If(writers.grant[number]):
                m.d.comb += chosen.eq(client.payload)
        return m
