"""Index buffer: the weight indices of one position for two rounds."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.units import lookup_layouts as layouts


class IndexBuffer(wiring.Component):
    """Two halves of ``index_blocks`` column blocks, one filled while the other is read.

    One block a cycle, two cycles after the request; held until the next one. The bits above the
    low four exist only in 8-bit indices; 2-bit ones are stored as they come, two blocks in the
    space of one, and widened when read. A request does not see the write of the same cycle.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    write : In(write_layout), of which only words for the indices are taken
    en, half, block, index_high : In, the request
    low, high : Out(lanes x 4 bits), bits 0..3 and 4..7 of the indices; 4-bit ones have no high
    """

    write: data.View

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.width = config.lanes * layouts.INDEX_BITS
        members = {
            "write": In(layouts.write_layout(config)),
            "en": In(1),
            "half": In(1),
            "block": In(layouts.block_bits(config)),
            "index_high": In(2),
            "low": Out(self.width),
        }
        super().__init__(members | ({"high": Out(self.width)} if config.wide_indices else {}))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        read = Signal()
        m.d.sync += read.eq(self.en)
        low = self._plane(m, "low", self.write.low, self.block)
        with m.If(read):
            m.d.sync += self.low.eq(low)
        if not self.config.wide_indices:
            return m

        packed, odd = Signal(), Signal()
        m.d.comb += packed.eq(self.index_high == 1)
        high = self._plane(m, "high", self.write.high, self.block >> packed)
        with m.If(self.en):
            m.d.sync += odd.eq(self.block[0])
        pairs = Mux(odd, high[self.width // 2:], high[:self.width // 2])
        widened = Cat(Cat(pairs.word_select(lane, 2), Const(0, 2))
                      for lane in range(self.config.lanes))
        with m.If(read):
            with m.Switch(self.index_high):
                with m.Case(0):
                    m.d.sync += self.high.eq(0)
                with m.Case(1):
                    m.d.sync += self.high.eq(widened)
                with m.Default():
                    m.d.sync += self.high.eq(high)
        return m

    def _plane(self, m: Module, name: str, written: Signal, block: Signal) -> Signal:
        """A memory of 4 bits for each column of each block."""
        config, write = self.config, self.write
        block_bits = layouts.block_bits(config)
        m.submodules[name] = plane = memory.Memory(
            shape=self.width, depth=2 << block_bits, init=[]
        )
        source = plane.read_port()
        sink = plane.write_port(granularity=config.port_bits)
        parts = layouts.block_words(config)
        m.d.comb += [
            sink.addr.eq(Cat(write.address[:block_bits], write.half)),
            sink.data.eq(write.data.replicate(parts)),
            sink.en.eq(Cat(written & (write.part == part) for part in range(parts))),
            source.en.eq(self.en),
            source.addr.eq(Cat(block[:block_bits], self.half)),
        ]
        return source.data
