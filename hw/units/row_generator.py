"""Row generator: the dot products of one activation vector with a codebook slice."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import EXACT_ROW_BITS, HardwareConfig
from hw.golden.lookup import ROW_OFFSET
from hw.golden.packing import INT8_OFFSET, WEIGHT_BITS
from hw.isa import FIELDS, Opcode
from hw.units import lookup_layouts as layouts
from hw.units.row_rounding import RowRounding

BYTE = 8
PRODUCT_BITS = INT8_OFFSET + 16
"""Both fields of a product: the low one entirely, as it borrows; of the high one, an entry."""


def pack(high: Value, low: Value) -> Value:
    """Two int8 factors in one multiplier input (`hw.golden.packing.pack_int8`)."""
    packed = (high.as_signed() << INT8_OFFSET) + low.as_signed()
    return packed[:WEIGHT_BITS].as_signed()


def unpack(total: Value) -> tuple[Value, Value]:
    """High and low field of a sum of packed products; a negative low field has borrowed."""
    return (total[INT8_OFFSET:] + total[INT8_OFFSET - 1])[:16], total[:16]


class RowGenerator(wiring.Component):
    """Row entries of ``codebook @ x`` made unsigned, or table entries passed through.

    One row a cycle, 2 cycles after ``en`` (3 with rounding); held until the next one. v
    multipliers for every two entries: the products of two centroids share one, packed as in AMD
    WP486, "Deep Learning with INT8 Optimization on Xilinx Devices". Entries of 16 bits wrap around outside 0..65535; the
    compiler proves that none is. Narrower ones are shifted, rounded and saturated
    (`hw.golden.lookup.rows`).

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    en, compute : In, take a row; compute it from a codebook slice
    source : In(row_source_bits): int8 [row_entries][v], or table entries of 8 bits
    x : In(int8 [v])
    shift : In(4), stable while there are rows; only where rows are rounded
    row : Out(row_entries x entry_bits)
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        shift = {"shift": In(FIELDS[Opcode.LUT]["row_shift"])} if config.rounds_rows else {}
        super().__init__(shift | {
            "en": In(1),
            "compute": In(1),
            "source": In(layouts.row_source_bits(config)),
            "x": In(BYTE * config.vector_length),
            "row": Out(config.row_entries * config.entry_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        length, width = self.config.vector_length, self.config.entry_bits
        count = self.config.row_entries
        entries = Signal(count * layouts.ENTRY_BITS)
        en, compute = Signal(), Signal()
        m.d.sync += en.eq(self.en)
        with m.If(self.en):
            m.d.sync += [compute.eq(self.compute), entries.eq(self.source)]

        dots: list[Value] = []
        for pair in range(count // 2):
            total = Signal(PRODUCT_BITS, name=f"total_{pair}")
            products = []
            for i in range(length):
                low, high = (
                    self.source.word_select((2 * pair + half) * length + i, BYTE)
                    for half in range(2)
                )
                product = Signal(PRODUCT_BITS, name=f"product_{pair}_{i}")
                x = self.x.word_select(i, BYTE).as_signed()
                with m.If(self.en & self.compute):
                    m.d.sync += product.eq(pack(high, low) * x)
                products.append(product)
            m.d.comb += total.eq(sum(products[1:], products[0]))
            high, low = unpack(total)
            dots += [low, high]

        passed = [entries.word_select(entry, layouts.ENTRY_BITS) for entry in range(count)]
        if self.config.rounds_rows:
            self._round(m, en, compute, dots, passed)
            return m
        zeros = Const(0, width - layouts.ENTRY_BITS)
        with m.If(en):
            m.d.sync += self.row.eq(Mux(compute, Cat(dot ^ ROW_OFFSET for dot in dots),
                                        Cat(Cat(entry, zeros) for entry in passed)))
        return m

    def _round(
        self, m: Module, en: Signal, compute: Signal, dots: list[Value], passed: list[Value]
    ) -> None:
        """One cycle more: the dot products are kept, and rounded in the next one."""
        exact = Signal(len(dots) * EXACT_ROW_BITS)
        entries = [exact.word_select(entry, EXACT_ROW_BITS) for entry in range(len(dots))]
        follows, computed = Signal(), Signal()
        m.submodules.rounding = rounding = RowRounding(self.config)
        m.d.comb += [rounding.exact.eq(exact), rounding.shift.eq(self.shift)]
        m.d.sync += follows.eq(en)
        with m.If(en):
            m.d.sync += computed.eq(compute)
            m.d.sync += [entry.eq(Mux(compute, dot, given))
                         for entry, dot, given in zip(entries, dots, passed, strict=True)]
        with m.If(follows):
            m.d.sync += self.row.eq(Mux(
                computed, rounding.row, Cat(entry[:self.config.row_bits] for entry in entries)))
