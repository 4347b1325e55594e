"""One element of the norm engine."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.fixed import INT16_MAX
from hw.golden.norm import UP_SHIFT_MAX
from hw.units.reciprocal_root import DOWN_BITS
from hw.units.rounding import round_half, saturated, shift_half

STAGES = 8
PRODUCT_STAGE, WEIGHT_STAGE, BIAS_STAGE = 2, 5, 7
EXPONENT_BITS = 5
MEAN_BITS = 18
CENTERED_BITS = 19
"""A shifted value has 17 bits and a sign, its distance from the mean one more."""
PRODUCT_BITS = 2 * CENTERED_BITS
UNIT_WIDTH = 24
"""A value over the root of its row's sum of squares is at most 1: 22 fraction bits, 1, sign."""


class NormLane(wiring.Component):
    """One element of `hw.golden.norm.normalize` in `STAGES` registered stages.

    Stage k loads its registers in the cycles in which bit k of ``enable`` is set. Stage 0 takes
    the magnitude and shifts, stage 2 multiplies ``xs`` by itself or by ``factor``; the rest makes
    the result of the product.

    Members
    -------
    enable : In(STAGES)
    low, word : In(16), the value's low half (if ``wide``) and its high half or all of it
    wide, present : In(1), taken by stage 0; an absent value is 0, also less the mean
    exponent : In(5), ``e + 8``, taken by stage 0
    mean : In(signed(18)), taken by stage 1
    square : In(1), factor : In(signed(19)), taken by stage 2
    down : In(5), ``16 + k``, taken by stage 3
    weight : In(signed(16)), taken by stage 5
    shift : In(6), taken by stage 6
    bias : In(signed(16)), taken by stage 7
    magnitude : Out(32) of stage 0
    product : Out(signed(38)) of stage 2
    result : Out(signed(16)) of stage 7
    """

    def __init__(self) -> None:
        super().__init__({
            "enable": In(STAGES),
            "low": In(16),
            "word": In(16),
            "wide": In(1),
            "present": In(1),
            "exponent": In(EXPONENT_BITS),
            "mean": In(signed(MEAN_BITS)),
            "square": In(1),
            "factor": In(signed(CENTERED_BITS)),
            "down": In(DOWN_BITS),
            "weight": In(signed(16)),
            "shift": In(6),
            "bias": In(signed(16)),
            "magnitude": Out(32),
            "product": Out(signed(PRODUCT_BITS)),
            "result": Out(signed(16)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        x = Signal(signed(32))
        with m.If(self.present):
            wide = Cat(self.low, self.word).as_signed()
            m.d.comb += x.eq(Mux(self.wide, wide, self.word.as_signed()))

        present = Signal()
        # A row's exponent leaves 16 bits, a sign and the half.
        shifted, xs = Signal(signed(MEAN_BITS)), Signal(signed(CENTERED_BITS))
        halves1, unit = Signal(signed(UNIT_WIDTH + 1)), Signal(signed(UNIT_WIDTH))
        weighted, halves2 = Signal(signed(UNIT_WIDTH + 16)), Signal(signed(UNIT_WIDTH + 17))
        stages = [
            [
                self.magnitude.eq(Mux(x < 0, -x, x)),
                shifted.eq(shift_half(x << UP_SHIFT_MAX, self.exponent)),
                present.eq(self.present),
            ],
            [xs.eq(Mux(present, round_half(shifted) - self.mean, 0))],
            [self.product.eq(xs * Mux(self.square, xs, self.factor))],
            [halves1.eq(shift_half(self.product << 6, self.down))],
            [unit.eq(round_half(halves1))],
            [weighted.eq(unit * self.weight)],
            [halves2.eq(shift_half(weighted, self.shift))],
            [self.result.eq(saturated(round_half(halves2) + self.bias, INT16_MAX))],
        ]
        assert len(stages) == STAGES
        for stage, statements in enumerate(stages):
            with m.If(self.enable[stage]):
                m.d.sync += statements
        return m
