"""On-chip memory of operand bytes, with the channel factors and token scales beside it."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import HardwareConfig, bits_for
from hw.golden.dequant import TOKEN_SCALE_BITS
from hw.interfaces import MemoryRead, OperandWrite
from hw.memory.arbiter import RoundRobin
from hw.memory.small_memory import MemoryWrite, SmallMemory

OPERAND_WRITERS = 3
"""Search, quantize, softmax."""
SCALE_WRITERS = 2
"""Quantize, softmax."""
ALPHA_BITS = 3
"""A channel factor."""
ALPHA_ADDRESS_BITS = 12
SCALE_ADDRESS_BITS = 8


def ScaleWrite() -> stream.Signature:
    """Token scales: a quantizer's peaks or a softmax's reciprocals."""
    return stream.Signature(data.StructLayout(
        {"address": SCALE_ADDRESS_BITS, "data": TOKEN_SCALE_BITS}
    ))


class OperandStore(wiring.Component):
    """One operand word is read and one written each cycle; reads are never refused.

    Writers of a memory are served in turn; those of operands enable single nibbles. A read of any
    of the three memories returns every write that was transferred in an earlier cycle; its data is
    there in the next cycle.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    writes : In(OperandWrite(config)), an array of search, quantize and softmax
    read : In(MemoryRead(16, bits of an operand word))
    alpha_write, alpha_read : In, entries of `chunks_per_word` channel factors
    scale_writes : In(ScaleWrite()), an array of quantize and softmax
    scale_read : In, entries of one token scale
    events : Out({operand_reads, operand_writes}), words that are read and written in this cycle
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.alpha_bits = ALPHA_BITS * config.chunks_per_word
        super().__init__({
            "writes": In(OperandWrite(config)).array(OPERAND_WRITERS),
            "read": In(MemoryRead(16, config.word_elements * 8)),
            "alpha_write": In(MemoryWrite(ALPHA_ADDRESS_BITS, self.alpha_bits)),
            "alpha_read": In(MemoryRead(ALPHA_ADDRESS_BITS, self.alpha_bits)),
            "scale_writes": In(ScaleWrite()).array(SCALE_WRITERS),
            "scale_read": In(MemoryRead(SCALE_ADDRESS_BITS, TOKEN_SCALE_BITS)),
            "events": Out(data.StructLayout({"operand_reads": 1, "operand_writes": 1})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.alphas = alphas = SmallMemory(ALPHA_ADDRESS_BITS, self.alpha_bits)
        connect(m, flipped(self.alpha_write), alphas.write)
        connect(m, flipped(self.alpha_read), alphas.read)
        m.submodules.scales = scales = SmallMemory(SCALE_ADDRESS_BITS, TOKEN_SCALE_BITS)
        m.submodules.scalers = scalers = RoundRobin(SCALE_WRITERS)
        m.d.comb += [
            scalers.requests.eq(Cat(client.valid for client in self.scale_writes)),
            scalers.advance.eq(1),
            scales.write.valid.eq(scalers.requests.any()),
        ]
        for number, client in enumerate(self.scale_writes):
            m.d.comb += client.ready.eq(scalers.grant[number])
            with m.If(scalers.grant[number]):
                m.d.comb += [
                    scales.write.address.eq(client.p.address),
                    scales.write.data.eq(client.p.data),
                ]
        connect(m, flipped(self.scale_read), scales.read)

        depth = self.config.operand_words
        address_bits = bits_for(depth)
        m.submodules.memory = memory = Memory(
            shape=self.config.word_elements * 8, depth=depth, init=[]
        )
        m.submodules.writers = writers = RoundRobin(OPERAND_WRITERS)
        read_port = memory.read_port()
        write_port = memory.write_port(granularity=4)
        chosen = Signal.like(self.writes[0].payload)
        m.d.comb += [
            read_port.en.eq(self.read.en),
            read_port.addr.eq(self.read.address[:address_bits]),
            self.read.data.eq(read_port.data),
            self.events.operand_reads.eq(self.read.en),
            writers.requests.eq(Cat(client.valid for client in self.writes)),
            writers.advance.eq(1),
            write_port.addr.eq(chosen.address[:address_bits]),
            write_port.data.eq(chosen.data),
            self.events.operand_writes.eq(writers.requests.any()),
        ]
        for number, client in enumerate(self.writes):
            m.d.comb += client.ready.eq(writers.grant[number])
            with m.If(writers.grant[number]):
                m.d.comb += [chosen.eq(client.payload), write_port.en.eq(client.p.nibbles)]
        return m
