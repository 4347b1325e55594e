"""Arithmetic of the gather engine: some elements of a vector word in each cycle."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import task_layout
from hw.isa import Opcode

ELEMENT_BITS = 16
RESIDUAL_BITS = 32
RESIDUAL_MAX = (1 << RESIDUAL_BITS - 1) - 1


class GatherLanes(wiring.Component):
    """``old + (row << shift)`` with saturation, or ``row << shift``, as low and high halves.

    A word takes ``word_elements / activation_lanes + 1`` cycles of ``run``. As in
    `hw.golden.residual`.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    row : In, int16 elements, taken with ``load_row``
    old : In, a half of int32 elements, taken with ``load_old``: first the low, then the high one
    shift, add : In, constant while ``run``
    run : In(1), high until ``done``
    done : Out(1), the result is there in the next cycle
    low, high : Out, halves of the result, until the next ``load_old`` or ``run``
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        fields = task_layout(Opcode.GATHER)
        super().__init__({
            "row": In(config.port_bits),
            "load_row": In(1),
            "old": In(config.port_bits),
            "load_old": In(1),
            "shift": In(fields["shift"].shape),
            "add": In(1),
            "run": In(1),
            "done": Out(1),
            "low": Out(config.port_bits),
            "high": Out(config.port_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self.config.activation_lanes
        steps = self.config.word_elements // lanes
        width = lanes * ELEMENT_BITS
        row = Signal(self.config.port_bits)
        shifted = Signal(lanes * RESIDUAL_BITS)
        step = Signal(range(steps + 1))
        m.d.comb += self.done.eq(self.run & (step == steps))
        with m.If(self.load_row):
            m.d.sync += row.eq(self.row)
        with m.If(self.load_old):
            m.d.sync += [self.low.eq(self.high), self.high.eq(self.old)]

        values, sums_low, sums_high = [], [], []
        for n in range(lanes):
            here = slice(ELEMENT_BITS * n, ELEMENT_BITS * (n + 1))
            value = Signal(signed(RESIDUAL_BITS), name=f"value_{n}")
            term = Signal(signed(RESIDUAL_BITS), name=f"term_{n}")
            total = Signal(signed(RESIDUAL_BITS + 1), name=f"total_{n}")
            result = Signal(RESIDUAL_BITS, name=f"result_{n}")
            m.d.comb += [
                value.eq(row[here].as_signed() << self.shift),
                term.eq(shifted[RESIDUAL_BITS * n:RESIDUAL_BITS * (n + 1)]),
                total.eq(Cat(self.low[here], self.high[here]).as_signed() + term),
                result.eq(total),
            ]
            with m.If(~self.add):
                m.d.comb += result.eq(term)
            with m.Elif(total > RESIDUAL_MAX):
                m.d.comb += result.eq(RESIDUAL_MAX)
            with m.Elif(total < -RESIDUAL_MAX):
                m.d.comb += result.eq(-RESIDUAL_MAX)
            values.append(value)
            sums_low.append(result[:ELEMENT_BITS])
            sums_high.append(result[ELEMENT_BITS:])

        with m.If(self.run):
            # Elements are shifted up in one cycle and added in the next; both words rotate.
            m.d.sync += [
                shifted.eq(Cat(values)), row.eq(row >> width),
                step.eq(Mux(self.done, 0, step + 1)),
            ]
            with m.If(step != 0):
                m.d.sync += [
                    self.low.eq(Cat(self.low[width:], *sums_low)),
                    self.high.eq(Cat(self.high[width:], *sums_high)),
                ]
        return m
