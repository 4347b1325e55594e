"""Row generator: the dot products of one activation vector with a codebook slice."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import ROW_ENTRIES, HardwareConfig
from hw.golden.lookup import ROW_OFFSET
from hw.golden.packing import INT8_OFFSET, WEIGHT_BITS
from hw.units import lookup_layouts as layouts

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
    """16 row entries of 16 bits: ``codebook @ x + 2**15``, or table entries passed through.

    One row a cycle, 2 cycles after ``en``; held until the next one. 8 v multipliers: the
    products of two centroids share one, packed as in AMD WP486, "Deep Learning with INT8
    Optimization on Xilinx Devices". An entry outside 0..65535 wraps around; the compiler proves
    that none is.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    en, compute : In, take a row; compute it from a codebook slice
    source : In(row_source_bits): int8 [16][v], or 16 table entries of 8 bits
    x : In(int8 [v])
    row : Out(16 x entry_bits)
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "en": In(1),
            "compute": In(1),
            "source": In(layouts.row_source_bits(config)),
            "x": In(BYTE * config.vector_length),
            "row": Out(ROW_ENTRIES * config.entry_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        length, width = self.config.vector_length, self.config.entry_bits
        entries = Signal(ROW_ENTRIES * layouts.ENTRY_BITS)
        en, compute = Signal(), Signal()
        m.d.sync += en.eq(self.en)
        with m.If(self.en):
            m.d.sync += [compute.eq(self.compute), entries.eq(self.source)]

        computed: list[Value] = []
        for pair in range(ROW_ENTRIES // 2):
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
            computed += [low ^ ROW_OFFSET, high ^ ROW_OFFSET]

        zeros = Const(0, width - layouts.ENTRY_BITS)
        passed = Cat(
            Cat(entries.word_select(entry, layouts.ENTRY_BITS), zeros)
            for entry in range(ROW_ENTRIES)
        )
        with m.If(en):
            m.d.sync += self.row.eq(Mux(compute, Cat(computed), passed))
        return m
