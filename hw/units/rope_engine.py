"""Rope engine: rotates pairs of elements of rows in the vector memory."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.interfaces import ReadCommand, Task, VectorRead, VectorWrite
from hw.isa import LINE_BYTES, Opcode
from hw.memory.small_memory import SmallMemory
from hw.units.rope_lane import STAGES, RopeLane
from hw.units.row_limits import rope_words_max
from hw.units.row_walk import RowWalk
from hw.units.vector_reader import VectorReader
from hw.verilog import module


class RopeEngine(wiring.Component):
    """Run ROPE: rotate ``words`` vector words of each row in place, a word a cycle.

    The rotations of all tokens are one external read; those of a token are kept for its heads,
    while they arrive the first head goes on behind them. ``words`` is at most
    `hw.units.row_limits.rope_words_max`, no count is 0.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In(Task(ROPE))
    command : Out(ReadCommand), one for the rotations of an instruction
    words : In(stream of port words)
    vector_read : Out(VectorRead)
    vector_write : Out(VectorWrite)
    events : Out({rope_steps}), vector words written
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
            "task": In(Task(Opcode.ROPE)),
            "command": Out(ReadCommand()),
            "words": In(stream.Signature(config.port_bits)),
            "vector_read": Out(VectorRead(config)),
            "vector_write": Out(VectorWrite(config)),
            "events": Out(data.StructLayout({"rope_steps": 1})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        task = self.task.p
        start, running, finished = Signal(), Signal(), Signal()
        reader, requesting = self._request(m, start, running)
        enable, valid, advance = Signal(STAGES), Signal(STAGES), Signal()
        table_words = Signal(20)

        # The words of a row go into the pipeline behind the rotations of their token.
        index, heads_left = Signal(12), Signal(8)
        taken, last_word, last_head = Signal(), Signal(), Signal()
        loaded, rotations = self._load(m, start, taken & last_word & last_head)
        m.d.comb += [
            reader.o.ready.eq(running & (index < loaded) & advance),
            taken.eq(reader.o.valid & reader.o.ready),
            last_word.eq(index + 1 == task.words),
            last_head.eq(heads_left == 1),
            rotations.en.eq(taken),
            rotations.address.eq(index),
        ]
        with m.If(start):
            m.d.sync += [index.eq(0), heads_left.eq(task.heads)]
        with m.Elif(taken):
            m.d.sync += index.eq(Mux(last_word, 0, index + 1))
            with m.If(last_word):
                m.d.sync += heads_left.eq(Mux(last_head, task.heads, heads_left - 1))

        with m.If(advance):
            # Stages without a word keep their registers still, which saves power and simulation.
            m.d.comb += enable.eq(Cat(taken, valid[:-1]))
            m.d.sync += valid.eq(enable)
        written = self._write(m, start, running, valid, finished)
        m.d.comb += [
            advance.eq(~valid[-1] | written),
            self.vector_write.p.data.eq(self._rotate(m, enable, reader.o.payload, rotations.data)),
            self.command.p.address.eq(task.address * LINE_BYTES),
            self.command.p.words.eq(table_words),
        ]
        with m.FSM():
            with m.State("idle"):
                m.d.sync += table_words.eq(task.tokens * task.words)
                with m.If(self.task.valid):
                    m.next = "command"
            with m.State("command"):
                m.d.comb += self.command.valid.eq(self.task.valid)
                with m.If(self.task.valid & self.command.ready):
                    m.d.comb += start.eq(1)
                    m.next = "run"
            with m.State("run"):
                m.d.comb += running.eq(self.task.valid)
                with m.If(finished & ~requesting):
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
        """Ask for the words of all rows; also returns whether there is more to ask for."""
        task = self.task.p
        m.submodules.reader = reader = VectorReader(self.config)
        wiring.connect(m, reader.memory, wiring.flipped(self.vector_read))
        active, offset, last_word = Signal(), Signal(12), Signal()
        asked = reader.i.valid & reader.i.ready
        rows = self._walk(m, "read_rows", start, asked & last_word)
        m.d.comb += [
            last_word.eq(offset + 1 == task.words),
            reader.i.valid.eq(active & running),
            reader.i.payload.eq(rows.row + offset),
        ]
        with m.If(start):
            m.d.sync += [active.eq(1), offset.eq(0)]
        with m.Elif(asked):
            m.d.sync += offset.eq(Mux(last_word, 0, offset + 1))
            with m.If(last_word & rows.last):
                m.d.sync += active.eq(0)
        return reader, active

    def _load(
        self, m: Module, start: Signal, used: Value
    ) -> tuple[Signal, wiring.PureInterface]:
        """Keep the rotations of a token until they are ``used`` up.

        Returns how many words of them there are, and the port that reads them.
        """
        task = self.task.p
        m.submodules.rotations = memory = SmallMemory(
            bits_for(rope_words_max(self.config)), self.config.port_bits
        )
        loaded, tokens_left = Signal(12), Signal(8)
        m.d.comb += [
            self.words.ready.eq((tokens_left != 0) & (loaded != task.words)),
            memory.write.valid.eq(self.words.valid & self.words.ready),
            memory.write.address.eq(loaded),
            memory.write.data.eq(self.words.payload),
        ]
        with m.If(start):
            m.d.sync += [loaded.eq(0), tokens_left.eq(task.tokens)]
        with m.Elif(used):
            m.d.sync += [loaded.eq(0), tokens_left.eq(tokens_left - 1)]
        with m.Elif(memory.write.valid):
            m.d.sync += loaded.eq(loaded + 1)
        return loaded, memory.read

    def _rotate(self, m: Module, enable: Signal, word: Value, rotations: Value) -> Value:
        """The results of a word's pairs."""
        results: list[Value] = []
        for n in range(self.config.word_elements // 2):
            m.submodules[f"lane{n}"] = lane = module("rope_lane", RopeLane())
            even, odd = slice(32 * n, 32 * n + 16), slice(32 * n + 16, 32 * n + 32)
            m.d.comb += [
                lane.enable.eq(enable),
                lane.even.eq(word[even]),
                lane.odd.eq(word[odd]),
                lane.cos.eq(rotations[even]),
                lane.sin.eq(rotations[odd]),
            ]
            results += [lane.even_result, lane.odd_result]
        return Cat(results)

    def _write(
        self, m: Module, start: Signal, running: Signal, valid: Signal, finished: Signal
    ) -> Value:
        """Write the results to where the words came from; returns whether one is written."""
        task, write = self.task.p, self.vector_write
        offset, last_word, written = Signal(12), Signal(), Signal()
        rows = self._walk(m, "write_rows", start, written & last_word)
        m.d.comb += [
            last_word.eq(offset + 1 == task.words),
            write.valid.eq(valid[-1] & running),
            write.p.address.eq(rows.row + offset),
            written.eq(write.valid & write.ready),
            finished.eq(written & last_word & rows.last),
            self.events.rope_steps.eq(written),
        ]
        with m.If(start):
            m.d.sync += offset.eq(0)
        with m.Elif(written):
            m.d.sync += offset.eq(Mux(last_word, 0, offset + 1))
        return written
