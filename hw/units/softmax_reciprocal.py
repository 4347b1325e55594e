"""Division of one by the sums of rows."""

from __future__ import annotations

from amaranth import Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.golden.dequant import TOKEN_SCALE_BITS
from hw.golden.softmax import LOG2_RECIPROCAL_BITS, RECIPROCAL_BITS
from hw.memory.operand_store import ScaleWrite
from hw.units.divider import Divider
from hw.units.softmax_sum import SoftmaxSum, sum_bits


class SoftmaxReciprocal(wiring.Component):
    """Add up the weights of a row, then divide beside the next row and write the quotient.

    A division takes ``TOKEN_SCALE_BITS + 1`` cycles. Weights come only while ``collecting``: not
    from the end of a row until its division starts, which waits for the division before.

    Parameters
    ----------
    config : HardwareConfig, log2 codes only with ``log2_softmax``
    tag_bits : int, of what else goes with a row's reciprocal

    Members
    -------
    valid, weights, log2 : In, word_elements numerators or codes, never refused
    row_done : In(1), all weights of a row came
    address, tag : In, of the row's reciprocal, taken with ``row_done``
    collecting : Out(1)
    idle : Out(1), every reciprocal is written
    scale_write : Out(ScaleWrite)
    scale_tag : Out, of the row whose reciprocal is offered
    """

    scale_write: stream.Interface

    def __init__(self, config: HardwareConfig, tag_bits: int = 0) -> None:
        self.config, self.tag_bits = config, tag_bits
        super().__init__({
            "valid": In(1),
            "weights": In(8 * config.word_elements),
            "log2": In(1),
            "row_done": In(1),
            "address": In(8),
            "tag": In(self.tag_bits),
            "collecting": Out(1),
            "idle": Out(1),
            "scale_write": Out(ScaleWrite()),
            "scale_tag": Out(self.tag_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        one = Const(1 << RECIPROCAL_BITS)
        if self.config.log2_softmax:
            one = Mux(self.log2, 1 << LOG2_RECIPROCAL_BITS, one)
        m.submodules.sum = total = SoftmaxSum(self.config)
        m.submodules.divider = divider = Divider(
            len(one), sum_bits(self.config), TOKEN_SCALE_BITS
        )
        dividing = Signal()
        address, tag = Signal(8), Signal(self.tag_bits)
        m.d.comb += [
            total.valid.eq(self.valid),
            total.weights.eq(self.weights),
            total.log2.eq(self.log2),
            divider.i.p.dividend.eq(one),
            divider.i.p.divisor.eq(total.total),
            self.scale_write.valid.eq(divider.o.valid),
            self.scale_write.p.data.eq(divider.o.payload),
            divider.o.ready.eq(self.scale_write.ready),
            self.idle.eq(self.collecting & ~dividing),
        ]
        with m.If(divider.o.valid & divider.o.ready):
            m.d.sync += dividing.eq(0)
        with m.FSM():
            with m.State("collect"):
                m.d.comb += self.collecting.eq(1)
                with m.If(self.row_done):
                    m.d.sync += [address.eq(self.address), tag.eq(self.tag)]
                    m.next = "settle"
            with m.State("settle"):
                with m.If(~total.busy):
                    m.next = "divide"
            with m.State("divide"):
                m.d.comb += divider.i.valid.eq(1)
                with m.If(divider.i.ready):
                    m.d.comb += total.clear.eq(1)
                    # The address of the division before is in use until this one starts.
                    m.d.sync += [
                        dividing.eq(1), self.scale_write.p.address.eq(address),
                        self.scale_tag.eq(tag),
                    ]
                    m.next = "collect"
        return m
