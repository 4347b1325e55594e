"""AXI4 write master: a stream of words goes to memory in bursts."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import ADDRESS_BITS, COUNT_BITS, ReadCommand
from hw.memory.axi import BEATS_MAX, BURST_INCR, CACHE_NORMAL, PAGE_BYTES, Axi4Write, size_code


def WriteWords(config: HardwareConfig) -> stream.Signature:
    """Port words with a strobe for each byte that is to be written."""
    return stream.Signature(data.StructLayout({
        "data": config.port_bits, "strobe": config.port_bytes,
    }))


class AxiWriteMaster(wiring.Component):
    """Writes the words that follow each command.

    A command is taken as soon as all bursts of the one before have begun, so that several wait
    for their responses; words are those of the commands in order. One word a cycle, less one cycle
    a burst; commands of single words take two cycles each. Bursts are 64 beats or what remains
    before the next multiple of their longest length, so that none crosses 4 KiB. Data may go ahead
    of its address.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    command : In(stream of {address, words})
    words : In(WriteWords(config))
    idle : Out(1), every word of all commands that were taken is in memory
    axi : Out(Axi4Write(config))
    events : Out({write_words}), words that the memory took
    error : Out(1), high for a cycle after an error response
    """

    command: stream.Interface
    words: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.beats = min(BEATS_MAX, PAGE_BYTES // config.port_bytes)
        super().__init__({
            "command": In(ReadCommand()),
            "words": In(WriteWords(config)),
            "idle": Out(1),
            "axi": Out(Axi4Write(config)),
            "events": Out(data.StructLayout({"write_words": 1})),
            "error": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, beats = self.axi, self.beats
        size = size_code(self.config)
        address = Signal(ADDRESS_BITS)
        remaining = Signal(COUNT_BITS)
        unanswered = Signal(COUNT_BITS)
        m.d.comb += [
            axi.awsize.eq(size),
            axi.awburst.eq(BURST_INCR),
            axi.awcache.eq(CACHE_NORMAL),
            axi.bready.eq(1),
            self.command.ready.eq(remaining == 0),
            self.idle.eq((remaining == 0) & (unanswered == 0)),
            self.events.write_words.eq(axi.wvalid & axi.wready),
        ]
        m.d.sync += self.error.eq(axi.bvalid & (axi.bresp != 0))

        beats_left = Signal(range(beats + 1))
        to_boundary = Signal(range(beats + 1))
        burst = Signal(range(beats + 1))
        issue = Signal()
        m.d.comb += [
            to_boundary.eq(beats - address[size:size + beats.bit_length() - 1]),
            burst.eq(Mux(remaining <= to_boundary, remaining, to_boundary)),
            issue.eq((remaining != 0) & (beats_left == 0) & (~axi.awvalid | axi.awready)),
        ]
        with m.If(self.command.valid & self.command.ready):
            m.d.sync += [
                address.eq(self.command.p.address),
                remaining.eq(self.command.p.words),
            ]
        with m.If(issue):
            m.d.sync += [
                address.eq(address + (burst << size)),
                remaining.eq(remaining - burst),
                axi.awvalid.eq(1), axi.awaddr.eq(address), axi.awlen.eq(burst - 1),
            ]
        with m.Elif(axi.awready):
            m.d.sync += axi.awvalid.eq(0)
        m.d.sync += unanswered.eq(unanswered + issue - axi.bvalid)

        move = Signal()
        m.d.comb += [
            self.words.ready.eq((beats_left != 0) & (~axi.wvalid | axi.wready)),
            move.eq(self.words.valid & self.words.ready),
        ]
        with m.If(move):
            m.d.sync += [
                axi.wvalid.eq(1), axi.wlast.eq(beats_left == 1),
                axi.wdata.eq(self.words.p.data), axi.wstrb.eq(self.words.p.strobe),
                beats_left.eq(beats_left - 1),
            ]
        with m.Elif(axi.wready):
            m.d.sync += axi.wvalid.eq(0)
        with m.If(issue):
            m.d.sync += beats_left.eq(burst)
        return m
