"""Drain engine: accumulator sums to int16 activations in the vector memory."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import AccumulatorRead, MemoryRead, ReadCommand, Task, VectorWrite
from hw.isa import LINE_BYTES, Opcode
from hw.units.dequantizer import Dequantizer

PARAMETER_WORDS = 4
"""Port words of the parameters of one vector word."""
SCALE_BITS = 19


class DrainEngine(wiring.Component):
    """Dequantize ``words`` vector words of each token, all tokens of a word before the next word.

    One vector word a cycle while parameters arrive in time: 4 port words for each word of all
    tokens, of which the next four are fetched ahead.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In(Task(DRAIN))
    command : Out(ReadCommand), one for all parameters of an instruction
    words : In(stream of port words)
    accumulator : Out(AccumulatorRead)
    scale_read : Out(MemoryRead), token scales
    vector : Out(VectorWrite)
    events : Out({drain_steps}), vector words
    """

    task: stream.Interface
    command: stream.Interface
    words: stream.Interface
    accumulator: wiring.PureInterface
    scale_read: wiring.PureInterface
    vector: stream.Interface
    events: data.View

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "task": In(Task(Opcode.DRAIN)),
            "command": Out(ReadCommand()),
            "words": In(stream.Signature(config.port_bits)),
            "accumulator": Out(AccumulatorRead(config)),
            "scale_read": Out(MemoryRead(8, SCALE_BITS)),
            "vector": Out(VectorWrite(config)),
            "events": Out(data.StructLayout({"drain_steps": 1})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dequantizer = dequantizer = Dequantizer(self.config)
        running, starting = Signal(), Signal()
        self._read(m, dequantizer.i, running, starting)
        finished = self._write(m, dequantizer.o, running, starting)

        m.d.comb += [
            self.command.p.address.eq(self.task.p.address * LINE_BYTES),
            self.command.p.words.eq(self.task.p.words * PARAMETER_WORDS),
        ]
        with m.FSM():
            with m.State("command"):
                m.d.comb += [starting.eq(1), self.command.valid.eq(self.task.valid)]
                with m.If(self.task.valid & self.command.ready):
                    m.next = "run"
            with m.State("run"):
                m.d.comb += running.eq(1)
                with m.If(finished):
                    m.next = "complete"
            with m.State("complete"):
                m.d.comb += self.task.ready.eq(1)
                m.next = "command"
        return m

    def _parameters(self, m: Module, i: stream.Interface, running: Signal, left: Signal) -> Signal:
        """Collect the parameters of a vector word while those of the word before it are used.

        ``left``: the last token of a word leaves for the dequantizer. Returns a pulse in the
        cycle before new parameters are in use.
        """
        width = self.config.port_bits
        coming, used = Signal(PARAMETER_WORDS * width), Signal(PARAMETER_WORDS * width)
        collected = Signal(range(PARAMETER_WORDS))
        full, in_use, load = Signal(), Signal(), Signal()
        m.d.comb += [
            self.words.ready.eq(running & ~full),
            load.eq(full & (~in_use | left)),
            Cat(i.p.zero, i.p.multiplier, i.p.bias).eq(used),
        ]
        with m.If(self.words.valid & self.words.ready):
            m.d.sync += [
                coming.eq(Cat(coming[width:], self.words.payload)),
                collected.eq(collected + 1),
                full.eq(collected == PARAMETER_WORDS - 1),
            ]
        with m.If(load):
            m.d.sync += [used.eq(coming), full.eq(0), in_use.eq(1)]
        with m.Elif(left):
            m.d.sync += in_use.eq(0)
        return load

    def _read(
        self, m: Module, i: stream.Interface, running: Signal, starting: Signal
    ) -> None:
        """Offer the sums of every (word, token) to the dequantizer.

        A read is issued only when the sums before it leave, so that its own find the way free;
        sums that are refused when they arrive are kept, as the memory shows them only once.
        """
        task, read, scales = self.task, self.accumulator, self.scale_read
        slots = self.config.lanes // self.config.word_elements
        slot_bits = slots.bit_length() - 1
        word, next_word, token, row = Signal(12), Signal(12), Signal(8), Signal(12)
        issue, last_token = Signal(), Signal()
        arriving, kept, last, slot = Signal(), Signal(), Signal(), Signal(range(slots))

        load = self._parameters(m, i, running, i.valid & i.ready & last)
        m.d.comb += [
            next_word.eq(word + 1),
            last_token.eq(token == task.p.tokens - 1),
            issue.eq(Mux(token == 0, load, ~i.valid | i.ready)),
            read.en.eq(issue),
            read.bank.eq(task.p.bank),
            read.address.eq(row),
            scales.en.eq(issue),
            scales.address.eq(task.p.scales + token),
            self.events.drain_steps.eq(issue),
        ]
        m.d.sync += [arriving.eq(issue), kept.eq(i.valid & ~i.ready)]
        with m.If(starting):
            m.d.sync += [word.eq(0), row.eq(task.p.accumulator)]
        with m.If(issue):
            m.d.sync += [last.eq(last_token), slot.eq(word)]
            with m.If(last_token):
                m.d.sync += [
                    word.eq(next_word),
                    token.eq(0),
                    row.eq(task.p.accumulator + (next_word >> slot_bits)),
                ]
            with m.Else():
                m.d.sync += [token.eq(token + 1), row.eq(row + task.p.blocks)]

        sums = Signal(i.p.sums.shape())
        scale = Signal(SCALE_BITS)
        kept_sums, kept_scale = Signal.like(sums), Signal.like(scale)
        width = sums.as_value().shape().width
        with m.Switch(slot):
            for index in range(slots):
                with m.Case(index):
                    part = read.data.as_value()[index * width:(index + 1) * width]
                    m.d.comb += sums.as_value().eq(part)
        with m.If(arriving):
            m.d.sync += [kept_sums.eq(sums), kept_scale.eq(scale)]
        m.d.comb += [
            scale.eq(Mux(task.p.token_scale, scales.data, 1)),
            i.valid.eq(arriving | kept),
            i.p.sums.as_value().eq(Mux(kept, kept_sums.as_value(), sums.as_value())),
            i.p.scale.eq(Mux(kept, kept_scale, scale)),
            i.p.shift1.eq(task.p.shift1),
            i.p.shift2.eq(task.p.shift2),
        ]

    def _write(
        self, m: Module, o: stream.Interface, running: Signal, starting: Signal
    ) -> Value:
        """Write what the dequantizer returns; the result says that the last word is written."""
        task, vector = self.task, self.vector
        address, start = Signal(16), Signal(16)
        token, words_left = Signal(8), Signal(12)
        written, last_token = Signal(), Signal()
        m.d.comb += [
            vector.valid.eq(running & o.valid),
            o.ready.eq(running & vector.ready),
            vector.p.address.eq(address),
            vector.p.data.eq(o.payload.as_value()),
            written.eq(vector.valid & vector.ready),
            last_token.eq(token == task.p.tokens - 1),
        ]
        with m.If(starting):
            m.d.sync += [
                start.eq(task.p.destination),
                address.eq(task.p.destination),
                words_left.eq(task.p.words),
            ]
        with m.If(written):
            with m.If(last_token):
                m.d.sync += [
                    token.eq(0),
                    words_left.eq(words_left - 1),
                    start.eq(start + 1),
                    address.eq(start + 1),
                ]
            with m.Else():
                m.d.sync += [token.eq(token + 1), address.eq(address + task.p.stride)]
        return written & last_token & (words_left == 1)
