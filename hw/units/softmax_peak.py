"""Largest score of a row."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.units.softmax_lane import SCORE_BITS, UNSEEN


class SoftmaxPeak(wiring.Component):
    """Maximum of all scores since ``clear``.

    A word a cycle, never refused. ``busy`` from the cycle after a word came until ``peak`` covers
    it, ``log2(word_elements) + 1`` cycles later.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    clear : In(1), forget the maximum (while not busy)
    valid, scores : In, word_elements scores
    busy : Out(1)
    peak : Out, `UNSEEN` after ``clear``
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "clear": In(1),
            "valid": In(1),
            "scores": In(data.ArrayLayout(signed(SCORE_BITS), config.word_elements)),
            "busy": Out(1),
            "peak": Out(signed(SCORE_BITS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        levels = bits_for(self.config.word_elements)
        filled = Signal(levels)
        enable = Cat(self.valid, filled)
        m.d.comb += self.busy.eq(filled.any())
        m.d.sync += filled.eq(enable)

        values = [self.scores[n] for n in range(self.config.word_elements)]
        for level in range(levels):
            larger = []
            for n, (low, high) in enumerate(zip(values[::2], values[1::2], strict=True)):
                register = Signal(signed(SCORE_BITS), name=f"larger_{level}_{n}")
                with m.If(enable[level]):
                    m.d.sync += register.eq(Mux(low > high, low, high))
                larger.append(register)
            values = larger

        with m.If(self.clear):
            m.d.sync += self.peak.eq(UNSEEN)
        with m.Elif(filled[-1] & (values[0] > self.peak)):
            m.d.sync += self.peak.eq(values[0])
        return m
