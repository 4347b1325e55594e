"""Table buffer: the rows of one position for two rounds."""

from __future__ import annotations

from amaranth import Cat, Module, Mux
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.units import lookup_layouts as layouts


class TableBuffer(wiring.Component):
    """Two halves of ``table_words`` port words, one filled while the other is read.

    Reads the word that holds a slot, one a cycle, one cycle after the request, and keeps it
    until the next request. A request does not see the write of the same cycle.

    Parameters
    ----------
    config : HardwareConfig; ConfigError when half the buffer is smaller than a row

    Members
    -------
    write : In(write_layout), of which only words for the table are taken
    en, half, slot : In, the request; slots count from the start of a half
    word : Out(table_width)
    """

    write: data.View

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.width = layouts.table_width(config)
        super().__init__({
            "write": In(layouts.write_layout(config)),
            "en": In(1),
            "half": In(1),
            "slot": In(layouts.row_bits(config)),
            "word": Out(self.width),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, write = self.config, self.write
        half_words = config.table_words * config.port_bits // self.width
        m.submodules.rows = rows = memory.Memory(shape=self.width, depth=2 * half_words, init=[])
        source = rows.read_port()
        sink = rows.write_port(granularity=config.port_bits)

        parts = self.width // config.port_bits
        part = write.address[:bits_for(parts)] if parts > 1 else 0
        places = half_words.bit_length() - 1
        part_bits, slot_bits = (size.bit_length() - 1 for size in (parts, layouts.slots(config)))
        m.d.comb += [
            sink.addr.eq(Cat(write.address[part_bits:part_bits + places], write.half)),
            sink.data.eq(write.data.replicate(parts)),
            sink.en.eq(Mux(write.table, 1 << part, 0)),
            source.en.eq(self.en),
            source.addr.eq(Cat(self.slot[slot_bits:slot_bits + places], self.half)),
            self.word.eq(source.data),
        ]
        return m
