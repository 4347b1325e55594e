"""One element of the dequantizer."""

from __future__ import annotations

from amaranth import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.fixed import INT16_MAX
from hw.golden.dequant import INT32_MAX
from hw.units.rounding import round_half, saturated, shift_half

STAGES = 7
SHIFT1_STAGE, SCALE_STAGE, SHIFT2_STAGE = 2, 4, 5


class DequantizerLane(wiring.Component):
    """One column of `hw.golden.dequant.dequantize` in `STAGES` registered stages.

    Stage k loads its registers in the cycles in which bit k of ``enable`` is set.

    Members
    -------
    enable : In(STAGES)
    sum, zero : In(signed(32)), multiplier, bias : In(signed(16)); taken by stage 0
    shift1 : In(6), taken by stage `SHIFT1_STAGE`
    scale : In(19), taken by stage `SCALE_STAGE`
    shift2 : In(6), taken by stage `SHIFT2_STAGE`
    result : Out(signed(16))
    """

    def __init__(self) -> None:
        super().__init__({
            "enable": In(STAGES),
            "sum": In(signed(32)),
            "zero": In(signed(32)),
            "multiplier": In(signed(16)),
            "bias": In(signed(16)),
            "shift1": In(6),
            "scale": In(19),
            "shift2": In(6),
            "result": Out(signed(16)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total, multiplier = Signal(signed(33)), Signal(signed(16))
        product, halves1 = Signal(signed(48)), Signal(signed(49))
        stage1 = Signal(signed(32))
        scaled, halves2 = Signal(signed(51)), Signal(signed(52))
        biases = [Signal(signed(16), name=f"bias{stage}") for stage in range(STAGES - 1)]
        stages = [
            [total.eq(self.sum + self.zero), multiplier.eq(self.multiplier)],
            [product.eq(total * multiplier)],
            [halves1.eq(shift_half(product, self.shift1))],
            [stage1.eq(saturated(round_half(halves1), INT32_MAX))],
            [scaled.eq(stage1 * self.scale)],
            [halves2.eq(shift_half(scaled, self.shift2))],
            [self.result.eq(saturated(round_half(halves2) + biases[-1], INT16_MAX))],
        ]
        assert len(stages) == STAGES
        for stage, statements in enumerate(stages):
            with m.If(self.enable[stage]):
                m.d.sync += statements
                if stage < STAGES - 1:
                    m.d.sync += biases[stage].eq(biases[stage - 1] if stage else self.bias)
        return m
