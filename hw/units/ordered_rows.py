"""Addresses of rows in the order of their tokens."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.memory.token_order import ENTRY_BITS, OrderRead


class OrderedRows(wiring.Component):
    """Row r lies ``order[first + r] * stride`` behind the first token's; the rows go round.

    The row behind the one that is offered is looked up ahead: a row every 3 cycles at most, the
    first one 3 cycles behind ``start``.

    Members
    -------
    start : In(1), begin with row 0, forgetting what is offered
    step : In(1), the offered row is taken
    first, tokens, stride : In, held from ``start`` on; tokens is not 0
    memory : Out(OrderRead())
    valid : Out(1), a row is offered
    offset : Out(16), of the row
    """

    memory: wiring.PureInterface

    def __init__(self) -> None:
        super().__init__({
            "start": In(1),
            "step": In(1),
            "first": In(8),
            "tokens": In(8),
            "stride": In(12),
            "memory": Out(OrderRead()),
            "valid": Out(1),
            "offset": Out(16),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        place, following = Signal(ENTRY_BITS), Signal(16)
        free = Signal()
        m.d.comb += [
            self.memory.address.eq(self.first + place),
            free.eq(~self.valid | self.step),
        ]
        asking, asked, known = Signal(), Signal(), Signal()
        m.d.comb += self.memory.en.eq(asking)
        m.d.sync += [asking.eq(0), asked.eq(asking)]
        with m.If(asking):
            m.d.sync += place.eq(Mux(place + 1 == self.tokens, 0, place + 1))
        with m.If(asked):
            m.d.sync += [following.eq(self.memory.data * self.stride), known.eq(1)]
        with m.If(self.step):
            m.d.sync += self.valid.eq(0)
        with m.If(known & free):
            m.d.sync += [self.valid.eq(1), self.offset.eq(following), known.eq(0), asking.eq(1)]
        # The rows of an instruction that is over go on here until the next one starts.
        with m.If(self.start):
            m.d.sync += [
                self.valid.eq(0), known.eq(0), asked.eq(0), place.eq(0), asking.eq(1),
            ]
        return m
