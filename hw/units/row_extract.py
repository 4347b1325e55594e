"""Row extract: one row out of a table buffer word."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.units import lookup_layouts as layouts


class RowExtract(wiring.Component):
    """The row register: table entries of 8 bits, or a codebook slice as it is stored.

    Entries of 4 bits are widened to 8. One row a cycle, one cycle after ``en``; held until the
    next ``en``.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    en, slot, int4 : In, take the row that starts at this slot of the word
    word : In(table_width)
    row : Out(row_source_bits); a row of entries is in its low bits
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "en": In(1),
            "slot": In(bits_for(layouts.slots(config))),
            "int4": In(1),
            "word": In(layouts.table_width(config)),
            "row": Out(layouts.row_source_bits(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        found = Signal(layouts.row_source_bits(config := self.config))
        with m.Switch(self.slot):
            for slot in range(layouts.slots(config)):
                low = slot * layouts.slot_bits(config)
                with m.Case(slot):
                    m.d.comb += found.eq(self.word[low:low + len(found)])
        narrow = layouts.ENTRY_BITS // 2
        widened = Cat(
            Cat(found.word_select(entry, narrow), Const(0, narrow))
            for entry in range(config.row_entries)
        )
        with m.If(self.en):
            m.d.sync += self.row.eq(found)
            with m.If(self.int4):
                m.d.sync += self.row[:len(widened)].eq(widened)
        return m
