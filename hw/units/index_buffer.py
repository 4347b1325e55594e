"""Index buffer: the weight indices of one position for two rounds."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.port_shares import port_shares
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
    shared_write : In(write_layout), with shared ports: of the blocks' last words
    en, half, block, index_high : In, the request
    low, high : Out(lanes x index_low_bits, lanes x 4 bits), the bits of the indices that choose
        within a row, and those above them; only 8-bit ones have high bits
    """

    write: data.View
    shared_write: data.View

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.width = config.lanes * config.index_low_bits
        members = {
            "write": In(layouts.write_layout(config)),
            "en": In(1),
            "half": In(1),
            "block": In(layouts.block_bits(config)),
            "index_high": In(2),
            "low": Out(self.width),
        }
        if config.shared_ports:
            members["shared_write"] = In(layouts.write_layout(config))
        super().__init__(members | ({"high": Out(self.width)} if config.wide_indices else {}))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        read = Signal()
        m.d.sync += read.eq(self.en)
        own, *shared = dict.fromkeys(share.parts for share in port_shares(self.config))
        low = self._plane(m, "low", self.write, self.write.low, self.block, len(own))
        for parts in shared:
            low = Cat(low, self._plane(m, "low_shared", self.shared_write, self.shared_write.low,
                                       self.block, len(parts), parts.start))
        with m.If(read):
            m.d.sync += self.low.eq(low)
        if not self.config.wide_indices:
            return m

        packed, odd = Signal(), Signal()
        m.d.comb += packed.eq(self.index_high == 1)
        high = self._plane(m, "high", self.write, self.write.high, self.block >> packed, len(own))
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

    def _plane(
        self, m: Module, name: str, write: data.View, written: Signal, block: Signal, parts: int,
        first: int = 0,
    ) -> Signal:
        """A memory of these words of each block: 3 or 4 bits for each column."""
        config = self.config
        block_bits = layouts.block_bits(config)
        m.submodules[name] = plane = memory.Memory(
            shape=parts * config.port_bits, depth=2 << block_bits, init=[]
        )
        source = plane.read_port()
        sink = plane.write_port(granularity=config.port_bits)
        m.d.comb += [
            sink.addr.eq(Cat(write.address[:block_bits], write.half)),
            sink.data.eq(write.data.replicate(parts)),
            sink.en.eq(Cat(written & (write.part == first + part) for part in range(parts))),
            source.en.eq(self.en),
            source.addr.eq(Cat(block[:block_bits], self.half)),
        ]
        return source.data
