"""Serial square root of unsigned integers."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class SquareRoot(wiring.Component):
    """Integer square root, rounded down, one bit a cycle.

    One root at a time; it is offered ``root_bits + 1`` cycles after the radicand was accepted.

    Parameters
    ----------
    root_bits : int
        Bits of the root; the radicand has twice as many.

    Members
    -------
    i : In(stream of 2 * root_bits)
    o : Out(stream of root_bits)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, root_bits: int) -> None:
        self.root_bits = root_bits
        super().__init__({
            "i": In(stream.Signature(2 * root_bits)),
            "o": Out(stream.Signature(root_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # Digit by digit: with root r and rest n of the bits so far, the next bit is 1 if
        # 4 r + 1 fits into 4 n + the next two bits. The rest never exceeds 2 r.
        radicand = Signal(2 * self.root_bits)
        rest = Signal(self.root_bits + 1)
        steps = Signal(range(self.root_bits + 1))
        root = self.o.payload
        trial = Signal(self.root_bits + 3)
        subtrahend = Signal(self.root_bits + 2)
        fits = Signal()
        m.d.comb += [
            trial.eq(Cat(radicand[-2:], rest)),
            subtrahend.eq(Cat(Const(1, 2), root)),
            fits.eq(trial >= subtrahend),
            self.i.ready.eq((steps == 0) & ~self.o.valid),
        ]
        with m.If(self.o.valid):
            m.d.sync += self.o.valid.eq(~self.o.ready)
        with m.Elif(steps != 0):
            m.d.sync += [
                rest.eq(Mux(fits, trial - subtrahend, trial)),
                root.eq(Cat(fits, root)),
                radicand.eq(radicand << 2),
                steps.eq(steps - 1),
                self.o.valid.eq(steps == 1),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                radicand.eq(self.i.payload),
                rest.eq(0),
                root.eq(0),
                steps.eq(self.root_bits),
            ]

        return m
