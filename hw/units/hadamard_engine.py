"""Hadamard engine: rotates blocks of rows in the vector memory."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.fixed import INT16_MAX
from hw.golden.hadamard import LENGTH_BITS_MAX
from hw.interfaces import Task, VectorRead, VectorWrite
from hw.isa import Opcode
from hw.units.hadamard_delay import HadamardDelay
from hw.units.hadamard_pairs import HadamardPairs, elements_of
from hw.units.rounding import round_half, saturated, shift_half
from hw.units.row_walk import RowWalk
from hw.units.vector_reader import SLOTS, VectorReader

ELEMENT_BITS = 16


class HadamardEngine(wiring.Component):
    """Run HADAMARD: `hw.golden.hadamard` of each row in place, a word a cycle.

    A block is ``2**length_bits`` elements, 2 to 512; rows are whole blocks of words. Words stream
    through a stage for each bit of the length: stages between words with memories, of less than
    two blocks in all, then stages within a word, then rounding. Behind the last word come slots
    without one that push it out. No count is 0.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In(Task(HADAMARD))
    vector_read : Out(VectorRead)
    vector_write : Out(VectorWrite)
    events : Out({hadamard_steps}), vector words written
    """

    task: stream.Interface
    vector_read: wiring.PureInterface
    vector_write: stream.Interface
    events: data.View

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "task": In(Task(Opcode.HADAMARD)),
            "vector_read": Out(VectorRead(config)),
            "vector_write": Out(VectorWrite(config)),
            "events": Out(data.StructLayout({"hadamard_steps": 1})),
        })

    @property
    def element_stages(self) -> int:
        """Stages within a word."""
        return self.config.word_elements.bit_length() - 1

    @property
    def word_stages(self) -> int:
        """Stages between words."""
        return LENGTH_BITS_MAX - self.element_stages

    @property
    def stages(self) -> int:
        """Registers of the pipeline: taken, stages, shifted, rounded."""
        return LENGTH_BITS_MAX + 3

    def elaborate(self, platform: object) -> Module:
        m = Module()
        start, running, finished = Signal(), Signal(), Signal()
        reader, drained = self._request(m, start, running)
        enable, valid = Signal(self.stages), Signal(self.stages)
        advance, taken = Signal(), Signal()
        m.d.comb += [
            reader.o.ready.eq(running & advance),
            taken.eq(running & advance & (reader.o.valid | drained)),
        ]
        with m.If(advance):
            m.d.comb += enable.eq(Cat(taken, valid[:-1]))
            m.d.sync += valid.eq(enable)
        early = self._early(m, start, valid[-1] & advance)
        written = self._write(m, start, valid[-1] & ~early & running, finished)
        m.d.comb += [
            advance.eq(~valid[-1] | early | written),
            self.vector_write.p.data.eq(self._transform(m, start, enable, reader.o.payload)),
        ]
        with m.FSM():
            with m.State("idle"):
                with m.If(self.task.valid):
                    m.d.comb += start.eq(1)
                    m.d.sync += valid.eq(0)
                    m.next = "run"
            with m.State("run"):
                m.d.comb += running.eq(self.task.valid)
                with m.If(finished & drained):
                    m.next = "complete"
            with m.State("complete"):
                m.d.comb += self.task.ready.eq(1)
                m.next = "idle"
        return m

    def _walk(self, m: Module, name: str, start: Value, step: Value) -> RowWalk:
        """The rows of the task."""
        task = self.task.p
        m.submodules[name] = walk = RowWalk()
        m.d.comb += [
            walk.start.eq(start),
            walk.step.eq(step),
            walk.base.eq(task.source),
            walk.stride.eq(task.stride),
            walk.head_stride.eq(task.head_stride),
            walk.tokens.eq(task.tokens),
            walk.heads.eq(task.heads),
        ]
        return walk

    def _request(self, m: Module, start: Signal, running: Signal) -> tuple[VectorReader, Signal]:
        """Ask for the words of all rows; also returns whether all of them were taken."""
        task = self.task.p
        m.submodules.reader = reader = VectorReader(self.config)
        wiring.connect(m, reader.memory, wiring.flipped(self.vector_read))
        active, offset, last_word = Signal(), Signal(12), Signal()
        under_way, drained = Signal(range(SLOTS + 1)), Signal()
        asked = reader.i.valid & reader.i.ready
        rows = self._walk(m, "read_rows", start, asked & last_word)
        m.d.comb += [
            last_word.eq(offset + 1 == task.words),
            reader.i.valid.eq(active & running),
            reader.i.payload.eq(rows.row + offset),
            drained.eq(~active & (under_way == 0)),
        ]
        m.d.sync += under_way.eq(under_way + asked - (reader.o.valid & reader.o.ready))
        with m.If(start):
            m.d.sync += [active.eq(1), offset.eq(0)]
        with m.Elif(asked):
            m.d.sync += offset.eq(Mux(last_word, 0, offset + 1))
            with m.If(last_word & rows.last):
                m.d.sync += active.eq(0)
        return reader, drained

    def _early(self, m: Module, start: Signal, left: Value) -> Signal:
        """Whether the next slot to leave the pipeline holds none of the task's words.

        left: a slot leaves. The first word leaves the stages between words as many slots late as
        a block has words, less one.
        """
        late, counted, early = Signal(self.word_stages), Signal(self.word_stages), Signal()
        m.d.comb += early.eq(counted != late)
        for bit in range(self.word_stages):
            m.d.comb += late[bit].eq(self.task.p.length_bits > self.element_stages + bit)
        with m.If(start):
            m.d.sync += counted.eq(0)
        with m.Elif(left & early):
            m.d.sync += counted.eq(counted + 1)
        return early

    def _transform(self, m: Module, start: Signal, enable: Signal, arriving: Value) -> Value:
        """The rotated word in the last register; ``enable`` loads a register from the one before.

        Distances fall from stage to stage, so that each finds its words at the same slots.
        """
        task, elements = self.task.p, self.config.word_elements
        word: Value = Signal(self.config.port_bits)
        slot = Signal(self.word_stages)
        with m.If(start):
            m.d.sync += slot.eq(-1)
        with m.Elif(enable[0]):
            m.d.sync += [word.eq(arriving), slot.eq(slot + 1)]
        width = ELEMENT_BITS
        for bit in reversed(range(LENGTH_BITS_MAX)):
            register = LENGTH_BITS_MAX - bit
            stage: HadamardDelay | HadamardPairs
            if bit >= self.element_stages:
                distance = 1 << (bit - self.element_stages)
                stage = HadamardDelay(elements, width, distance)
                m.d.comb += stage.slot.eq(slot)
                later = Signal(self.word_stages, name=f"slot_{register}")
                with m.If(enable[register]):
                    m.d.sync += later.eq(slot)
                slot = later
            else:
                stage = HadamardPairs(elements, width, 1 << bit)
            m.submodules[f"stage{bit}"] = stage
            m.d.comb += [
                stage.enable.eq(enable[register]),
                stage.active.eq(task.length_bits > bit),
                stage.i.eq(word),
            ]
            word, width = stage.o, width + 1
        return self._round(m, enable[-2:], word)

    def _round(self, m: Module, enable: Value, word: Value) -> Value:
        """Shift, round and saturate in two registers."""
        results: list[Value] = []
        for n, total in enumerate(elements_of(word, self.config.word_elements)):
            half = Signal(signed(len(total) + 1), name=f"half_{n}")
            result = Signal(ELEMENT_BITS, name=f"result_{n}")
            with m.If(enable[0]):
                m.d.sync += half.eq(shift_half(total, self.task.p.shift))
            with m.If(enable[1]):
                m.d.sync += result.eq(saturated(round_half(half), INT16_MAX))
            results.append(result)
        return Cat(results)

    def _write(
        self, m: Module, start: Signal, offered: Value, finished: Signal
    ) -> Value:
        """Write the results to where the words came from; returns whether one is written."""
        task, write = self.task.p, self.vector_write
        offset, last_word, written = Signal(12), Signal(), Signal()
        rows = self._walk(m, "write_rows", start, written & last_word)
        m.d.comb += [
            last_word.eq(offset + 1 == task.words),
            write.valid.eq(offered),
            write.p.address.eq(rows.row + offset),
            written.eq(write.valid & write.ready),
            finished.eq(written & last_word & rows.last),
            self.events.hadamard_steps.eq(written),
        ]
        with m.If(start):
            m.d.sync += offset.eq(0)
        with m.Elif(written):
            m.d.sync += offset.eq(Mux(last_word, 0, offset + 1))
        return written
