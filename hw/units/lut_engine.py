"""Lookup engine: sums of table rows, or of computed rows, over all positions of a layer."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import HardwareConfig
from hw.interfaces import Accumulate, MemoryRead, ReadCommand, Task
from hw.isa import LutMode, Opcode
from hw.units import lookup_layouts as layouts
from hw.units.lookup_sequencer import LookupSequencer, tag_layout
from hw.units.position_lane import PositionLane
from hw.units.record_fetch import RecordFetch
from hw.units.record_loader import RecordLoader
from hw.verilog import module

SETTLE_CYCLES = 1
"""Wait after the last sums, so that a reader of the accumulator finds them."""


def lookup_events_layout() -> data.StructLayout:
    """What happened in a cycle.

    lut_steps: positions x lanes entries were added. rowgen_rows: rows computed. row_reads: rows
    or codebook slices read from table buffers. table_words: port words received.
    """
    return data.StructLayout({"lut_steps": 1, "rowgen_rows": 8, "row_reads": 8, "table_words": 8})


class LutEngine(wiring.Component):
    """Adds ``positions x lanes`` row entries a cycle to one accumulator word.

    The position lanes form a systolic chain: lane k works k cycles after lane 0, and partial
    sums travel along. The next round is loaded while one is computed; a round starts when every
    port has loaded it, so that an instruction takes about the larger of its port words and of
    ``rounds x slices x max(4, tokens x blocks)`` cycles. Sums leave
    ``positions + lane_cycles`` cycles after their step was issued and are never refused.

    Without ``rowgen`` there are no computed rows and no index bits above the low four: the
    instruction must not ask for ROWGEN, for more than one slice or for ``index_high``.

    Parameters
    ----------
    config : HardwareConfig; ConfigError when sums of all positions do not fit a SIMD field or a
        row does not fit the table buffer

    Members
    -------
    task : In(Task(LUT))
    commands : Out(ReadCommand) of each weight port, only for GATHER (`WeightPrefetch` asks for the
        words of the other modes)
    words : In(stream of port words) of each weight port; taken only by the running task
    operand : Out(MemoryRead of the operand store)
    sums : Out(Accumulate)
    events : Out(lookup_events_layout)
    """

    task: stream.Interface
    commands: list[stream.Interface]
    words: list[stream.Interface]
    operand: wiring.PureInterface
    sums: wiring.PureInterface
    events: data.View

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.field_bits = layouts.simd_field_bits(config)
        layouts.table_width(config)
        super().__init__({
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
        m.submodules.fetch = fetch = RecordFetch(config)

        setup, record = Signal(layouts.setup_layout()), Signal(layouts.record_layout())
        low_words = task.blocks * layouts.block_words(config)
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
            record.high_words.eq(Mux(task.index_high == 0, 0, Mux(
                task.index_high == 1, (low_words + 1) >> 1, low_words
            ))),
        ]

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

        gather = Signal()
        m.d.sync += gather.eq(task.mode == LutMode.GATHER)
        since = Signal(range(depth + SETTLE_CYCLES + 1))
        start = Signal()
        m.d.comb += [fetch.fields.eq(task), fetch.start.eq(start & gather)]
        m.d.comb += [sequencer.fields.eq(task), sequencer.start.eq(start)]
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
        for port in range(config.weight_ports):
            loader = module("record_loader", RecordLoader(config))
            m.submodules[f"loader_{port}"] = loader
            connect(m, fetch.commands[port], flipped(self.commands[port]))
            connect(m, loader.words, flipped(self.words[port]))
            first = port * config.positions_per_port
            m.d.comb += [
                loader.record.eq(record),
                loader.start.eq(start),
                loader.take.eq(sequencer.take),
                # One cycle after the row and indices of the port's first lane were asked for.
                loader.released.eq(tags[first + layouts.generator_cycles(config) + 1].ends),
            ]
            loaders.append(loader)
        m.d.comb += sequencer.loaded.eq(Cat(loader.loaded for loader in loaders).all())

        m.d.comb += [
            self.operand.en.eq(sequencer.operand.en | fetch.operand.en),
            self.operand.address.eq(Mux(gather, fetch.operand.address, sequencer.operand.address)),
            sequencer.operand.data.eq(self.operand.data),
            fetch.operand.data.eq(self.operand.data),
        ]

        step, operand, total = sequencer.step, Mux(gather, 0, self.operand.data), Const(0)
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
