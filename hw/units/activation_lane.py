"""One element of the activation unit."""

from __future__ import annotations

from amaranth import Module, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.fixed import INT16_MAX
from hw.golden.activation import FRACTION_BITS, SEGMENTS
from hw.units.rounding import round_half, saturated, shift_half

STAGES = 6
FACTOR_STAGE, SHIFT_STAGE = 3, 4
TABLE_ENTRY = data.StructLayout({"base": signed(16), "delta": signed(16)})
SEGMENT_BITS = (SEGMENTS - 1).bit_length()


def TablePort() -> wiring.Signature:
    """Writes to the segment tables; never refused."""
    return wiring.Signature({
        "valid": Out(1),
        "address": Out(SEGMENT_BITS),
        "data": Out(TABLE_ENTRY),
    })


class ActivationLane(wiring.Component):
    """One element of `hw.golden.activation.activate` in `STAGES` registered stages.

    Stage k loads its registers in the cycles in which bit k of ``enable`` is set.

    Members
    -------
    table : In({valid, address, data}), one segment's base and delta
    enable : In(STAGES)
    x : In(signed(16)), taken by stage 0
    factor : In(signed(16)), taken by stage `FACTOR_STAGE`: 1 where there is no product
    shift : In(6), taken by stage `SHIFT_STAGE`: 0 where there is no product
    y : Out(signed(16))
    """

    def __init__(self) -> None:
        super().__init__({
            "table": In(TablePort()),
            "enable": In(STAGES),
            "x": In(signed(16)),
            "factor": In(signed(16)),
            "shift": In(6),
            "y": Out(signed(16)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.segments = segments = memory.Memory(
            shape=TABLE_ENTRY, depth=SEGMENTS, init=[]
        )
        entry, load = segments.read_port(), segments.write_port()
        m.d.comb += [
            load.en.eq(self.table.valid),
            load.addr.eq(self.table.address),
            load.data.eq(self.table.data),
            entry.en.eq(self.enable[0]),
            # Segments count from the most negative x, so the sign bit of the address turns over.
            entry.addr.eq(self.x[FRACTION_BITS:] ^ SEGMENTS // 2),
        ]
        fraction, base = Signal(FRACTION_BITS), Signal(signed(16))
        slope, value = Signal(signed(16 + FRACTION_BITS)), Signal(signed(17))
        product, halves = Signal(signed(32)), Signal(signed(33))
        stages = [
            [fraction.eq(self.x[:FRACTION_BITS])],
            [slope.eq(entry.data.delta * fraction), base.eq(entry.data.base)],
            [value.eq(base + round_half(slope >> (FRACTION_BITS - 1)))],
            [product.eq(value * self.factor)],
            [halves.eq(shift_half(product, self.shift))],
            [self.y.eq(saturated(round_half(halves), INT16_MAX))],
        ]
        assert len(stages) == STAGES
        for stage, statements in enumerate(stages):
            with m.If(self.enable[stage]):
                m.d.sync += statements
        return m
