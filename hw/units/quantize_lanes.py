"""Multiplication of a word of activations with their token's inverse peak."""

from __future__ import annotations

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import ALPHA_MAX, HardwareConfig
from hw.golden.quantize import INVERSE_BITS, NORMAL_BITS

INVERSE_WIDTH = ((127 << INVERSE_BITS) >> (NORMAL_BITS - 1)).bit_length()
"""Bits of the largest quotient ``(127 << 26) // peak`` of a 19-bit peak."""
SHIFT_BITS = (NORMAL_BITS - 1 + ALPHA_MAX).bit_length()
"""Bits of the sum of a token's normalising shift and a chunk's factor shift."""


class QuantizeLanes(wiring.Component):
    """``round_shift((x << shift) * inverse, 26)`` for all elements of a word.

    A word a cycle; latency 3 cycles. The whole pipeline stands while a word is not taken.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    i : In(stream of {word, shifts, inverse}), a shift for each chunk; ``x << shift`` has 20 bits
    o : Out(stream of word_elements int8)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({
                "word": data.ArrayLayout(signed(16), config.word_elements),
                "shifts": data.ArrayLayout(SHIFT_BITS, config.chunks_per_word),
                "inverse": INVERSE_WIDTH,
            }))),
            "o": Out(stream.Signature(data.ArrayLayout(signed(8), config.word_elements))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        advance = Signal()
        filled = Signal(3)
        inverse = Signal(INVERSE_WIDTH)
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(advance),
            self.o.valid.eq(filled[-1]),
        ]
        with m.If(advance):
            m.d.sync += [filled.eq(Cat(self.i.valid, filled)), inverse.eq(self.i.p.inverse)]
            for n in range(self.config.word_elements):
                shifted = Signal(signed(NORMAL_BITS + 1), name=f"shifted_{n}")
                product = Signal(signed(NORMAL_BITS + 1 + INVERSE_WIDTH), name=f"product_{n}")
                chunk = n // self.config.simd_depth
                m.d.sync += [
                    shifted.eq(self.i.p.word[n] << self.i.p.shifts[chunk]),
                    product.eq(shifted * inverse),
                    self.o.payload[n].eq((product + (1 << (INVERSE_BITS - 1))) >> INVERSE_BITS),
                ]

        return m
