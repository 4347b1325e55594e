"""Dequantizer: sums to int32 values and int16 activations."""

from __future__ import annotations

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.golden.dequant import TOKEN_SCALE_BITS
from hw.units.dequantizer_lane import (
    BIAS_SHIFT_BITS,
    BIAS_STAGE,
    SCALE_STAGE,
    SHIFT1_STAGE,
    SHIFT2_STAGE,
    STAGES,
    DequantizerLane,
)
from hw.verilog import module


def dequantizer_input(elements: int, sum_bits: int) -> data.StructLayout:
    """Sums of one vector word with the parameters of their columns; no token scale is scale 1.

    Parameters are as they lie in memory; of a zero the lowest ``sum_bits`` bits count.
    """
    return data.StructLayout({
        "sums": data.ArrayLayout(signed(sum_bits), elements),
        "zero": data.ArrayLayout(signed(32), elements),
        "multiplier": data.ArrayLayout(signed(16), elements),
        "bias": data.ArrayLayout(signed(16), elements),
        "shift1": 6,
        "shift2": 6,
        "bias_shift": BIAS_SHIFT_BITS,
        "scale": TOKEN_SCALE_BITS,
    })


def dequantizer_output(elements: int) -> data.StructLayout:
    """``wide`` is the result, ``narrow`` the same saturated to int16."""
    return data.StructLayout({
        "wide": data.ArrayLayout(signed(32), elements),
        "narrow": data.ArrayLayout(signed(16), elements),
    })


class Dequantizer(wiring.Component):
    """`hw.golden.dequant.dequantize32` and `dequantize` of one vector word.

    One word a cycle, 8 cycles latency; the whole pipeline stops while the output is refused.

    Parameters
    ----------
    config : HardwareConfig
    elements : elements of a word, ``config.word_elements`` by default

    Members
    -------
    i : In(stream of `dequantizer_input`)
    o : Out(stream of `dequantizer_output`)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: HardwareConfig, elements: int | None = None) -> None:
        self.config = config
        self.elements = config.word_elements if elements is None else elements
        super().__init__({
            "i": In(stream.Signature(
                dequantizer_input(self.elements, config.sum_bits))),
            "o": Out(stream.Signature(dequantizer_output(self.elements))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        advance, enable, valid = Signal(), Signal(STAGES), Signal(STAGES)
        m.d.comb += [
            self.o.valid.eq(valid[-1]),
            advance.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(advance),
        ]
        with m.If(advance):
            # Stages without a word keep their registers still, which saves power and simulation.
            m.d.comb += enable.eq(Cat(self.i.valid, valid[:-1]))
            m.d.sync += valid.eq(enable)

        def delayed(value: Signal, stages: int) -> Signal:
            """``value`` as it entered together with the word that stage ``stages`` takes."""
            for stage in range(stages):
                register = Signal.like(value)
                with m.If(enable[stage]):
                    m.d.sync += register.eq(value)
                value = register
            return value

        shift1 = delayed(self.i.p.shift1, SHIFT1_STAGE)
        scale = delayed(self.i.p.scale, SCALE_STAGE)
        shift2 = delayed(self.i.p.shift2, SHIFT2_STAGE)
        bias_shift = delayed(self.i.p.bias_shift, BIAS_STAGE)
        for index in range(self.elements):
            m.submodules[f"lane{index}"] = lane = module(
                "dequantizer_lane", DequantizerLane(self.config.sum_bits))
            m.d.comb += [
                lane.enable.eq(enable),
                lane.sum.eq(self.i.p.sums[index]),
                lane.zero.eq(self.i.p.zero[index]),
                lane.multiplier.eq(self.i.p.multiplier[index]),
                lane.bias.eq(self.i.p.bias[index]),
                lane.shift1.eq(shift1),
                lane.scale.eq(scale),
                lane.shift2.eq(shift2),
                lane.bias_shift.eq(bias_shift),
                self.o.p.wide[index].eq(lane.wide),
                self.o.p.narrow[index].eq(lane.narrow),
            ]
        return m
