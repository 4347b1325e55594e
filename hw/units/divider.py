"""Serial division of unsigned integers."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out


class Divider(wiring.Component):
    """``dividend // divisor`` by restoring division, one quotient bit a cycle.

    One division at a time; the quotient is offered ``quotient_bits + 1`` cycles after the
    operands were accepted. It must fit: ``dividend < divisor << quotient_bits``.

    Parameters
    ----------
    dividend_bits, divisor_bits, quotient_bits : int
        The quotient is not wider than the dividend; the rest of the dividend fits the divisor.

    Members
    -------
    i : In(stream of {dividend, divisor})
    o : Out(stream of quotient_bits)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, dividend_bits: int, divisor_bits: int, quotient_bits: int) -> None:
        if not 0 <= dividend_bits - quotient_bits <= divisor_bits:
            raise ValueError(
                f"dividend_bits must be {quotient_bits} to {quotient_bits + divisor_bits}, "
                f"not {dividend_bits}"
            )
        self.dividend_bits = dividend_bits
        self.divisor_bits = divisor_bits
        self.quotient_bits = quotient_bits
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
        steps = Signal(range(self.quotient_bits + 1))
        trial = Signal(self.divisor_bits + 1)
        fits = Signal()
        m.d.comb += [
            trial.eq(Cat(low[-1], rest)),
            fits.eq(trial >= divisor),
            self.i.ready.eq((steps == 0) & ~self.o.valid),
        ]
        with m.If(self.o.valid):
            m.d.sync += self.o.valid.eq(~self.o.ready)
        with m.Elif(steps != 0):
            m.d.sync += [
                rest.eq(Mux(fits, trial - divisor, trial)),
                low.eq(Cat(fits, low)),
                steps.eq(steps - 1),
                self.o.valid.eq(steps == 1),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                low.eq(self.i.p.dividend),
                rest.eq(self.i.p.dividend[self.quotient_bits:]),
                divisor.eq(self.i.p.divisor),
                steps.eq(self.quotient_bits),
            ]

        return m
