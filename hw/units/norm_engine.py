"""Norm engine: RMSNorm or LayerNorm of rows in the vector memory."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.golden.norm import EPSILON_BITS, INVERSE_BITS, UP_SHIFT_MAX
from hw.interfaces import ReadCommand, Task, VectorRead, VectorWrite
from hw.isa import LINE_BYTES, Opcode
from hw.units.norm_parameters import NormParameters, header_words
from hw.units.norm_pipeline import ROW_SCALE, SUM_BITS, NormPipeline
from hw.units.reciprocal_root import TOTAL_BITS, ReciprocalRoot
from hw.units.row_walk import RowWalk
from hw.units.vector_reader import VectorReader

HALF_INVERSE = 16
"""Bits of the mean's factor that are multiplied at a time."""
VALUE_SUM_BITS = 34
"""Sum of 2**15 shifted values, with its sign."""


class NormEngine(wiring.Component):
    """Run NORM: for each row a pass for its peak, its sum if ``center``, its squares, its results.

    A pass reads a vector word a cycle; 55 to 70 cycles a row go to the latencies between passes,
    the root and the reciprocal. Parameters are read once and kept, while the first row is read;
    ``words`` is at most `hw.units.row_limits.norm_words_max`, no count is 0. Every word of a row
    is read before it is written, so that rows can be replaced in place.

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
        m.submodules.pipeline = pipeline = NormPipeline(self.config)
        m.submodules.root = root = ReciprocalRoot()
        start, running = Signal(), Signal()
        passing, results, last = Signal(), Signal(), Signal()
        reader, requesting = self._request(m, start, running)
        self._pass(m, reader, parameters, pipeline, start, passing, results, last)
        self._write(m, pipeline, start, running)
        wiring.connect(m, parameters.words, wiring.flipped(self.words))
        wiring.connect(m, pipeline.weight_read, parameters.weight_read)
        wiring.connect(m, pipeline.bias_read, parameters.bias_read)

        header = parameters.header
        scale = Signal(ROW_SCALE)
        square, writing = Signal(), Signal()
        epsilon, total = Signal(EPSILON_BITS + 2 * UP_SHIFT_MAX), Signal(TOTAL_BITS)
        sum_of_values = pipeline.total[:VALUE_SUM_BITS].as_signed()
        mean = Signal(signed(SUM_BITS))
        m.d.comb += [
            self.command.p.address.eq(task.address * LINE_BYTES),
            self.command.p.words.eq((task.words << 1) + header_words(self.config)),
            parameters.start.eq(start),
            parameters.count.eq(task.words),
            pipeline.wide.eq(task.wide),
            pipeline.shift.eq(header.shift),
            pipeline.scale.eq(scale),
            pipeline.square.eq(square),
            pipeline.writing.eq(writing),
            root.i.payload.eq(total),
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
                    m.next = "peak"
            with m.State("peak"):
                m.d.comb += [passing.eq(1), pipeline.peaking.eq(1)]
                with m.If(last):
                    m.next = "settle"
            with m.State("settle"):
                with m.If(~pipeline.busy):
                    m.d.comb += pipeline.clear.eq(1)
                    m.d.sync += [
                        scale.exponent.eq(0), scale.mean.eq(0), scale.factor.eq(1),
                        square.eq(~task.center), writing.eq(0),
                    ]
                    for bit in range(UP_SHIFT_MAX, len(pipeline.peak)):
                        with m.If(pipeline.peak[bit]):
                            m.d.sync += scale.exponent.eq(bit + 1 - UP_SHIFT_MAX)
                    m.next = "sum"
            with m.State("sum"):
                m.d.comb += passing.eq(1)
                with m.If(last):
                    m.d.sync += epsilon.eq(
                        (header.epsilon[:EPSILON_BITS] << (2 * UP_SHIFT_MAX))
                        >> (scale.exponent << 1)
                    )
                    m.next = "drain"
            with m.State("drain"):
                m.d.sync += total.eq(pipeline.total + epsilon)
                with m.If(~pipeline.busy):
                    m.next = "root"
                    with m.If(~square):
                        m.next = "mean_high"
            with m.State("mean_high"):
                m.d.sync += mean.eq(sum_of_values * header.inverse[HALF_INVERSE:])
                m.next = "mean_low"
            with m.State("mean_low"):
                low = sum_of_values * header.inverse[:HALF_INVERSE]
                m.d.sync += mean.eq((mean << HALF_INVERSE) + low)
                m.next = "mean"
            with m.State("mean"):
                m.d.comb += pipeline.clear.eq(1)
                m.d.sync += [
                    scale.mean.eq((mean + (1 << (INVERSE_BITS - 1))) >> INVERSE_BITS),
                    square.eq(1),
                ]
                m.next = "sum"
            with m.State("root"):
                m.d.comb += root.i.valid.eq(1)
                with m.If(root.i.ready):
                    m.next = "reciprocal"
            with m.State("reciprocal"):
                m.d.comb += root.o.ready.eq(1)
                with m.If(root.o.valid):
                    m.d.sync += [
                        scale.factor.eq(root.o.p.reciprocal), scale.down.eq(root.o.p.down),
                        square.eq(0), writing.eq(1),
                    ]
                    m.next = "results"
            with m.State("results"):
                m.d.comb += [passing.eq(1), results.eq(1)]
                with m.If(last):
                    m.next = "peak"
                    with m.If(~requesting):
                        m.next = "flush"
            with m.State("flush"):
                with m.If(~pipeline.busy & ~requesting):
                    m.next = "complete"
            with m.State("complete"):
                m.d.comb += self.task.ready.eq(1)
                m.next = "idle"
        return m

    def _walk(self, m: Module, name: str, start: Value, step: Value, prefix: str) -> RowWalk:
        """Rows of the source or of the destination."""
        task = self.task.p
        m.submodules[name] = walk = RowWalk()
        m.d.comb += [
            walk.start.eq(start),
            walk.step.eq(step),
            walk.stride.eq(task[f"{prefix}stride"]),
            walk.head_stride.eq(task[f"{prefix}head_stride"]),
            walk.tokens.eq(task.tokens),
            walk.heads.eq(task.heads),
        ]
        return walk

    def _request(
        self, m: Module, start: Signal, running: Signal
    ) -> tuple[VectorReader, Signal]:
        """Ask for the words of each row in each pass; also returns whether there is more to ask."""
        task = self.task.p
        m.submodules.reader = reader = VectorReader(self.config)
        wiring.connect(m, reader.memory, wiring.flipped(self.vector_read))
        active, step = Signal(), Signal()
        passes_left, offset = Signal(range(4)), Signal(13)
        passes = Mux(task.center, 3, 2)
        rows = self._walk(m, "source_rows", start, step, "")
        m.d.comb += [
            rows.base.eq(task.source),
            reader.i.valid.eq(active & running),
            reader.i.payload.eq(rows.row + offset),
        ]
        with m.If(start):
            m.d.sync += [active.eq(1), offset.eq(0), passes_left.eq(passes)]
        with m.Elif(reader.i.valid & reader.i.ready):
            m.d.sync += offset.eq(offset + 1)
            with m.If(offset + 1 == Mux(task.wide, task.words << 1, task.words)):
                m.d.sync += [offset.eq(0), passes_left.eq(passes_left - 1)]
                with m.If(passes_left == 0):
                    m.d.comb += step.eq(1)
                    m.d.sync += [passes_left.eq(passes), active.eq(~rows.last)]
        return reader, active

    def _pass(
        self, m: Module, reader: VectorReader, parameters: NormParameters, pipeline: NormPipeline,
        start: Signal, passing: Signal, results: Signal, last: Signal,
    ) -> None:
        """While ``passing``, give the words of one pass to the pipeline, pairs together."""
        task = self.task.p
        offered, i = reader.o, pipeline.i
        second, index = Signal(), Signal(12)
        low = Signal(self.config.port_bits)
        hold, known = Signal(), Signal()
        element_bits = self.config.word_elements.bit_length() - 1
        columns = parameters.header.columns
        last_word, rest = columns[element_bits:], columns[:element_bits]
        m.d.comb += [
            hold.eq(task.wide & ~second),
            known.eq(~results | (index < parameters.loaded)),
            offered.ready.eq(passing & (hold | (known & i.ready))),
            i.valid.eq(passing & offered.valid & ~hold & known),
            i.p.low.eq(low),
            i.p.word.eq(offered.payload),
            i.p.index.eq(index),
            i.p.present.eq(Cat(
                (index < last_word) | ((index == last_word) & (n < rest))
                for n in range(self.config.word_elements)
            )),
            last.eq(i.valid & i.ready & (index + 1 == task.words)),
        ]
        with m.If(start):
            m.d.sync += [second.eq(0), index.eq(0)]
        with m.Elif(offered.valid & offered.ready):
            m.d.sync += second.eq(hold)
            with m.If(hold):
                m.d.sync += low.eq(offered.payload)
            with m.Else():
                m.d.sync += index.eq(Mux(last, 0, index + 1))

    def _write(self, m: Module, pipeline: NormPipeline, start: Signal, running: Signal) -> None:
        """Write results to the rows of the destination."""
        task, write, o = self.task.p, self.vector_write, pipeline.o
        written = Signal()
        last_word = o.p.index + 1 == task.words
        rows = self._walk(m, "destination_rows", start, written & last_word, "destination_")
        m.d.comb += [
            rows.base.eq(task.destination),
            write.valid.eq(o.valid & running),
            write.p.address.eq(rows.row + o.p.index),
            write.p.data.eq(o.p.data),
            o.ready.eq(write.ready & running),
            written.eq(write.valid & write.ready),
            self.events.norm_steps.eq(written),
        ]
