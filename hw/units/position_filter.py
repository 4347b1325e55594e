"""Position filter: which positions of a word hold an activation above its threshold."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig


class PositionFilter(wiring.Component):
    """`hw.golden.sparsity.kept_positions` of one vector word, combinational.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    word : In(word_elements int16), -32767 or more
    thresholds : In(word_elements 15-bit unsigned, in 16 bits each)
    kept : Out(positions), a bit for each position
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "word": In(data.ArrayLayout(signed(16), config.word_elements)),
            "thresholds": In(data.ArrayLayout(16, config.word_elements)),
            "kept": Out(config.positions),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        above = Signal(self.config.word_elements)
        for n in range(self.config.word_elements):
            x = self.word[n]
            size = Signal(16, name=f"size_{n}")
            m.d.comb += [size.eq(Mux(x < 0, -x, x)), above[n].eq(size > self.thresholds[n])]
        length = self.config.vector_length
        m.d.comb += self.kept.eq(Cat(
            above.word_select(position, length).any() for position in range(self.config.positions)
        ))
        return m
