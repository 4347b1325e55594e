"""Softmax engine: scores to weights in the operand store and reciprocals of their sums."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.golden.softmax import FRACTION_BITS
from hw.interfaces import OperandWrite, Task, VectorRead
from hw.isa import Opcode
from hw.memory.operand_store import ScaleWrite
from hw.memory.token_order import ENTRY_BITS, ImportanceAdd
from hw.units.softmax_bounds import SoftmaxBounds
from hw.units.softmax_importance import SoftmaxImportance
from hw.units.softmax_lane import (
    PENALTY_BITS,
    PENALTY_SHIFT,
    SCORE_STAGES,
    STAGES,
    SoftmaxLane,
    offset_bits,
)
from hw.units.softmax_peak import SoftmaxPeak
from hw.units.softmax_reciprocal import SoftmaxReciprocal
from hw.units.vector_reader import VectorReader
from hw.verilog import module

TAG_LAYOUT = data.StructLayout({"weight": 8, "entry": ENTRY_BITS, "fresh": 1})
"""What goes with a row to the end of its division."""
ROW_BITS = 16
"""Width of ``tokens * heads``."""
HALF = 1 << PENALTY_SHIFT - 1


class SoftmaxEngine(wiring.Component):
    """Run SOFTMAX: for each row a pass for its maximum and a pass that writes its weights.

    A row takes a cycle for each vector word it sees, one for each of its rounds, and
    ``log2(word_elements) + 13`` cycles. Words that it does not see are not read. The division of
    a row (30 cycles) runs beside the next row. The position of a row lies within its rounds;
    rounds, tokens, heads and words of a task are not 0.

    Parameters
    ----------
    config : HardwareConfig, tasks may set ``log2`` only with ``log2_softmax``

    Members
    -------
    task : In(Task(SOFTMAX))
    vector : Out(VectorRead)
    operand : Out(OperandWrite), a word for each row and round
    scale_write : Out(ScaleWrite), the reciprocal of each row
    add : Out(ImportanceAdd()), for each row of a task with ``importance`` (``orders_tokens``)
    events : Out({softmax_steps}), operand words written
    """

    task: stream.Interface
    vector: wiring.PureInterface
    operand: stream.Interface
    scale_write: stream.Interface
    add: wiring.PureInterface
    events: data.View

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "task": In(Task(Opcode.SOFTMAX)),
            "vector": Out(VectorRead(config)),
            "operand": Out(OperandWrite(config)),
            "scale_write": Out(ScaleWrite()),
            "add": Out(ImportanceAdd()),
            "events": Out(data.StructLayout({"softmax_steps": 1})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        task = self.task.p
        m.submodules.reader = reader = VectorReader(self.config)
        m.submodules.peak = peak = SoftmaxPeak(self.config)
        m.submodules.reciprocal = reciprocal = SoftmaxReciprocal(
            self.config, TAG_LAYOUT.size if self.config.orders_tokens else 0)
        wiring.connect(m, reader.memory, wiring.flipped(self.vector))
        wiring.connect(m, reciprocal.scale_write, wiring.flipped(self.scale_write))

        row, rows = Signal(ROW_BITS), Signal(ROW_BITS)
        head, position, source = Signal(8), Signal(20), Signal(16)
        word = Signal.like(task.rounds)
        product, base = Signal(PENALTY_BITS), Signal(signed(PENALTY_BITS + 2))
        m.submodules.bounds = bounds = SoftmaxBounds(self.config)
        requesting, asking, allowed = Signal(), Signal(), Signal()
        self._request(m, reader, source, bounds, asking, allowed, requesting)

        # A word enters the lanes, in the second pass also one that is not seen and so not read.
        weighing, taking, entering, advance = Signal(), Signal(), Signal(), Signal()
        filled = Signal(STAGES)
        enable = Cat(entering, filled[:SCORE_STAGES - 1], filled[SCORE_STAGES - 1] & weighing,
                     filled[SCORE_STAGES:-1])
        m.d.comb += [
            bounds.position.eq(position),
            bounds.window.eq(task.window),
            bounds.words.eq(task.words),
            bounds.word.eq(word),
            advance.eq(~self.operand.valid | self.operand.ready),
            entering.eq(advance & taking & (reader.o.valid | ~bounds.visible)),
            reader.o.ready.eq(advance & taking & bounds.visible),
        ]
        with m.If(advance):
            m.d.sync += filled.eq(enable)
        with m.If(entering):
            m.d.sync += word.eq(word + 1)
            with m.If(bounds.visible):
                m.d.sync += base.eq(base - (task.slope << bits_for(self.config.word_elements)))
        weights = self._lanes(
            m, reader.o.payload, Mux(advance, enable, 0), base, bounds, peak,
        )
        m.d.comb += peak.valid.eq(filled[SCORE_STAGES - 1] & ~weighing)

        written = self._write(m, filled[-1], weights, reciprocal, weighing, row, rows)
        idle = reciprocal.idle
        if self.config.orders_tokens:
            idle = idle & ~self._importance(
                m, weights[0], reciprocal, weighing, head, position - task.position)
        m.d.sync += rows.eq(task.tokens * task.heads)
        with m.FSM():
            with m.State("idle"):
                m.d.sync += [
                    row.eq(0), head.eq(0), position.eq(task.position), source.eq(task.source),
                ]
                with m.If(self.task.valid):
                    m.next = "bound"
            with m.State("bound"):
                m.d.comb += bounds.load.eq(1)
                m.next = "multiply"
            with m.State("multiply"):
                m.d.comb += asking.eq(1)
                m.d.sync += product.eq(task.slope * bounds.distance)
                m.next = "prepare"
            with m.State("prepare"):
                m.d.comb += [allowed.eq(1), peak.clear.eq(1)]
                m.d.sync += [base.eq(product + HALF), word.eq(bounds.first)]
                m.next = "peak"
            with m.State("peak"):
                m.d.comb += [allowed.eq(1), taking.eq(1)]
                with m.If(entering & (word == bounds.final)):
                    m.next = "settle"
            with m.State("settle"):
                m.d.comb += allowed.eq(1)
                m.d.sync += [base.eq(product + HALF), word.eq(0)]
                # The sum of the row before must be under division.
                with m.If(~filled[:SCORE_STAGES].any() & ~peak.busy & reciprocal.collecting):
                    m.next = "weigh"
            with m.State("weigh"):
                m.d.comb += [
                    allowed.eq(1), weighing.eq(1), taking.eq(word != task.rounds),
                ]
                with m.If(written & ~requesting):
                    m.d.comb += reciprocal.row_done.eq(1)
                    m.d.sync += [
                        row.eq(row + 1), head.eq(head + 1), source.eq(source + task.stride),
                    ]
                    with m.If(head + 1 == task.heads):
                        m.d.sync += [head.eq(0), position.eq(position + 1)]
                    m.next = "bound"
                    with m.If(row + 1 == rows):
                        m.next = "finish"
            with m.State("finish"):
                m.d.comb += self.task.ready.eq(idle)
                with m.If(idle):
                    m.next = "idle"
        return m

    def _request(
        self, m: Module, reader: VectorReader, source: Signal, bounds: SoftmaxBounds,
        asking: Signal, allowed: Signal, active: Signal,
    ) -> None:
        """Ask twice for the words that a row sees; ``active`` while there is more to ask for."""
        again = Signal()
        word = Signal.like(bounds.first)
        m.d.comb += [
            reader.i.valid.eq(active & allowed),
            reader.i.payload.eq(source + word),
        ]
        with m.If(asking):
            m.d.sync += [active.eq(1), again.eq(0), word.eq(bounds.first)]
        with m.Elif(reader.i.valid & reader.i.ready):
            m.d.sync += word.eq(word + 1)
            with m.If(word == bounds.final):
                m.d.sync += [word.eq(bounds.first), again.eq(1), active.eq(~again)]

    def _lanes(
        self, m: Module, scores: Value, enable: Value, base: Signal,
        bounds: SoftmaxBounds, peak: SoftmaxPeak,
    ) -> list[Value]:
        """The lanes of a word; returns its weights."""
        task = self.task.p
        enabled = Signal(STAGES)
        m.d.comb += enabled.eq(enable)
        weights = []
        for n in range(self.config.word_elements):
            m.submodules[f"lane_{n}"] = lane = module("softmax_lane", SoftmaxLane(self.config))
            offset = Signal(offset_bits(self.config), name=f"offset_{n}")
            with m.If(bounds.load):
                m.d.sync += offset.eq(task.slope * n)
            m.d.comb += [
                lane.enable.eq(enabled),
                lane.word_score.eq(scores[16 * n:16 * (n + 1)]),
                lane.up.eq(FRACTION_BITS - task.fraction),
                lane.base.eq(base),
                lane.offset.eq(offset),
                lane.seen.eq(bounds.seen[n]),
                lane.top.eq(peak.peak),
                lane.log2.eq(task.log2),
                peak.scores[n].eq(lane.score),
            ]
            weights.append(lane.weight)
        return weights

    def _importance(
        self, m: Module, weight: Value, reciprocal: SoftmaxReciprocal, weighing: Signal,
        head: Signal, token: Value,
    ) -> Value:
        """Add the rows' weights of position 0 to their tokens; returns whether that goes on."""
        task = self.task.p
        m.submodules.importance = importance = SoftmaxImportance(self.config)
        wiring.connect(m, importance.add, wiring.flipped(self.add))
        tag, done = Signal(TAG_LAYOUT), data.View(TAG_LAYOUT, reciprocal.scale_tag)
        first, kept = Signal(8), Signal()
        with m.If(~weighing):
            m.d.sync += kept.eq(0)
        with m.Elif(self.operand.valid & ~kept):
            m.d.sync += [kept.eq(1), first.eq(weight)]
        m.d.comb += [
            tag.weight.eq(first),
            tag.entry.eq(task.entry + token),
            tag.fresh.eq(task.fresh & (head == 0)),
            reciprocal.tag.eq(tag),
            importance.valid.eq(
                self.scale_write.valid & self.scale_write.ready & task.importance),
            importance.weight.eq(done.weight),
            importance.entry.eq(done.entry),
            importance.fresh.eq(done.fresh),
            importance.log2.eq(task.log2),
            importance.reciprocal.eq(self.scale_write.p.data),
        ]
        return importance.busy

    def _write(
        self, m: Module, valid: Value, weights: list[Value], reciprocal: SoftmaxReciprocal,
        weighing: Signal, row: Signal, rows: Signal,
    ) -> Value:
        """Write and add up a row's weights; returns whether all are written."""
        task = self.task.p
        address = Signal(16)
        count = Signal.like(task.rounds)
        transfer = Signal()
        m.d.comb += [
            self.operand.valid.eq(valid & weighing),
            self.operand.p.address.eq(address),
            self.operand.p.data.eq(Cat(*weights)),
            self.operand.p.nibbles.eq(-1),
            transfer.eq(self.operand.valid & self.operand.ready),
            reciprocal.valid.eq(transfer),
            reciprocal.weights.eq(self.operand.p.data),
            reciprocal.log2.eq(task.log2),
            reciprocal.address.eq(task.scales + row),
            self.events.softmax_steps.eq(transfer),
        ]
        with m.If(~weighing):
            m.d.sync += [address.eq(task.operands + row), count.eq(0)]
        with m.Elif(transfer):
            m.d.sync += [address.eq(address + rows), count.eq(count + 1)]
        return ~self.operand.valid & (count == task.rounds)
