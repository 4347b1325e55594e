"""Place in a loop over vector words and the rows of each word."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class RowCounter(wiring.Component):
    """Count through ``words`` vector words of ``tokens * heads`` rows, one place a ``step``.

    Rows are inside words, heads inside tokens. Behind the last place it starts again.

    Members
    -------
    restart : In(1), go to the first place
    step : In(1), go to the next place
    tokens, heads : In(8), words : In(12); not 0
    word : Out(12)
    first_row : Out(1), first row of a word
    last_head : Out(1), last row of a token
    last_row : Out(1), last row of a word
    last : Out(1), last row of the last word
    """

    def __init__(self) -> None:
        super().__init__({
            "restart": In(1), "step": In(1),
            "tokens": In(8), "heads": In(8), "words": In(12),
            "word": Out(12),
            "first_row": Out(1, init=1), "last_head": Out(1), "last_row": Out(1), "last": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        token, head = Signal(8), Signal(8)
        m.d.comb += [
            self.last_head.eq(head == self.heads - 1),
            self.last_row.eq(self.last_head & (token == self.tokens - 1)),
            self.last.eq(self.last_row & (self.word == self.words - 1)),
        ]
        with m.If(self.restart):
            m.d.sync += [self.word.eq(0), token.eq(0), head.eq(0), self.first_row.eq(1)]
        with m.Elif(self.step):
            m.d.sync += [head.eq(head + 1), self.first_row.eq(self.last_row)]
            with m.If(self.last_head):
                m.d.sync += [head.eq(0), token.eq(token + 1)]
            with m.If(self.last_row):
                m.d.sync += [token.eq(0), self.word.eq(self.word + 1)]
            with m.If(self.last):
                m.d.sync += self.word.eq(0)
        return m
