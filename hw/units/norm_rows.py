"""What the passes of the norm engine have found of the rows under way."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.golden.norm import EPSILON_BITS, INVERSE_BITS, UP_SHIFT_MAX
from hw.units.norm_lane import EXPONENT_BITS, MEAN_BITS
from hw.units.norm_passes import PASS, SLOT_BITS, PassKind
from hw.units.norm_pipeline import PEAK, ROW_SCALE, SUM_BITS, TOTAL
from hw.units.reciprocal_root import TOTAL_BITS, ReciprocalRoot
from hw.units.row_table import RowTable

HALF_INVERSE = 16
"""Bits of the mean's factor that are multiplied at a time."""
VALUE_SUM_BITS = 34
"""Sum of 2**15 shifted values, with its sign."""


class NormRows(wiring.Component):
    """Exponent, mean, factor and shift of each row under way, in the order of the rows.

    Peaks and sums come one a cycle at most. The exponent is there a cycle later, the mean 3, the
    factor 28; a factor takes 14 cycles.

    Members
    -------
    start : In(1), forget all rows
    center : In(1), inverse : In(32), epsilon : In(40), of the instruction
    peak : In(PEAK), total : In(TOTAL), of a row
    pass_ : In(PASS), scale : Out(ROW_SCALE), what the pass needs; factor is 1 before the results
    known : Out(1), ``scale`` is complete
    take : In(1), the pass begins (while ``known``)
    """

    def __init__(self) -> None:
        super().__init__({
            "start": In(1),
            "center": In(1),
            "inverse": In(INVERSE_BITS + 1),
            "epsilon": In(EPSILON_BITS),
            "peak": In(PEAK),
            "total": In(TOTAL),
            "pass_": In(PASS),
            "scale": Out(ROW_SCALE),
            "known": Out(1),
            "take": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        scale, kind = self.scale, self.pass_.kind
        m.submodules.root = root = ReciprocalRoot()
        squares, results = kind == PassKind.SQUARES, kind == PassKind.RESULTS
        by_exponent, by_mean = Signal(), Signal()
        m.d.comb += [
            by_mean.eq(self.center & squares),
            by_exponent.eq((kind == PassKind.SUM) | (~self.center & squares)),
        ]
        exponents = self._table(m, "exponents", EXPONENT_BITS, by_exponent, readers=2)
        means = self._table(m, "means", signed(MEAN_BITS), by_mean)
        factors = self._table(m, "factors", root.o.payload.shape(), results)
        factor = factors.reads[0].data
        m.d.comb += [
            exponents.valid.eq(self.peak.valid),
            factors.valid.eq(root.o.valid),
            factors.value.eq(root.o.payload),
            root.o.ready.eq(1),
            scale.exponent.eq(exponents.reads[0].data),
            scale.mean.eq(Mux(self.center & (squares | results), means.reads[0].data, 0)),
            scale.factor.eq(Mux(results, factor.reciprocal, 1)),
            scale.down.eq(factor.down),
            self.known.eq((kind == PassKind.PEAK) | (by_exponent & exponents.known)
                          | (by_mean & means.known) | (results & factors.known)),
        ]
        for bit in range(UP_SHIFT_MAX, len(self.peak.value)):
            with m.If(self.peak.value[bit]):
                m.d.comb += exponents.value.eq(bit + 1 - UP_SHIFT_MAX)
        self._mean(m, means)
        self._root(m, exponents, root)
        return m

    def _table(
        self, m: Module, name: str, shape: Any, wanted: Value, readers: int = 1
    ) -> RowTable:
        """Values that passes of one kind wait for; those behind find them in their slot."""
        m.submodules[name] = table = RowTable(SLOT_BITS, shape, readers)
        m.d.comb += [
            table.start.eq(self.start),
            table.reads[0].slot.eq(self.pass_.slot),
            table.used.eq(wanted & self.take),
        ]
        return table

    def _mean(self, m: Module, means: RowTable) -> None:
        """The mean of a row from the sum of its values."""
        given, summed = Signal(), Signal()
        total = self.total.value[:VALUE_SUM_BITS].as_signed()
        kept = Signal.like(total)
        high, mean = Signal(signed(SUM_BITS)), Signal(signed(SUM_BITS))
        m.d.sync += [
            given.eq(self.total.valid & ~self.total.squares),
            kept.eq(total),
            high.eq(total * self.inverse[HALF_INVERSE:]),
            summed.eq(given),
            mean.eq((high << HALF_INVERSE) + kept * self.inverse[:HALF_INVERSE]),
        ]
        m.d.comb += [
            means.valid.eq(summed),
            means.value.eq((mean + (1 << (INVERSE_BITS - 1))) >> INVERSE_BITS),
        ]

    def _root(self, m: Module, exponents: RowTable, root: ReciprocalRoot) -> None:
        """Add epsilon, in squared steps of the row, to sums of squares; they wait for the root."""
        m.submodules.totals = totals = RowTable(SLOT_BITS, TOTAL_BITS)
        given = Signal()
        slot, root_slot = Signal(SLOT_BITS), Signal(SLOT_BITS)
        epsilon, total = Signal(EPSILON_BITS + 2 * UP_SHIFT_MAX), Signal(SUM_BITS)
        m.d.comb += [
            exponents.reads[1].slot.eq(slot),
            totals.start.eq(self.start),
            totals.valid.eq(given),
            totals.value.eq(total + epsilon),
            totals.reads[0].slot.eq(root_slot),
            totals.used.eq(root.i.valid & root.i.ready),
            root.i.valid.eq(totals.known),
            root.i.payload.eq(totals.reads[0].data),
        ]
        m.d.sync += [
            given.eq(self.total.valid & self.total.squares),
            total.eq(self.total.value),
            epsilon.eq((self.epsilon << (2 * UP_SHIFT_MAX)) >> (exponents.reads[1].data << 1)),
        ]
        with m.If(self.start):
            m.d.sync += [slot.eq(0), root_slot.eq(0)]
        with m.Else():
            m.d.sync += [
                slot.eq(slot + (self.total.valid & self.total.squares)),
                root_slot.eq(root_slot + totals.used),
            ]
