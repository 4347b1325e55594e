"""Lookup engine: sums of table rows, or of computed rows, over all positions of a layer."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import HardwareConfig
from hw.golden.lookup import row_offset
from hw.interfaces import Accumulate, MemoryRead, ReadCommand, Task
from hw.isa import LutMode, Opcode
from hw.port_shares import port_shares
from hw.register_map import SKIPPED_BITS
from hw.units import lookup_layouts as layouts
from hw.units.lookup_sequencer import LookupSequencer, tag_layout
from hw.units.position_lane import PositionLane
from hw.units.position_lists import ListRead
from hw.units.record_fetch import RecordFetch
from hw.units.record_loader import RecordLoader
from hw.units.sparse_fetch import SparseFetch
from hw.verilog import module

SETTLE_CYCLES = 1
"""Wait after the last sums, so that a reader of the accumulator finds them."""


def lookup_events_layout() -> data.StructLayout:
    """What happened in a cycle.

    lut_steps: positions x lanes entries were added. rowgen_rows: rows computed. row_reads: rows
    or codebook slices read from table buffers. table_words: port words received. skipped_rows:
    positions that a sparse instruction, which starts, does not read.
    """
    return data.StructLayout({"lut_steps": 1, "rowgen_rows": 8, "row_reads": 8, "table_words": 8,
                              "skipped_rows": SKIPPED_BITS})


class LutEngine(wiring.Component):
    """Adds ``positions x lanes`` row entries a cycle to one accumulator word.

    The position lanes form a systolic chain: lane k works k cycles after lane 0, and partial
    sums travel along. The next round is loaded while one is computed, or the next three if they
    fill at most a quarter of the buffers each: short rounds follow sooner than the last lane reads
    them. A round starts when every port has loaded it, so that an instruction takes about the
    larger of its port words and of ``rounds x slices x max(4, tokens x blocks)`` cycles. Sums
    leave ``positions + lane_cycles`` cycles after their step was issued and are never refused.

    With shared ports (`port_shares`) there is no GATHER: no port brings whole records.

    Without ``rowgen`` there are no computed rows, and only 8-bit indices have bits that choose a
    slice: the instruction must not ask for ROWGEN, nor for more than one slice or ``index_high``.

    A ``sparse`` instruction (ROWGEN, one token, `first`) takes activations and records by the
    position lists. Every word then begins with the row offsets of the rounds that the lists save,
    so that its sums are those of all positions.

    Parameters
    ----------
    config : HardwareConfig; ConfigError when sums of all positions do not fit a SIMD field or a
        row does not fit the table buffer

    Members
    -------
    task : In(Task(LUT))
    commands : Out(ReadCommand) of each weight port, only for GATHER and sparse instructions
        (`WeightPrefetch` asks for the words of the others)
    words : In(stream of port words) of each weight port; taken only by the running task
    operand : Out(MemoryRead of the operand store)
    lists : Out(ListRead), where the hardware skips positions
    sums : Out(Accumulate)
    events : Out(lookup_events_layout)
    """

    task: stream.Interface
    commands: list[stream.Interface]
    words: list[stream.Interface]
    operand: wiring.PureInterface
    lists: wiring.PureInterface
    sums: wiring.PureInterface
    events: data.View

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.field_bits = layouts.simd_field_bits(config)
        layouts.table_width(config)
        skips = {"lists": Out(ListRead(config))} if config.skips_positions else {}
        super().__init__(skips | {
            "task": In(Task(Opcode.LUT)),
            "commands": Out(ReadCommand()).array(config.weight_ports),
            "words": In(stream.Signature(config.port_bits)).array(config.weight_ports),
            "operand": Out(MemoryRead(16, config.word_elements * 8)),
            "sums": Out(Accumulate(config)),
            "events": Out(lookup_events_layout()),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, task, events = self.config, self.task.p, self.events
        m.submodules.sequencer = sequencer = LookupSequencer(config)
        setup, record = Signal(layouts.setup_layout(config)), Signal(layouts.record_layout())
        shares = port_shares(config)
        low_words = task.blocks * len(shares[0].parts)
        table_words = Mux(
            task.mode == LutMode.GATHER, task.tokens * task.bundle_words, task.table_words
        )
        m.d.sync += [
            setup.computed.eq(task.mode == LutMode.ROWGEN),
            setup.int4.eq(task.int4),
            setup.rows_per_code.eq(Mux(task.mode == LutMode.STREAM, task.rows_per_code, 0)),
            setup.index_high.eq(task.index_high),
            record.table_words.eq(table_words),
            record.low_words.eq(low_words),
            record.rounds.eq(task.rounds),
            record.packed.eq(task.index_high == 1),
            record.quartered.eq((table_words <= layouts.quarter_words(config))
                                & (task.blocks <= layouts.quarter_blocks(config))),
            record.high_words.eq(Mux(task.index_high == 0, 0, Mux(
                task.index_high == 1, (low_words + 1) >> 1, low_words
            ))),
        ]

        if config.rounds_rows:
            m.d.sync += setup.row_shift.eq(task.row_shift)
        shared_record, shared_low_words = Signal.like(record), Signal.like(record.low_words)
        if config.shared_ports:
            m.d.sync += shared_low_words.eq(task.blocks * len(shares[-1].parts))
            m.d.comb += [shared_record.eq(record), shared_record.low_words.eq(shared_low_words)]

        # Tags travel beside the steps; tags[n] is the one of n cycles ago.
        depth = config.positions + layouts.lane_cycles(config)
        width = sequencer.tag.shape().size
        history = Signal(depth * width)
        past = Cat(sequencer.tag, history)
        tags = [
            data.View(tag_layout(), past[age * width:(age + 1) * width])
            for age in range(depth + 1)
        ]
        m.d.sync += history.eq(past[:depth * width])

        since = Signal(range(depth + SETTLE_CYCLES + 1))
        start = Signal()
        m.d.comb += [sequencer.fields.eq(task), sequencer.start.eq(start)]
        m.d.comb += sequencer.quartered.eq(record.quartered)
        with m.FSM():
            with m.State("idle"):
                with m.If(self.task.valid):
                    m.next = "start"
            with m.State("start"):
                m.d.comb += start.eq(1)
                m.d.sync += since.eq(0)
                m.next = "run"
            with m.State("run"):
                with m.If(~sequencer.busy):
                    m.d.sync += since.eq(since + 1)
                with m.If(since == depth + SETTLE_CYCLES):
                    m.d.comb += self.task.ready.eq(1)
                    m.next = "idle"

        loaders = []
        for port, share in enumerate(shares):
            shared = port >= config.lane_ports
            name = "shared_loader" if shared else "record_loader"
            loader = module(name, RecordLoader(config, share))
            m.submodules[f"loader_{port}"] = loader
            connect(m, loader.words, flipped(self.words[port]))
            m.d.comb += [
                loader.record.eq(shared_record if shared else record),
                loader.start.eq(start),
                loader.take.eq(sequencer.take),
                # One cycle after the row and indices of the port's first lane were asked for.
                loader.released.eq(
                    tags[share.first_lane + layouts.generator_cycles(config) + 1].ends),
            ]
            loaders.append(loader)
        m.d.comb += sequencer.loaded.eq(Cat(loader.loaded for loader in loaders).all())

        step, operand, total = sequencer.step, self.operand.data, Const(0)
        if config.shared_ports:
            connect(m, sequencer.operand, flipped(self.operand))
        else:
            operand = self._gather(m, sequencer, loaders, record, start)
        for position in range(config.positions):
            lane = module("position_lane", PositionLane(config))
            m.submodules[f"lane_{position}"] = lane
            loader = loaders[position // config.positions_per_port]
            m.d.comb += [
                lane.setup.eq(setup),
                lane.write.eq(loader.write),
                lane.selected.eq(loader.lane[position % config.positions_per_port]),
                lane.step.eq(step),
                lane.operand.eq(operand),
                lane.partial.eq(total),
            ]
            if config.shared_ports:
                loader = loaders[config.lane_ports + position // 2]
                m.d.comb += [
                    lane.shared_write.eq(loader.write),
                    lane.shared_selected.eq(loader.lane[position % 2]),
                ]
            step, operand, total = lane.step_next, lane.operand_next, lane.total

        m.d.comb += [
            self.sums.valid.eq(tags[-1].valid),
            self.sums.bank.eq(task.bank),
            self.sums.address.eq(tags[-1].address),
            self.sums.first.eq(tags[-1].first),
        ]
        m.d.comb += [
            self.sums.sums[column].eq(total.word_select(column, self.field_bits))
            for column in range(config.lanes)
        ]
        rows = Mux(sequencer.step.read, config.positions, 0)
        m.d.comb += [
            events.lut_steps.eq(sequencer.step.valid),
            events.row_reads.eq(rows),
            events.rowgen_rows.eq(Mux(setup.computed, rows, 0)),
            events.table_words.eq(sum(words.valid & words.ready for words in self.words)),
        ]
        return m

    def _gather(
        self, m: Module, sequencer: Any, loaders: list[Any], record: data.View, start: Signal,
    ) -> Value:
        """What an instruction reads by codes or by position lists; returns the lanes' operand."""
        config, task = self.config, self.task.p
        m.submodules.fetch = fetch = RecordFetch(config)
        gather, listed = Signal(), Signal()
        m.d.sync += gather.eq(task.mode == LutMode.GATHER)
        m.d.comb += [fetch.fields.eq(task), fetch.start.eq(start & gather)]
        operand = Mux(gather, 0, self.operand.data)
        if config.skips_positions:
            m.d.comb += listed.eq(task.sparse)
            self._sparse(m, sequencer, fetch, loaders, record, start)
            operand = Mux(listed, self.lists.value.data, operand)
        else:
            for port, command in enumerate(fetch.commands):
                connect(m, command, flipped(self.commands[port]))
        m.d.comb += [
            self.operand.en.eq((sequencer.operand.en & ~listed) | fetch.operand.en),
            self.operand.address.eq(Mux(gather, fetch.operand.address, sequencer.operand.address)),
            sequencer.operand.data.eq(self.operand.data),
            fetch.operand.data.eq(self.operand.data),
        ]
        return operand

    def _sparse(
        self, m: Module, sequencer: Any, fetch: Any, loaders: list[Any], record: data.View,
        start: Signal,
    ) -> None:
        """A sparse instruction runs for the lists' rounds, with their activations and records."""
        config, task, lists = self.config, self.task.p, self.lists
        round_offset = config.positions * row_offset(config.row_bits)
        m.submodules.sparse_fetch = records = SparseFetch(config)
        connect(m, records.place, flipped(lists.place))
        m.d.comb += [
            records.fields.eq(task),
            records.rounds.eq(lists.rounds),
            records.start.eq(start & task.sparse),
            lists.value.en.eq(sequencer.operand.en),
            lists.value.address.eq(sequencer.operand.address),
        ]
        for port, command in enumerate(self.commands):
            listed, gathered = records.commands[port], fetch.commands[port]
            m.d.comb += [
                records.counts[port].eq(lists.counts[port]),
                loaders[port].listed.eq(task.sparse),
                loaders[port].count.eq(lists.counts[port]),
                command.valid.eq(listed.valid | gathered.valid),
                command.payload.eq(Mux(task.sparse, listed.payload, gathered.payload)),
                listed.ready.eq(command.ready),
                gathered.ready.eq(command.ready),
            ]
        with m.If(start & task.sparse):
            m.d.comb += self.events.skipped_rows.eq(
                task.rounds * config.positions - sum(lists.counts))
        with m.If(task.sparse):
            m.d.comb += [
                sequencer.fields.rounds.eq(lists.rounds), sequencer.fields.operands.eq(0),
            ]
            m.d.sync += [
                record.rounds.eq(lists.rounds),
                self.sums.base.eq((task.rounds - lists.rounds) * round_offset),
            ]
        with m.Else():
            m.d.sync += self.sums.base.eq(0)
