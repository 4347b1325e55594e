"""AXI4 read master: commands become bursts, their words become one stream."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import HardwareConfig
from hw.interfaces import ADDRESS_BITS, COUNT_BITS, ReadCommand
from hw.memory.axi import BEATS_MAX, BURST_INCR, CACHE_NORMAL, PAGE_BYTES, Axi4Read, size_code
from hw.memory.fifo import Fifo


class AxiReadMaster(wiring.Component):
    """Reads words in order, as many ahead as the data queue can take.

    A command is taken every cycle when each needs one burst. A burst goes out 2 cycles after its
    command and is reserved in the queue, so that the read data channel is never stalled; words
    leave 2 cycles after they arrive, one a cycle. Bursts end at multiples of their longest length
    (an eighth of the queue, at most 64 beats), so that none crosses 4 KiB.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    command : In(ReadCommand())
    words : Out(stream of port words)
    axi : Out(Axi4Read(config))
    events : Out({read_words}), words that arrived
    error : Out(1), high for a cycle after a word came with an error response
    """

    command: stream.Interface
    words: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.depth = max(4, config.read_fifo_words)
        self.beats = min(BEATS_MAX, PAGE_BYTES // config.port_bytes, max(1, self.depth // 8))
        super().__init__({
            "command": In(ReadCommand()),
            "words": Out(stream.Signature(config.port_bits)),
            "axi": Out(Axi4Read(config)),
            "events": Out(data.StructLayout({"read_words": 1})),
            "error": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, beats = self.axi, self.beats
        size = size_code(self.config)
        m.submodules.queue = queue = Fifo(self.config.port_bits, self.depth)
        connect(m, queue.o, flipped(self.words))
        m.d.comb += [
            queue.i.payload.eq(axi.rdata),
            queue.i.valid.eq(axi.rvalid),
            axi.rready.eq(1),
            axi.arsize.eq(size),
            axi.arburst.eq(BURST_INCR),
            axi.arcache.eq(CACHE_NORMAL),
            self.events.read_words.eq(axi.rvalid),
        ]
        m.d.sync += self.error.eq(axi.rvalid & (axi.rresp != 0))

        address = Signal(ADDRESS_BITS)
        remaining = Signal(COUNT_BITS)
        burst = Signal(range(beats + 1))
        to_boundary = Signal(range(beats + 1))
        final, issue = Signal(), Signal()
        free = Signal(range(self.depth + 1), init=self.depth)
        m.d.comb += [
            to_boundary.eq(beats - address[size:size + beats.bit_length() - 1]),
            final.eq(remaining <= to_boundary),
            burst.eq(Mux(final, remaining, to_boundary)),
            issue.eq((remaining != 0) & (~axi.arvalid | axi.arready) & (free >= burst)),
            self.command.ready.eq((remaining == 0) | (issue & final)),
        ]
        with m.If(self.command.ready):
            m.d.sync += [
                address.eq(self.command.p.address),
                remaining.eq(Mux(self.command.valid, self.command.p.words, 0)),
            ]
        with m.Elif(issue):
            m.d.sync += [address.eq(address + (burst << size)), remaining.eq(remaining - burst)]
        with m.If(issue):
            m.d.sync += [
                axi.arvalid.eq(1), axi.araddr.eq(address), axi.arlen.eq(burst - 1),
            ]
        with m.Elif(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        taken = self.words.valid & self.words.ready
        m.d.sync += free.eq(free + taken - Mux(issue, burst, 0))
        return m
