"""Serial division of unsigned integers."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out


class Divider(wiring.Component):
    """``dividend // divisor`` by restoring division, ``step_bits`` quotient bits a cycle.

    One division at a time; the quotient is offered ``quotient_bits / step_bits + 1`` cycles after
    the operands were accepted. It must fit: ``dividend < divisor << quotient_bits``.

    Parameters
    ----------
    dividend_bits, divisor_bits, quotient_bits : int
        The quotient is not wider than the dividend; the rest of the dividend fits the divisor.
    step_bits : int
        Divides ``quotient_bits``.

    Members
    -------
    i : In(stream of {dividend, divisor})
    o : Out(stream of quotient_bits)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(
        self, dividend_bits: int, divisor_bits: int, quotient_bits: int, step_bits: int = 1
    ) -> None:
        if not 0 <= dividend_bits - quotient_bits <= divisor_bits:
            raise ValueError(
                f"dividend_bits must be {quotient_bits} to {quotient_bits + divisor_bits}, "
                f"not {dividend_bits}"
            )
        if quotient_bits % step_bits:
            raise ValueError(
                f"quotient_bits must be a multiple of {step_bits}, not {quotient_bits}"
            )
        self.dividend_bits = dividend_bits
        self.divisor_bits = divisor_bits
        self.quotient_bits = quotient_bits
        self.step_bits = step_bits
        super().__init__({
            "i": In(stream.Signature(data.StructLayout(
                {"dividend": dividend_bits, "divisor": divisor_bits}
            ))),
            "o": Out(stream.Signature(quotient_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # Quotient bits come in at the bottom of ``low`` while dividend bits leave at its top.
        low = self.o.payload
        rest = Signal(self.divisor_bits)
        divisor = Signal(self.divisor_bits)
        cycles = self.quotient_bits // self.step_bits
        steps = Signal(range(cycles + 1))
        next_low: Value = low
        next_rest: Value = rest
        for step in range(self.step_bits):
            trial = Signal(self.divisor_bits + 1, name=f"trial{step}")
            fits = Signal(name=f"fits{step}")
            m.d.comb += [trial.eq(Cat(next_low[-1], next_rest)), fits.eq(trial >= divisor)]
            next_rest = Mux(fits, trial - divisor, trial)[:len(rest)]
            next_low = Cat(fits, next_low)[:len(low)]
        m.d.comb += self.i.ready.eq((steps == 0) & ~self.o.valid)
        with m.If(self.o.valid):
            m.d.sync += self.o.valid.eq(~self.o.ready)
        with m.Elif(steps != 0):
            m.d.sync += [
                rest.eq(next_rest),
                low.eq(next_low),
                steps.eq(steps - 1),
                self.o.valid.eq(steps == 1),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                low.eq(self.i.p.dividend),
                rest.eq(self.i.p.dividend[self.quotient_bits:]),
                divisor.eq(self.i.p.divisor),
                steps.eq(cycles),
            ]

        return m
