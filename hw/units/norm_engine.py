"""Norm engine: RMSNorm or LayerNorm of rows in the vector memory."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import ReadCommand, Task, VectorRead, VectorWrite
from hw.isa import LINE_BYTES, Opcode
from hw.units.norm_parameters import NormParameters, header_words
from hw.units.norm_passes import NormPasses, PassKind
from hw.units.norm_pipeline import ROW_SCALE, NormPipeline
from hw.units.norm_rows import NormRows
from hw.units.row_walk import RowWalk


class NormEngine(wiring.Component):
    """Run NORM: for each row a pass for its peak, its sum if ``center``, its squares, its results.

    A pass reads a vector word a cycle. Passes over several rows take turns (`NormPasses`), so that
    the next rows are read while a root and a reciprocal are found: a row costs its passes, or 14
    cycles if that is more; the last one 45 more. Parameters are read once and kept, while the
    first rows are read; ``words`` is at most `hw.units.row_limits.norm_words_max`, no count is 0.
    Every word of a row is read before it is written, so that rows can be replaced in place; a row
    may be read before those in front of it are written.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In(Task(NORM))
    command : Out(ReadCommand), one for the parameters of an instruction
    words : In(stream of port words)
    vector_read : Out(VectorRead)
    vector_write : Out(VectorWrite)
    events : Out({norm_steps}), vector words written
    """

    task: stream.Interface
    command: stream.Interface
    words: stream.Interface
    vector_read: wiring.PureInterface
    vector_write: stream.Interface
    events: data.View

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "task": In(Task(Opcode.NORM)),
            "command": Out(ReadCommand()),
            "words": In(stream.Signature(config.port_bits)),
            "vector_read": Out(VectorRead(config)),
            "vector_write": Out(VectorWrite(config)),
            "events": Out(data.StructLayout({"norm_steps": 1})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        task = self.task.p
        m.submodules.parameters = parameters = NormParameters(self.config)
        m.submodules.passes = passes = NormPasses(self.config)
        m.submodules.pipeline = pipeline = NormPipeline(self.config)
        m.submodules.rows = rows = NormRows()
        header = parameters.header
        start, running, known = Signal(), Signal(), Signal()
        busy = self._pass(m, passes, rows, parameters, pipeline, known)
        self._write(m, pipeline, start, running)
        wiring.connect(m, parameters.words, wiring.flipped(self.words))
        wiring.connect(m, pipeline.weight_read, parameters.weight_read)
        wiring.connect(m, pipeline.bias_read, parameters.bias_read)
        wiring.connect(m, passes.memory, wiring.flipped(self.vector_read))
        m.d.comb += [
            self.command.p.address.eq(task.address * LINE_BYTES),
            self.command.p.words.eq((task.words << 1) + header_words(self.config)),
            parameters.start.eq(start),
            parameters.count.eq(task.words),
            passes.start.eq(start),
            passes.task.eq(task),
            rows.start.eq(start),
            rows.center.eq(task.center),
            rows.inverse.eq(header.inverse),
            rows.epsilon.eq(header.epsilon),
            rows.peak.eq(pipeline.peak),
            rows.total.eq(pipeline.total),
            pipeline.wide.eq(task.wide),
            pipeline.shift.eq(header.shift),
            running.eq(self.task.valid),
        ]
        with m.FSM():
            with m.State("idle"):
                m.d.comb += [running.eq(0), self.command.valid.eq(self.task.valid)]
                with m.If(self.task.valid & self.command.ready):
                    m.d.comb += start.eq(1)
                    m.next = "header"
            with m.State("header"):
                with m.If(parameters.known):
                    m.next = "rows"
            with m.State("rows"):
                m.d.comb += known.eq(1)
                with m.If(~passes.busy & ~busy & ~pipeline.busy):
                    m.next = "complete"
            with m.State("complete"):
                m.d.comb += self.task.ready.eq(1)
                m.next = "idle"
        return m

    def _pass(
        self, m: Module, passes: NormPasses, rows: NormRows, parameters: NormParameters,
        pipeline: NormPipeline, enabled: Signal,
    ) -> Signal:
        """Give the words of the passes to the pipeline, pairs together, as soon as their rows'
        scales are known; returns whether a pass is under way.
        """
        task = self.task.p
        offered, i = passes.words, pipeline.i
        under_way, first, last, second = Signal(), Signal(), Signal(), Signal()
        kind, scale, index = Signal(PassKind), Signal(ROW_SCALE), Signal(12)
        low = Signal(self.config.port_bits)
        hold, known = Signal(), Signal()
        element_bits = self.config.word_elements.bit_length() - 1
        columns = parameters.header.columns
        last_word, rest = columns[element_bits:], columns[:element_bits]
        m.d.comb += [
            rows.pass_.eq(passes.o.payload),
            rows.take.eq(passes.o.valid & passes.o.ready),
            passes.o.ready.eq(enabled & rows.known & (~under_way | last)),
            hold.eq(task.wide & ~second),
            known.eq((kind != PassKind.RESULTS) | (index < parameters.loaded)),
            offered.ready.eq(under_way & (hold | (known & i.ready))),
            i.valid.eq(under_way & offered.valid & ~hold & known),
            i.p.low.eq(low),
            i.p.word.eq(offered.payload),
            i.p.index.eq(index),
            i.p.place.kind.eq(kind),
            i.p.place.first.eq(first),
            i.p.place.last.eq(index + 1 == task.words),
            i.p.scale.eq(scale),
            i.p.present.eq(Cat(
                (index < last_word) | ((index == last_word) & (n < rest))
                for n in range(self.config.word_elements)
            )),
            last.eq(i.valid & i.ready & i.p.place.last),
        ]
        with m.If(offered.valid & offered.ready):
            m.d.sync += second.eq(hold)
            with m.If(hold):
                m.d.sync += low.eq(offered.payload)
            with m.Else():
                m.d.sync += [index.eq(index + 1), first.eq(0)]
        with m.If(last):
            m.d.sync += under_way.eq(0)
        with m.If(rows.take):
            m.d.sync += [
                under_way.eq(1), first.eq(1), second.eq(0), index.eq(0),
                kind.eq(passes.o.p.kind), scale.eq(rows.scale),
            ]
        return under_way

    def _write(self, m: Module, pipeline: NormPipeline, start: Signal, running: Signal) -> None:
        """Write results to the rows of the destination."""
        task, write, o = self.task.p, self.vector_write, pipeline.o
        written = Signal()
        last_word = o.p.index + 1 == task.words
        m.submodules.destination_rows = rows = RowWalk()
        m.d.comb += [
            rows.start.eq(start),
            rows.step.eq(written & last_word),
            rows.base.eq(task.destination),
            rows.stride.eq(task.destination_stride),
            rows.head_stride.eq(task.destination_head_stride),
            rows.tokens.eq(task.tokens),
            rows.heads.eq(task.heads),
            write.valid.eq(o.valid & running),
            write.p.address.eq(rows.row + o.p.index),
            write.p.data.eq(o.p.data),
            o.ready.eq(write.ready & running),
            written.eq(write.valid & write.ready),
            self.events.norm_steps.eq(written),
        ]
