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


class ReciprocalRoot(wiring.Component):
    """``k``, ``root`` and ``r`` of `hw.golden.norm.normalize`, for one sum at a time.

    About 50 cycles: a bit of the root, then a bit of the quotient each cycle.

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
        m.submodules.square_root = square_root = SquareRoot(ROOT_BITS)
        m.submodules.divider = divider = Divider(RECIPROCAL_BITS + 1, ROOT_BITS, RECIPROCAL_WIDTH)

        # Up by pairs of bits until one of the highest two is set; what leaves the mantissa at its
        # lower end is what the shift down by 2 k drops.
        pairs = TOTAL_BITS // 2
        total = Signal(TOTAL_BITS)
        leading = Signal(range(pairs))
        shifted = Signal(TOTAL_BITS)
        m.d.comb += [
            shifted.eq(total << (leading << 1)),
            square_root.i.payload.eq(Cat(Const(0, 16), shifted[-MANTISSA_BITS:])),
            divider.i.valid.eq(square_root.o.valid),
            square_root.o.ready.eq(divider.i.ready),
            divider.i.p.dividend.eq(1 << RECIPROCAL_BITS),
            divider.i.p.divisor.eq(square_root.o.payload),
            self.o.valid.eq(divider.o.valid),
            divider.o.ready.eq(self.o.ready),
            self.o.p.reciprocal.eq(divider.o.payload),
        ]
        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += total.eq(self.i.payload)
                    with m.If(self.i.payload == 0):
                        m.d.sync += total.eq(1)
                    m.next = "count"
            with m.State("count"):
                for pair in range(pairs):
                    with m.If(total[2 * pair:2 * pair + 2].any()):
                        m.d.sync += leading.eq(pairs - 1 - pair)
                m.next = "root"
            with m.State("root"):
                m.d.comb += square_root.i.valid.eq(1)
                m.d.sync += self.o.p.down.eq(DOWN_MAX - leading)
                with m.If(square_root.i.ready):
                    m.next = "divide"
            with m.State("divide"):
                with m.If(self.o.valid & self.o.ready):
                    m.next = "idle"
        return m
