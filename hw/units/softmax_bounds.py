"""Which scores a row of a causal softmax sees."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.isa import FIELDS, Opcode

WIDTHS = FIELDS[Opcode.SOFTMAX]


class SoftmaxBounds(wiring.Component):
    """First and last vector word that a row sees, and which of a word's elements.

    The results are those of the position at the last ``load``, from the next cycle on.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    load : In(1)
    position, window, words : In, of the row; a window of 0 has no end
    first, final : Out, words
    distance : Out, from the position back to the first element of word ``first``
    word : In, a word
    visible : Out(1), whether it is not before the first and not behind the last
    seen : Out(word_elements), which elements of ``word`` the row sees
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        words = WIDTHS["words"]
        super().__init__({
            "load": In(1),
            "position": In(WIDTHS["position"]),
            "window": In(WIDTHS["window"]),
            "words": In(words),
            "first": Out(words),
            "final": Out(words),
            "distance": Out(WIDTHS["position"]),
            "word": In(words),
            "visible": Out(1),
            "seen": Out(config.word_elements),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        place_bits = bits_for(self.config.word_elements)
        every = (1 << self.config.word_elements) - 1
        lowest = Signal.like(self.position)
        begins, ends = Signal(self.config.word_elements), Signal(self.config.word_elements)
        at_first, at_final = self.word == self.first, self.word == self.final
        last_word = self.position[place_bits:]
        beyond = last_word >= self.words
        m.d.comb += [
            lowest.eq(Mux(
                (self.window != 0) & (self.position >= self.window),
                self.position - self.window + 1, 0,
            )),
            self.distance.eq(self.position - (self.first << place_bits)),
            self.visible.eq((self.word >= self.first) & (self.word <= self.final)),
            self.seen.eq(Mux(
                self.visible, Mux(at_first, begins, every) & Mux(at_final, ends, every), 0
            )),
        ]
        with m.If(self.load):
            m.d.sync += [
                self.first.eq(lowest[place_bits:]),
                self.final.eq(Mux(beyond, self.words - 1, last_word)),
                begins.eq(every << lowest[:place_bits]),
                ends.eq(Mux(beyond, every, (2 << self.position[:place_bits]) - 1)),
            ]
        return m
