"""Parameters of a NORM instruction, read once and kept for all its rows."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.interfaces import MemoryRead
from hw.isa import LINE_BYTES
from hw.memory.small_memory import SmallMemory
from hw.units.row_limits import norm_words_max

HEADER = data.StructLayout({
    "shift": 8, "unused": 8, "columns": 16, "inverse": 32, "epsilon": 64,
})
"""The used part of the header line."""


def header_words(config: HardwareConfig) -> int:
    """Port words of the header line."""
    return LINE_BYTES // config.port_bytes


class NormParameters(wiring.Component):
    """Takes the header line, then a word of weights and a word of biases for each vector word.

    A port word a cycle. The memories hold `hw.units.row_limits.norm_words_max` words each.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    start : In(1), forget the parameters and take new ones from the next cycle on
    count : In(12), vector words of a row, held from ``start`` on
    words : In(stream of port words)
    known : Out(1), the header is complete
    header : Out(HEADER)
    loaded : Out(12), vector words whose weights and biases can be read
    weight_read, bias_read : In(MemoryRead)
    """

    words: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.address_bits = bits_for(norm_words_max(config))
        super().__init__({
            "start": In(1),
            "count": In(12),
            "words": In(stream.Signature(config.port_bits)),
            "known": Out(1),
            "header": Out(HEADER),
            "loaded": Out(12),
            "weight_read": In(MemoryRead(self.address_bits, config.port_bits)),
            "bias_read": In(MemoryRead(self.address_bits, config.port_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.config.port_bits
        m.submodules.weights = weights = SmallMemory(self.address_bits, width)
        m.submodules.biases = biases = SmallMemory(self.address_bits, width)
        wiring.connect(m, weights.read, wiring.flipped(self.weight_read))
        wiring.connect(m, biases.read, wiring.flipped(self.bias_read))

        active, second, taken = Signal(), Signal(), Signal()
        beats = header_words(self.config)
        beat = Signal(range(beats))
        m.d.comb += [
            self.words.ready.eq(active),
            taken.eq(active & self.words.valid),
            weights.write.valid.eq(taken & self.known & ~second),
            biases.write.valid.eq(taken & self.known & second),
        ]
        for memory in (weights, biases):
            m.d.comb += [
                memory.write.address.eq(self.loaded), memory.write.data.eq(self.words.payload),
            ]
        with m.If(self.start):
            m.d.sync += [
                active.eq(1), self.known.eq(0), beat.eq(0), second.eq(0), self.loaded.eq(0),
            ]
        with m.Elif(taken & ~self.known):
            m.d.sync += [beat.eq(beat + 1), self.known.eq(beat == beats - 1)]
            for n, low in enumerate(range(0, HEADER.size, width)):
                part = self.header.as_value()[low:low + width]
                with m.If(beat == n):
                    m.d.sync += part.eq(self.words.payload)
        with m.Elif(taken):
            m.d.sync += second.eq(~second)
            with m.If(second):
                m.d.sync += [
                    self.loaded.eq(self.loaded + 1), active.eq(self.loaded + 1 != self.count),
                ]
        return m
