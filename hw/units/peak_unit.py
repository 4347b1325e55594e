"""Largest magnitude of a token after its channel factors."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import ALPHA_MAX, HardwareConfig
from hw.golden.quantize import NORMAL_BITS

FACTOR_BITS = 3
"""Width of a channel factor."""


class PeakUnit(wiring.Component):
    """Maximum of ``abs(x) << (ALPHA_MAX - factor)`` over all elements since ``clear``.

    A word a cycle, never refused. ``busy`` from the cycle after a word came until ``peak`` covers
    it, ``log2(word_elements) + 2`` cycles later.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    clear : In(1), forget the peak (while not busy)
    valid, word, factors : In, word_elements int16 and the factors of their chunks
    busy : Out(1)
    peak : Out(19)
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "clear": In(1),
            "valid": In(1),
            "word": In(data.ArrayLayout(signed(16), config.word_elements)),
            "factors": In(data.ArrayLayout(FACTOR_BITS, config.chunks_per_word)),
            "busy": Out(1),
            "peak": Out(NORMAL_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        stages = 0

        def stage(values: list[Value]) -> list[Value]:
            nonlocal stages
            registers = []
            for n, value in enumerate(values):
                register = Signal(NORMAL_BITS, name=f"stage_{stages}_{n}")
                m.d.sync += register.eq(value)
                registers.append(register)
            stages += 1
            return registers

        def pairs(values: list[Value]) -> list[Value]:
            halves = zip(values[::2], values[1::2], strict=True)
            return stage([Mux(low > high, low, high) for low, high in halves])

        # The maximum of a chunk needs only one shift, as its elements share their factor.
        factors = self.factors.as_value()
        elements = [self.word[n] for n in range(self.config.word_elements)]
        values = stage([Mux(element < 0, -element, element) for element in elements])
        while len(values) > self.config.chunks_per_word:
            values = pairs(values)
        for n in range(stages):
            delayed = Signal.like(factors, name=f"factors_{n}")
            m.d.sync += delayed.eq(factors)
            factors = delayed
        values = stage([
            value << (ALPHA_MAX - factors.word_select(n, FACTOR_BITS))[:FACTOR_BITS]
            for n, value in enumerate(values)
        ])
        while len(values) > 1:
            values = pairs(values)

        filled = Signal(stages)
        m.d.comb += self.busy.eq(filled.any())
        m.d.sync += filled.eq(Cat(self.valid, filled))
        with m.If(self.clear):
            m.d.sync += self.peak.eq(0)
        with m.Elif(filled[-1] & (values[0] > self.peak)):
            m.d.sync += self.peak.eq(values[0])

        return m
