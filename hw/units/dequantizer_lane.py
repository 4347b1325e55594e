"""One element of the dequantizer."""

from __future__ import annotations

from amaranth import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.fixed import INT16_MAX
from hw.golden.dequant import INT32_MAX, TOKEN_SCALE_BITS
from hw.units.rounding import round_half, saturated, shift_half

STAGES = 8
SHIFT1_STAGE, SCALE_STAGE, SHIFT2_STAGE, BIAS_STAGE = 2, 4, 5, 6
BIAS_SHIFT_BITS = 5


class DequantizerLane(wiring.Component):
    """One column of `hw.golden.dequant.dequantize32` in `STAGES` registered stages.

    Stage k loads its registers in the cycles in which bit k of ``enable`` is set.

    Parameters
    ----------
    sum_bits : of the accumulator; ``sum + zero`` wraps around

    Members
    -------
    enable : In(STAGES)
    sum, zero : In(signed(sum_bits)), multiplier, bias : In(signed(16)); taken by stage 0
    shift1 : In(6), taken by stage `SHIFT1_STAGE`
    scale : In(TOKEN_SCALE_BITS), taken by stage `SCALE_STAGE`
    shift2 : In(6), taken by stage `SHIFT2_STAGE`
    bias_shift : In(BIAS_SHIFT_BITS), 0..16, taken by stage `BIAS_STAGE`
    wide : Out(signed(32))
    narrow : Out(signed(16)), ``wide`` saturated
    """

    def __init__(self, sum_bits: int) -> None:
        self.sum_bits = sum_bits
        super().__init__({
            "enable": In(STAGES),
            "sum": In(signed(sum_bits)),
            "zero": In(signed(sum_bits)),
            "multiplier": In(signed(16)),
            "bias": In(signed(16)),
            "shift1": In(6),
            "scale": In(TOKEN_SCALE_BITS),
            "shift2": In(6),
            "bias_shift": In(BIAS_SHIFT_BITS),
            "wide": Out(signed(32)),
            "narrow": Out(signed(16)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self.sum_bits
        total, multiplier = Signal(signed(bits)), Signal(signed(16))
        product, halves1 = Signal(signed(bits + 16)), Signal(signed(bits + 17))
        stage1 = Signal(signed(32))
        scaled = Signal(signed(32 + TOKEN_SCALE_BITS))
        halves2 = Signal(signed(33 + TOKEN_SCALE_BITS))
        unbiased, bias, biased = Signal(signed(32)), Signal(signed(32)), Signal(signed(33))
        biases = [Signal(signed(16), name=f"bias{stage}") for stage in range(BIAS_STAGE)]
        stages = [
            [total.eq(self.sum + self.zero), multiplier.eq(self.multiplier)],
            [product.eq(total * multiplier)],
            [halves1.eq(shift_half(product, self.shift1))],
            [stage1.eq(saturated(round_half(halves1), INT32_MAX))],
            [scaled.eq(stage1 * self.scale)],
            [halves2.eq(shift_half(scaled, self.shift2))],
            [
                unbiased.eq(saturated(round_half(halves2), INT32_MAX)),
                bias.eq(biases[-1] << self.bias_shift),
            ],
            [
                self.wide.eq(saturated(biased, INT32_MAX)),
                self.narrow.eq(saturated(biased, INT16_MAX)),
            ],
        ]
        assert len(stages) == STAGES
        m.d.comb += biased.eq(unbiased + bias)
        for stage, statements in enumerate(stages):
            with m.If(self.enable[stage]):
                m.d.sync += statements
                if stage < BIAS_STAGE:
                    m.d.sync += biases[stage].eq(biases[stage - 1] if stage else self.bias)
        return m
