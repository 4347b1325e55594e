"""Record loader: sorts one port's words into the buffers of its position lanes."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.port_shares import PortShare
from hw.units import lookup_layouts as layouts

HALVES, QUARTERS = 2, 4
RECORD_BITS = 16


class RecordLoader(wiring.Component):
    """Fills the lanes of a port round by round, one word a cycle, ahead of the lanes.

    A round is the port's share of one record for each of its lanes: table words, then low index
    words, then high ones. Words wait while both halves are full, or with ``quartered`` all four of
    their parts; those behind an instruction's last round belong to the next one and wait for its
    start. A word is in its buffer two cycles after its transfer.

    Parameters
    ----------
    config : HardwareConfig
    share : PortShare

    Members
    -------
    record : In(record_layout), of the instruction; what the port does not bring does not count
    start : In(1), its words are taken from the next cycle on
    listed : In(1), count : In, only the first ``count`` records come, zeros stand for the others
    words : In(stream of port words)
    write : Out(write_layout), lane : Out, one-hot, the lane of the port that takes it
    loaded : Out(1), a round is loaded that was not taken; a step may start in this cycle
    take : In(1), the lanes start on a loaded round
    released : In(1), the oldest round was read for the last time by the port's first lane, or
        will be within this cycle and the next; later lanes of the port may lag by one cycle each
    """

    record: data.View
    words: stream.Interface
    write: data.View

    def __init__(self, config: HardwareConfig, share: PortShare) -> None:
        self.config, self.share = config, share
        super().__init__({
            "record": In(layouts.record_layout()),
            "start": In(1),
            "listed": In(1),
            "count": In(RECORD_BITS),
            "words": In(stream.Signature(config.port_bits)),
            "write": Out(layouts.write_layout(config)),
            "lane": Out(share.lanes),
            "loaded": Out(1),
            "take": In(1),
            "released": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        record, write = self.record, self.write
        complete, moved, last_word, room = Signal(), Signal(), Signal(), Signal()
        half = Signal(2)
        reading, round_ = Signal(), Signal.like(record.rounds)
        filled, waiting = Signal(range(QUARTERS + 1)), Signal(range(QUARTERS + 1))
        left, absent = Signal(RECORD_BITS), Signal()
        m.d.sync += [
            filled.eq(filled + complete - self.released),
            waiting.eq(waiting + complete - self.take),
        ]
        m.d.comb += [
            self.loaded.eq(waiting != 0),
            absent.eq(self.listed & (left == 0)),
            room.eq(filled != Mux(record.quartered, QUARTERS, HALVES)),
            self.words.ready.eq(reading & room & ~absent),
            moved.eq(reading & room & (self.words.valid | absent)),
        ]

        # A lane's turn and a part's turn are one-hot registers; the word counts within a part.
        share = self.share
        lane = Signal(share.lanes, init=1)
        table, low, high = Signal(init=share.table), Signal(init=not share.table), Signal()
        word, part_words = Signal(16), Signal(16)
        part, block = Signal.like(write.part, init=share.parts.start), Signal.like(write.address)
        record_ends = Signal()
        with m.If(table):
            m.d.comb += part_words.eq(record.table_words)
        with m.Elif(low):
            m.d.comb += part_words.eq(record.low_words)
        with m.Else():
            m.d.comb += part_words.eq(record.high_words)
        m.d.comb += [
            last_word.eq(word + 1 == part_words),
            record_ends.eq(moved & last_word & (high | (low & (record.high_words == 0)))),
            complete.eq(record_ends & lane[-1]),
        ]
        with m.If(moved):
            m.d.sync += word.eq(word + 1)
            with m.If(~table):
                m.d.sync += part.eq(part + 1)
                with m.If(part == share.parts[-1]):
                    m.d.sync += [part.eq(share.parts.start), block.eq(block + 1)]
            with m.If(last_word):
                m.d.sync += [word.eq(0), part.eq(share.parts.start), block.eq(0)]
                m.d.sync += [low.eq(table), high.eq(low), table.eq(0)]
        with m.If(record_ends & ~absent):
            m.d.sync += left.eq(left - 1)
        with m.If(record_ends):
            m.d.sync += [table.eq(share.table), low.eq(not share.table), high.eq(0),
                         lane.eq(lane.rotate_left(1))]
        with m.If(complete):
            m.d.sync += [
                half.eq(Mux(record.quartered, half + 1, ~half[0])), round_.eq(round_ + 1),
            ]
            with m.If(round_ + 1 == record.rounds):
                m.d.sync += reading.eq(0)
        with m.If(self.start):
            m.d.sync += [reading.eq(1), round_.eq(0), left.eq(self.count), half.eq(0)]

        # Of four parts of the buffers, those behind the first two begin in the middle of a half.
        blocks = layouts.quarter_blocks(self.config)
        upper = Mux(table, self.config.table_words // 2,
                    Mux(high & record.packed, blocks // 2, blocks))
        m.d.sync += [write.table.eq(moved & table), write.low.eq(moved & low),
                     write.high.eq(moved & high)]
        with m.If(moved):
            m.d.sync += [
                write.half.eq(half[0]),
                write.address.eq(Mux(table, word, block) | Mux(half[1], upper, 0)),
                write.part.eq(part),
                write.data.eq(Mux(absent, 0, self.words.payload)),
                self.lane.eq(lane),
            ]
        return m
