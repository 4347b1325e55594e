"""Addresses of the rows of an instruction that has tokens and heads."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class RowWalk(wiring.Component):
    """Row ``t * heads + h`` lies at ``base + t * stride + h * head_stride``; heads go first.

    Members
    -------
    start : In(1), go to row 0 in the next cycle
    step : In(1), go to the next row in the next cycle
    base, stride, head_stride, tokens, heads : In, held from ``start`` on; no count is 0
    row : Out(16), address of the row
    last_head : Out(1), the row is the last of its token
    last : Out(1), the row is the last of all
    """

    def __init__(self) -> None:
        super().__init__({
            "start": In(1),
            "step": In(1),
            "base": In(16),
            "stride": In(12),
            "head_stride": In(12),
            "tokens": In(8),
            "heads": In(8),
            "row": Out(16),
            "last_head": Out(1),
            "last": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        token_row, tokens_left, heads_left = Signal(16), Signal(8), Signal(8)
        next_token = Signal(16)
        m.d.comb += [
            next_token.eq(token_row + self.stride),
            self.last_head.eq(heads_left == 1),
            self.last.eq(self.last_head & (tokens_left == 1)),
        ]
        with m.If(self.start):
            m.d.sync += [
                self.row.eq(self.base),
                token_row.eq(self.base),
                tokens_left.eq(self.tokens),
                heads_left.eq(self.heads),
            ]
        with m.Elif(self.step):
            with m.If(self.last_head):
                m.d.sync += [
                    self.row.eq(next_token),
                    token_row.eq(next_token),
                    tokens_left.eq(tokens_left - 1),
                    heads_left.eq(self.heads),
                ]
            with m.Else():
                m.d.sync += [
                    self.row.eq(self.row + self.head_stride),
                    heads_left.eq(heads_left - 1),
                ]
        return m
