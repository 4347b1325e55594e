"""One pair of elements of the rope engine."""

from __future__ import annotations

from amaranth import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.fixed import INT16_MAX
from hw.golden.rope import ROTATION_BITS
from hw.units.rounding import saturated

STAGES = 4


class RopeLane(wiring.Component):
    """One pair of `hw.golden.rope.rotate` in `STAGES` registered stages.

    Stage k loads its registers in the cycles in which bit k of ``enable`` is set.

    Members
    -------
    enable : In(STAGES)
    even, odd : In(signed(16)), taken by stage 0
    cos, sin : In(signed(16)), taken by stage 1
    even_result, odd_result : Out(signed(16))
    """

    def __init__(self) -> None:
        super().__init__({
            "enable": In(STAGES),
            "even": In(signed(16)),
            "odd": In(signed(16)),
            "cos": In(signed(16)),
            "sin": In(signed(16)),
            "even_result": Out(signed(16)),
            "odd_result": Out(signed(16)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        even, odd = Signal(signed(16)), Signal(signed(16))
        even_cos, odd_sin = Signal(signed(32)), Signal(signed(32))
        odd_cos, even_sin = Signal(signed(32)), Signal(signed(32))
        even_sum, odd_sum = Signal(signed(34)), Signal(signed(34))
        half = 1 << (ROTATION_BITS - 1)
        stages = [
            [even.eq(self.even), odd.eq(self.odd)],
            [
                even_cos.eq(even * self.cos), odd_sin.eq(odd * self.sin),
                odd_cos.eq(odd * self.cos), even_sin.eq(even * self.sin),
            ],
            [even_sum.eq(even_cos - odd_sin + half), odd_sum.eq(odd_cos + even_sin + half)],
            [
                self.even_result.eq(saturated(even_sum >> ROTATION_BITS, INT16_MAX)),
                self.odd_result.eq(saturated(odd_sum >> ROTATION_BITS, INT16_MAX)),
            ],
        ]
        assert len(stages) == STAGES
        for stage, statements in enumerate(stages):
            with m.If(self.enable[stage]):
                m.d.sync += statements
        return m
