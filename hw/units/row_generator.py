"""Row generator: the dot products of one activation vector with a codebook slice."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import ROW_ENTRIES, HardwareConfig
from hw.golden.lookup import ROW_OFFSET
from hw.units import lookup_layouts as layouts

BYTE = 8
FIELD_BITS = 18
"""Distance of two packed products; a field holds the sum of 7 int8 products or fewer."""
PACKED_BITS = 27 + BYTE


def pack(high: Value, low: Value) -> Value:
    """Two int8 factors in one 27-bit multiplier input."""
    return ((high.as_signed() << FIELD_BITS) + low.as_signed())[:27].as_signed()


def unpack(total: Value) -> tuple[Value, Value]:
    """High and low field of a sum of packed products: a negative low field borrowed from the high.

    The layout is that of AMD WP486, "Deep Learning with INT8 Optimization on Xilinx Devices".
    """
    return (total >> FIELD_BITS) + total[FIELD_BITS - 1], total[:FIELD_BITS].as_signed()


class RowGenerator(wiring.Component):
    """16 row entries of 16 bits: ``codebook @ x + 2**15``, or table entries passed through.

    One row a cycle, 2 cycles after ``en``; held until the next one. 8 v multipliers: two
    centroids share one. An entry outside 0..65535 wraps around; the compiler proves that none is.

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
            products = []
            for i in range(length):
                low, high = (
                    self.source.word_select((2 * pair + half) * length + i, BYTE)
                    for half in range(2)
                )
                product = Signal(signed(PACKED_BITS), name=f"product_{pair}_{i}")
                x = self.x.word_select(i, BYTE).as_signed()
                with m.If(self.en & self.compute):
                    m.d.sync += product.eq(pack(high, low) * x)
                products.append(product)
            high, low = unpack(sum(products[1:], products[0]))
            computed += [(field + ROW_OFFSET)[:width] for field in (low, high)]

        zeros = Const(0, width - layouts.ENTRY_BITS)
        passed = Cat(
            Cat(entries.word_select(entry, layouts.ENTRY_BITS), zeros)
            for entry in range(ROW_ENTRIES)
        )
        with m.If(en):
            m.d.sync += self.row.eq(Mux(compute, Cat(computed), passed))
        return m
