"""Attention of softmax rows to the first position, for the importance of their tokens."""

from __future__ import annotations

from amaranth import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, Signature

from hw.config import HardwareConfig
from hw.golden.dequant import TOKEN_SCALE_BITS
from hw.golden.importance import PROBABILITY_BITS
from hw.golden.softmax import LOG2_BITS, LOG2_RECIPROCAL_BITS, LOG2_ZERO, RECIPROCAL_BITS
from hw.memory.token_order import ENTRY_BITS, ImportanceAdd

WEIGHT_BITS = LOG2_BITS + 1
STAGES = 4


class SoftmaxImportance(wiring.Component):
    """`hw.golden.importance.first_attention` of a row; the entry is written 4 cycles later.

    Parameters
    ----------
    config : HardwareConfig, log2 codes only with ``log2_softmax``

    Members
    -------
    valid, weight, log2, reciprocal, fresh, entry : In, a row's weight of position 0 (numerator or
        code), its reciprocal, and what becomes of their product; not in neighbouring cycles
    add : Out(ImportanceAdd())
    busy : Out(1), from the cycle after a row came until its entry is written
    """

    add: wiring.PureInterface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__(Signature({
            "valid": In(1),
            "weight": In(8),
            "log2": In(1),
            "reciprocal": In(TOKEN_SCALE_BITS),
            "fresh": In(1),
            "entry": In(ENTRY_BITS),
            "add": Out(ImportanceAdd()),
            "busy": Out(1),
        }))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        weight, reciprocal = Signal(WEIGHT_BITS), Signal.like(self.reciprocal)
        product = Signal(WEIGHT_BITS + TOKEN_SCALE_BITS)
        filled, log2 = Signal(STAGES), Signal()
        code = self.weight[:LOG2_ZERO.bit_length()]
        power = Const(1 << LOG2_BITS) >> code

        def rounded(bits: int) -> object:
            return (product + (1 << bits - 1)) >> bits

        linear = rounded(RECIPROCAL_BITS - PROBABILITY_BITS)
        m.d.comb += self.busy.eq(filled.any())
        m.d.sync += [
            filled.eq((filled << 1) | self.valid),
            product.eq(weight * reciprocal),
            self.add.valid.eq(filled[1]),
        ]
        with m.If(self.valid):
            m.d.sync += [
                weight.eq(self.weight), reciprocal.eq(self.reciprocal), log2.eq(self.log2),
                self.add.entry.eq(self.entry), self.add.fresh.eq(self.fresh),
            ]
        m.d.sync += self.add.value.eq(linear)
        if self.config.log2_softmax:
            steps = rounded(LOG2_RECIPROCAL_BITS - PROBABILITY_BITS)
            with m.If(self.valid & self.log2):
                m.d.sync += weight.eq(power)
            m.d.sync += self.add.value.eq(Mux(log2, steps, linear))
        return m
