"""Copy lanes: every output column takes its entry of the row."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.units import lookup_layouts as layouts


class CopyLanes(wiring.Component):
    """``lanes`` multiplexers of a row's 8 or 16 entries to one, registered: one cycle.

    With 8-bit indices a column whose index lies in another slice than ``slice`` gets 0.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    row : In(row_entries x entry_bits)
    low, high : In(lanes x index_low_bits, lanes x 4 bits), the indices; only 8-bit ones have high
        bits
    slice : In(4)
    values : Out(lanes x entry_bits)
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        members = {
            "row": In(config.row_entries * config.entry_bits),
            "low": In(config.lanes * config.index_low_bits),
            "slice": In(layouts.SLICE_BITS),
            "values": Out(config.lanes * config.entry_bits),
        }
        planes = {"high": In(config.lanes * layouts.SLICE_BITS)} if config.wide_indices else {}
        super().__init__(members | planes)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width, index_bits = self.config.entry_bits, self.config.index_low_bits
        parts = [self.row.word_select(place, 4 * width)
                 for place in range(self.config.row_entries // 4)]
        columns = []
        for lane in range(self.config.lanes):
            # Two steps, as simulators make a Switch a tree of branches that random indices
            # mispredict, and shift the whole row for one part select.
            index = self.low.word_select(lane, index_bits)
            nearest = Signal(len(parts) * width, name=f"nearest_{lane}")
            m.d.comb += nearest.eq(Cat(part.word_select(index[:2], width) for part in parts))
            column = nearest.word_select(index[2:], width)
            if self.config.wide_indices:
                matches = Signal(name=f"matches_{lane}")
                high = self.high.word_select(lane, layouts.SLICE_BITS)
                m.d.comb += matches.eq(high == self.slice)
                column = Mux(matches, column, 0)
            columns.append(column)
        m.d.sync += self.values.eq(Cat(columns))
        return m
