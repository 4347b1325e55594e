"""Activate engine: applies a function table to tensors in the vector memory."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import HardwareConfig
from hw.golden.activation import SEGMENTS
from hw.interfaces import ReadCommand, Task, VectorRead, VectorWrite
from hw.isa import LINE_BYTES, Opcode
from hw.units.activation_lane import SEGMENT_BITS, TABLE_ENTRY
from hw.units.activation_unit import ActivationUnit
from hw.units.header_line import HeaderLine, header_words

ENTRY_BITS = TABLE_ENTRY.size


class ActivateEngine(wiring.Component):
    """Load the shift and the function table, then activate ``words`` vector words of each token.

    The table takes one cycle for each of its 256 entries. Then a vector word takes
    ``word_elements / activation_lanes`` cycles, at least 2 if it is gated. Every word is read
    before it is written, so a tensor can be activated in place.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In(Task(ACTIVATE))
    command : Out(ReadCommand), one for the table of an instruction
    words : In(stream of port words)
    vector_read : Out(VectorRead)
    vector_write : Out(VectorWrite)
    events : Out({activate_steps}), steps of ``activation_lanes`` elements
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
            "task": In(Task(Opcode.ACTIVATE)),
            "command": Out(ReadCommand()),
            "words": In(stream.Signature(config.port_bits)),
            "vector_read": Out(VectorRead(config)),
            "vector_write": Out(VectorWrite(config)),
            "events": Out(data.StructLayout({"activate_steps": 1})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unit = unit = ActivationUnit(self.config)
        m.submodules.header = header = HeaderLine(self.config, 1)
        filling, starting, running = Signal(), Signal(), Signal()
        connect(m, flipped(self.words), header.i)
        filled = self._fill(m, unit, header.o, filling)
        requesting, present, take = Signal(), Signal(), Signal()
        x, factor = self._read(m, starting, running, requesting, present, take)
        self._compute(m, unit.i, present, take, x, factor)
        m.d.comb += [header.restart.eq(starting), unit.i.p.shift.eq(header.line)]
        finished = self._write(m, unit.o, starting, running) & ~requesting

        m.d.comb += [
            self.command.p.address.eq(self.task.p.address * LINE_BYTES),
            self.command.p.words.eq(
                header_words(self.config) + SEGMENTS * ENTRY_BITS // self.config.port_bits
            ),
        ]
        with m.FSM():
            with m.State("command"):
                m.d.comb += [starting.eq(1), self.command.valid.eq(self.task.valid)]
                with m.If(self.task.valid & self.command.ready):
                    m.next = "fill"
            with m.State("fill"):
                m.d.comb += filling.eq(1)
                with m.If(filled):
                    m.next = "run"
            with m.State("run"):
                m.d.comb += running.eq(self.task.valid)
                with m.If(finished):
                    m.next = "complete"
            with m.State("complete"):
                m.d.comb += self.task.ready.eq(1)
                m.next = "command"
        return m

    def _fill(
        self, m: Module, unit: ActivationUnit, words: stream.Interface, filling: Signal
    ) -> Value:
        """Write the entries of port words to the table; the result says that it is complete."""
        entries = self.config.port_bits // ENTRY_BITS
        segment = Signal(SEGMENT_BITS)
        entry = segment[:entries.bit_length() - 1]
        m.d.comb += [
            unit.table.valid.eq(filling & words.valid),
            unit.table.address.eq(segment),
            words.ready.eq(filling & (entry == entries - 1)),
        ]
        with m.Switch(entry):
            for index in range(entries):
                with m.Case(index):
                    low = index * ENTRY_BITS
                    m.d.comb += unit.table.data.as_value().eq(
                        words.payload[low:low + ENTRY_BITS]
                    )
        with m.If(unit.table.valid):
            m.d.sync += segment.eq(segment + 1)
        return unit.table.valid & (segment == SEGMENTS - 1)

    def _walk(self, m: Module, starting: Signal, step: Value) -> tuple[Signal, Value]:
        """Offset ``token * stride + word`` of the words in order, and whether it is the last.

        The offset goes on to the next word with ``step``.
        """
        task = self.task
        offset, row, word, tokens_left = Signal(16), Signal(16), Signal(12), Signal(8)
        last_word = word == task.p.words - 1
        with m.If(starting):
            m.d.sync += [offset.eq(0), row.eq(0), word.eq(0), tokens_left.eq(task.p.tokens)]
        with m.Elif(step):
            with m.If(last_word):
                m.d.sync += [
                    row.eq(row + task.p.stride),
                    offset.eq(row + task.p.stride),
                    word.eq(0),
                    tokens_left.eq(tokens_left - 1),
                ]
            with m.Else():
                m.d.sync += [offset.eq(offset + 1), word.eq(word + 1)]
        return offset, last_word & (tokens_left == 1)

    def _read(
        self, m: Module, starting: Signal, running: Signal, requesting: Signal, present: Signal,
        take: Signal,
    ) -> tuple[Value, Value]:
        """Read the words of x and, if gated, of the factor; returns both while ``present``.

        The first request for a word waits until the word before it is taken, so that its data
        finds room. ``requesting``: there are more words to ask for.
        """
        task, request = self.task, self.vector_read.request
        kept, want_factor = Signal(), Signal()
        x_arriving, factor_arriving = Signal(), Signal()
        x, factor = Signal(self.config.port_bits), Signal(self.config.port_bits)
        transfer = request.valid & request.ready
        complete = want_factor | ~task.p.gated
        offset, last = self._walk(m, starting, transfer & complete)

        m.d.comb += [
            request.valid.eq(running & requesting & (want_factor | ~present | take)),
            request.payload.eq(offset + Mux(want_factor, task.p.factor, task.p.source)),
            present.eq(kept | Mux(task.p.gated, factor_arriving, x_arriving)),
        ]
        m.d.sync += [
            x_arriving.eq(transfer & ~want_factor),
            factor_arriving.eq(transfer & want_factor),
            kept.eq(present & ~take),
        ]
        with m.If(transfer):
            m.d.sync += want_factor.eq(~complete)
        with m.If(starting):
            m.d.sync += requesting.eq(1)
        with m.Elif(transfer & complete & last):
            m.d.sync += requesting.eq(0)
        with m.If(x_arriving):
            m.d.sync += x.eq(self.vector_read.data)
        with m.If(factor_arriving):
            m.d.sync += factor.eq(self.vector_read.data)
        return (
            Mux(x_arriving, self.vector_read.data, x),
            Mux(factor_arriving, self.vector_read.data, factor),
        )

    def _compute(
        self, m: Module, i: stream.Interface, present: Signal, take: Signal, x: Value,
        factor: Value,
    ) -> None:
        """Offer the words to the activation unit, ``activation_lanes`` elements a step."""
        steps = self.config.word_elements // self.config.activation_lanes
        width = self.config.activation_lanes * 16
        busy, step = Signal(), Signal(range(steps))
        words = Signal(self.config.port_bits), Signal(self.config.port_bits)
        transfer = i.valid & i.ready
        m.d.comb += [
            i.valid.eq(busy),
            i.p.x.as_value().eq(words[0][:width]),
            i.p.factor.as_value().eq(words[1][:width]),
            i.p.gated.eq(self.task.p.gated),
            take.eq(present & (~busy | (transfer & (step == steps - 1)))),
            self.events.activate_steps.eq(transfer),
        ]
        with m.If(transfer):
            m.d.sync += [step.eq(step + 1), *(word.eq(word >> width) for word in words)]
            with m.If(step == steps - 1):
                m.d.sync += [step.eq(0), busy.eq(0)]
        with m.If(take):
            m.d.sync += [busy.eq(1), words[0].eq(x), words[1].eq(factor)]

    def _write(
        self, m: Module, o: stream.Interface, starting: Signal, running: Signal
    ) -> Value:
        """Write the results in whole words; the result says that the last word is written."""
        write = self.vector_write
        steps = self.config.word_elements // self.config.activation_lanes
        width = self.config.activation_lanes * 16
        step = Signal(range(steps))
        earlier = Signal((steps - 1) * width)
        last_step, written = step == steps - 1, write.valid & write.ready
        offset, last = self._walk(m, starting, written)
        m.d.comb += [
            write.valid.eq(running & o.valid & last_step),
            write.p.address.eq(self.task.p.destination + offset),
            write.p.data.eq(Cat(earlier, o.payload.as_value())),
            o.ready.eq(running & (~last_step | write.ready)),
        ]
        with m.If(o.valid & o.ready):
            m.d.sync += step.eq(Mux(last_step, 0, step + 1))
            if steps > 1:
                m.d.sync += earlier.eq(Cat(earlier, o.payload.as_value())[width:])
        return written & last
