"""Activation function unit: a piecewise-linear table, then an optional product."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.units.activation_lane import (
    FACTOR_STAGE,
    SHIFT_STAGE,
    STAGES,
    ActivationLane,
    TablePort,
)
from hw.verilog import module


class ActivationUnit(wiring.Component):
    """`hw.golden.activation.activate` of ``activation_lanes`` elements.

    One step a cycle, 6 cycles latency; the whole pipeline stops while the output is refused.
    The table is not to be written while elements are inside.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    table : In(TablePort), one segment for all lanes
    i : In(stream of {x, factor, gated, shift})
    o : Out(stream of ``activation_lanes`` int16)
    """

    table: wiring.PureInterface
    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        elements = data.ArrayLayout(signed(16), config.activation_lanes)
        super().__init__({
            "table": In(TablePort()),
            "i": In(stream.Signature(data.StructLayout({
                "x": elements,
                "factor": elements,
                "gated": 1,
                "shift": 6,
            }))),
            "o": Out(stream.Signature(elements)),
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
            # Stages without elements keep their registers still: saves power and simulation.
            m.d.comb += enable.eq(Cat(self.i.valid, valid[:-1]))
            m.d.sync += valid.eq(enable)

        def delayed(value: Signal, stages: int) -> Signal:
            """``value`` as it entered together with the elements that stage ``stages`` takes."""
            for stage in range(stages):
                register = Signal(value.shape())
                with m.If(enable[stage]):
                    m.d.sync += register.eq(value)
                value = register
            return value

        shift = delayed(Mux(self.i.p.gated, self.i.p.shift, 0), SHIFT_STAGE)
        for index in range(self.config.activation_lanes):
            factor = Mux(self.i.p.gated, self.i.p.factor[index], Const(1))
            m.submodules[f"lane{index}"] = lane = module("activation_lane", ActivationLane())
            wiring.connect(m, wiring.flipped(self.table), lane.table)
            m.d.comb += [
                lane.enable.eq(enable),
                lane.x.eq(self.i.p.x[index]),
                lane.factor.eq(delayed(factor, FACTOR_STAGE)),
                lane.shift.eq(shift),
                self.o.p[index].eq(lane.y),
            ]
        return m
