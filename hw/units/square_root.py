"""Serial square root of unsigned integers."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class SquareRoot(wiring.Component):
    """Integer square root, rounded down, ``step_bits`` bits a cycle.

    One root at a time; it is offered ``root_bits / step_bits + 1`` cycles after the radicand was
    accepted.

    Parameters
    ----------
    root_bits : int
        Bits of the root, a multiple of ``step_bits``; the radicand has twice as many.
    step_bits : int

    Members
    -------
    i : In(stream of 2 * root_bits)
    o : Out(stream of root_bits)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, root_bits: int, step_bits: int = 1) -> None:
        if root_bits % step_bits:
            raise ValueError(f"root_bits must be a multiple of {step_bits}, not {root_bits}")
        self.root_bits = root_bits
        self.step_bits = step_bits
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
        cycles = self.root_bits // self.step_bits
        steps = Signal(range(cycles + 1))
        root = self.o.payload
        next_rest: Value = rest
        next_root: Value = root
        for step in range(self.step_bits):
            trial = Signal(self.root_bits + 3, name=f"trial{step}")
            subtrahend = Signal(self.root_bits + 2, name=f"subtrahend{step}")
            fits = Signal(name=f"fits{step}")
            digits = radicand[2 * (self.root_bits - step - 1):2 * (self.root_bits - step)]
            m.d.comb += [
                trial.eq(Cat(digits, next_rest)),
                subtrahend.eq(Cat(Const(1, 2), next_root)),
                fits.eq(trial >= subtrahend),
            ]
            next_rest = Mux(fits, trial - subtrahend, trial)[:len(rest)]
            next_root = Cat(fits, next_root)[:len(root)]
        m.d.comb += self.i.ready.eq((steps == 0) & ~self.o.valid)
        with m.If(self.o.valid):
            m.d.sync += self.o.valid.eq(~self.o.ready)
        with m.Elif(steps != 0):
            m.d.sync += [
                rest.eq(next_rest),
                root.eq(next_root),
                radicand.eq(radicand << 2 * self.step_bits),
                steps.eq(steps - 1),
                self.o.valid.eq(steps == 1),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                radicand.eq(self.i.payload),
                rest.eq(0),
                root.eq(0),
                steps.eq(cycles),
            ]

        return m
