"""Token counts between engines."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.isa import TOKEN_COUNT_BITS, Engine

MASK = data.ArrayLayout(len(Engine), len(Engine))
"""For each engine a bit for each engine."""


class TokenCounts(wiring.Component):
    """A count for each (producer, consumer) pair; changes show in the next cycle.

    Members
    -------
    clear : In(1), forget all tokens
    posted : In, for each producer the consumers that get a token in this cycle
    taken : In, for each consumer the producers it takes a token from (must be available)
    available : Out, for each consumer the producers that it holds tokens of
    overflow : Out(1), a token was posted to a full count and lost
    """

    def __init__(self) -> None:
        super().__init__({
            "clear": In(1),
            "posted": In(MASK),
            "taken": In(MASK),
            "available": Out(MASK),
            "overflow": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        full = (1 << TOKEN_COUNT_BITS) - 1
        changed = Signal()
        m.d.comb += changed.eq(Cat(self.posted, self.taken).any() | self.clear)
        overflows = []
        for producer in Engine:
            for consumer in Engine:
                count = Signal(TOKEN_COUNT_BITS, name=f"{producer.name}_{consumer.name}".lower())
                post = self.posted[producer][consumer]
                take = self.taken[consumer][producer]
                lost = post & ~take & (count == full)
                overflows.append(lost)
                m.d.comb += self.available[consumer][producer].eq(count != 0)
                with m.If(changed):
                    m.d.sync += count.eq(Mux(self.clear, 0, count + (post & ~lost) - take))
        m.d.comb += self.overflow.eq(Cat(*overflows).any())
        return m
