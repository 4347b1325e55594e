"""Reciprocal square root of a row's sum of squares."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.golden.norm import PEAK_BITS, RECIPROCAL_BITS, ROOT_BITS
from hw.units.divider import Divider
from hw.units.square_root import SquareRoot

TOTAL_BITS = 58
"""Bits of a sum of squares with epsilon: 2**17 squared, 2**16 times, and 40 + 16 bits."""
MANTISSA_BITS = 2 * ROOT_BITS - 16
RECIPROCAL_WIDTH = RECIPROCAL_BITS - (ROOT_BITS - 1) + 1
"""Bits of ``2**40 // root`` for the smallest root, 2**23."""
DOWN_BITS = 5
DOWN_MAX = PEAK_BITS + (TOTAL_BITS - MANTISSA_BITS) // 2
"""The largest shift ``16 + k``, of a sum of squares with all its bits."""
STEP_BITS = 2
"""Bits of a root, and of a quotient, a cycle: short rows wait for nothing else."""


class ReciprocalRoot(wiring.Component):
    """``k``, ``root`` and ``r`` of `hw.golden.norm.normalize`, in the order of the sums.

    A sum every ``ROOT_BITS / STEP_BITS + 2`` cycles: while one is divided, the root of the next
    is found and one more is normalized. 26 cycles latency.

    Members
    -------
    i : In(stream of 58 bits), the sum of squares with epsilon; 0 counts as 1
    o : Out(stream of {reciprocal, down}), ``r`` and ``16 + k``
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self) -> None:
        super().__init__({
            "i": In(stream.Signature(TOTAL_BITS)),
            "o": Out(stream.Signature(data.StructLayout(
                {"reciprocal": RECIPROCAL_WIDTH, "down": DOWN_BITS}
            ))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.square_root = square_root = SquareRoot(ROOT_BITS, STEP_BITS)
        m.submodules.divider = divider = Divider(
            RECIPROCAL_BITS + 1, ROOT_BITS, RECIPROCAL_WIDTH, STEP_BITS
        )

        # Up by pairs of bits until one of the highest two is set; what leaves the mantissa at its
        # lower end is what the shift down by 2 k drops.
        pairs = TOTAL_BITS // 2
        total = Signal(TOTAL_BITS)
        leading = Signal(range(pairs))
        shifted = Signal(TOTAL_BITS)
        counted = Signal()
        down = Signal(DOWN_BITS)
        m.d.comb += [
            self.i.ready.eq(~counted | square_root.i.ready),
            shifted.eq(total << (leading << 1)),
            square_root.i.valid.eq(counted),
            square_root.i.payload.eq(Cat(Const(0, 16), shifted[-MANTISSA_BITS:])),
            divider.i.valid.eq(square_root.o.valid),
            square_root.o.ready.eq(divider.i.ready),
            divider.i.p.dividend.eq(1 << RECIPROCAL_BITS),
            divider.i.p.divisor.eq(square_root.o.payload),
            self.o.valid.eq(divider.o.valid),
            divider.o.ready.eq(self.o.ready),
            self.o.p.reciprocal.eq(divider.o.payload),
        ]
        with m.If(self.i.ready):
            m.d.sync += [
                counted.eq(self.i.valid),
                total.eq(Cat(self.i.payload[0] | (self.i.payload == 0), self.i.payload[1:])),
                leading.eq(pairs - 1),
            ]
            for pair in range(1, pairs):
                with m.If(self.i.payload[2 * pair:2 * pair + 2].any()):
                    m.d.sync += leading.eq(pairs - 1 - pair)
        with m.If(square_root.i.valid & square_root.i.ready):
            m.d.sync += down.eq(DOWN_MAX - leading)
        with m.If(divider.i.valid & divider.i.ready):
            m.d.sync += self.o.p.down.eq(down)
        return m
