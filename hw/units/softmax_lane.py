"""One element of the softmax: its score, and its weight relative to the row's maximum."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.golden.softmax import EXP_TABLE, FRACTION_BITS, LOG2_ZERO, SLOPE_BITS
from hw.isa import FIELDS, Opcode

STAGES = 5
SCORE_STAGES = 2
"""Stages after which ``score`` is there; the others need the row's maximum."""
PENALTY_SHIFT = SLOPE_BITS - FRACTION_BITS
PENALTY_BITS = sum(FIELDS[Opcode.SOFTMAX][name] for name in ("slope", "position"))
"""Bits of a slope times a distance."""
SCORE_BITS = PENALTY_BITS - PENALTY_SHIFT + 2
"""Bits of a signed score, whose penalty is far longer than the score itself."""
UNSEEN = -(1 << SCORE_BITS - 1)
"""Score of a position that the row does not see: below all that it can see."""
GAP_BITS = 12
"""The gap to the maximum saturates; its largest value weighs 0 in both forms."""
TABLE_SHIFT = 7
"""Low bits of `EXP_TABLE` that no rounding looks at."""


def offset_bits(config: HardwareConfig) -> int:
    """Bits of a slope times the place of an element in its word."""
    return FIELDS[Opcode.SOFTMAX]["slope"] + bits_for(config.word_elements)


class SoftmaxLane(wiring.Component):
    """One element of `hw.golden.softmax.softmax` in `STAGES` registered stages.

    Stage k loads its registers in the cycles in which bit k of ``enable`` is set.

    Parameters
    ----------
    config : HardwareConfig, codes of powers of two only with ``log2_softmax``

    Members
    -------
    enable : In(STAGES)
    word_score : In(signed(16)), taken by stage 0 like the next four
    up : In(4), fraction bits that the score lacks
    base : In, penalty of the word's first element before its shift, the rounding half included
    offset : In, slope times the place of the element in its word
    seen : In(1)
    score : Out, after stage 1; `UNSEEN` if not seen
    top : In, largest score of the row, taken by stage 2
    log2 : In(1), taken by stage 4
    weight : Out(8), numerator or code
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "enable": In(STAGES),
            "word_score": In(signed(16)),
            "up": In(4),
            "base": In(signed(PENALTY_BITS + 2)),
            "offset": In(offset_bits(config)),
            "seen": In(1),
            "score": Out(signed(SCORE_BITS)),
            "top": In(signed(SCORE_BITS)),
            "log2": In(1),
            "weight": Out(8),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.powers = powers = memory.Memory(
            shape=8, depth=1 << FRACTION_BITS, init=[int(x) >> TABLE_SHIFT for x in EXP_TABLE]
        )
        power = powers.read_port()

        seen = Signal()
        raised = Signal(signed(16 + FRACTION_BITS))
        penalty = Signal(signed(SCORE_BITS))
        distance = Signal(signed(SCORE_BITS + 1))
        gap = Signal(GAP_BITS)
        halves = Signal(3)
        vanished = Signal()
        weight = Signal(8)
        m.d.comb += [
            distance.eq(self.top - self.score),
            power.en.eq(self.enable[3]),
            power.addr.eq(gap[:FRACTION_BITS]),
            weight.eq(Mux(vanished, 0, ((power.data >> halves) + 1) >> 1)),
        ]
        stages = [
            [
                raised.eq(self.word_score << self.up),
                penalty.eq((self.base - self.offset) >> PENALTY_SHIFT),
                seen.eq(self.seen),
            ],
            [self.score.eq(Mux(seen, raised - penalty, UNSEEN))],
            [gap.eq(Mux(distance[GAP_BITS:].any(), -1, distance))],
            [halves.eq(gap[FRACTION_BITS:]), vanished.eq(gap[-1])],
            [self.weight.eq(weight)],
        ]
        if self.config.log2_softmax:
            rounded = Signal(GAP_BITS + 1 - FRACTION_BITS)
            code = Signal(4)
            m.d.comb += rounded.eq((gap + (1 << FRACTION_BITS - 1)) >> FRACTION_BITS)
            stages[3].append(code.eq(Mux(rounded > LOG2_ZERO, LOG2_ZERO, rounded)))
            stages[4] = [self.weight.eq(Mux(self.log2, code, weight))]
        assert len(stages) == STAGES
        for stage, statements in enumerate(stages):
            with m.If(self.enable[stage]):
                m.d.sync += statements
        return m
