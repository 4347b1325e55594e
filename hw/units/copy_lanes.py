"""Copy lanes: every output column takes its entry of the row."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import ROW_ENTRIES, HardwareConfig
from hw.units import lookup_layouts as layouts


class CopyLanes(wiring.Component):
    """``lanes`` multiplexers of 16 entries to one, registered: one cycle.

    With 8-bit indices a column whose index lies in another slice than ``slice`` gets 0.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    row : In(16 x entry_bits)
    low, high : In(lanes x 4 bits), the indices; 4-bit ones have no high bits
    slice : In(4)
    values : Out(lanes x entry_bits)
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        members = {
            "row": In(ROW_ENTRIES * config.entry_bits),
            "low": In(config.lanes * layouts.INDEX_BITS),
            "slice": In(layouts.INDEX_BITS),
            "values": Out(config.lanes * config.entry_bits),
        }
        planes = {"high": In(config.lanes * layouts.INDEX_BITS)} if config.wide_indices else {}
        super().__init__(members | planes)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.config.entry_bits
        quarters = [self.row.word_select(place, 4 * width) for place in range(4)]
        columns = []
        for lane in range(self.config.lanes):
            # Two steps, as simulators make a Switch a tree of branches that random indices
            # mispredict, and shift the whole row for one part select.
            index = self.low.word_select(lane, layouts.INDEX_BITS)
            nearest = Signal(4 * width, name=f"nearest_{lane}")
            m.d.comb += nearest.eq(Cat(entry.word_select(index[:2], width) for entry in quarters))
            column = nearest.word_select(index[2:], width)
            if self.config.wide_indices:
                matches = Signal(name=f"matches_{lane}")
                high = self.high.word_select(lane, layouts.INDEX_BITS)
                m.d.comb += matches.eq(high == self.slice)
                column = Mux(matches, column, 0)
            columns.append(column)
        m.d.sync += self.values.eq(Cat(columns))
        return m
