"""Drain engine: accumulator sums to activations, residual or the largest logit."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import HardwareConfig
from hw.golden.dequant import TOKEN_SCALE_BITS
from hw.interfaces import (
    AccumulatorRead,
    MemoryRead,
    ReadCommand,
    Task,
    VectorRead,
    VectorWrite,
)
from hw.isa import LINE_BYTES, DrainMode, Opcode
from hw.memory.token_order import OrderRead
from hw.units.argmax import COLUMN_BITS, Argmax
from hw.units.dequantizer import Dequantizer
from hw.units.drain_reader import PARAMETER_WORDS, SCALE_ADDRESS_BITS, DrainReader
from hw.units.header_line import header_words
from hw.units.ordered_rows import OrderedRows
from hw.units.residual_adder import ResidualAdder
from hw.units.row_counter import RowCounter

INDEX_BITS = 32


class DrainEngine(wiring.Component):
    """Dequantize ``words`` vector words of each row, all rows of a word before the next word.

    A vector word takes a cycle, with mode RESIDUAL 4 cycles, while parameters arrive in time:
    4 port words for each word of all rows, with ``compact`` one for each behind the first, or, with
    ``uniform``, 4 for the instruction. The maximum of ARGMAX stays in the engine for the next
    instruction.

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
    residual : Out(VectorRead)
    vector : Out(VectorWrite)
    order : Out(OrderRead()), for tasks with ``ordered`` (``orders_tokens``)
    events : Out({drain_steps}), vector words
    """

    task: stream.Interface
    command: stream.Interface
    words: stream.Interface
    accumulator: wiring.PureInterface
    scale_read: wiring.PureInterface
    residual: wiring.PureInterface
    vector: stream.Interface
    order: wiring.PureInterface
    events: data.View

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "task": In(Task(Opcode.DRAIN)),
            "command": Out(ReadCommand()),
            "words": In(stream.Signature(config.port_bits)),
            "accumulator": Out(AccumulatorRead(config)),
            "scale_read": Out(MemoryRead(SCALE_ADDRESS_BITS, TOKEN_SCALE_BITS)),
            "residual": Out(VectorRead(config)),
            "vector": Out(VectorWrite(config)),
            "order": Out(OrderRead()),
            "events": Out(data.StructLayout({"drain_steps": 1})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.reader = reader = DrainReader(self.config)
        m.submodules.dequantizer = dequantizer = Dequantizer(self.config)
        m.submodules.adder = adder = ResidualAdder(self.config)
        m.submodules.argmax = argmax = Argmax(self.config)
        connect(m, flipped(self.words), reader.words)
        connect(m, reader.accumulator, flipped(self.accumulator))
        connect(m, reader.scale_read, flipped(self.scale_read))
        connect(m, reader.o, dequantizer.i)
        connect(m, adder.memory, flipped(self.residual))

        # The address of the offered word is known; ordered rows are looked up before.
        self.located = Signal(init=1)
        task, command = self.task.p, self.command
        starting, running, concluding = Signal(), Signal(), Signal()
        behind = Mux(task.uniform, 0, task.words - 1)
        more = Mux(task.compact, behind, behind * PARAMETER_WORDS)
        m.d.comb += [
            command.p.address.eq(task.address * LINE_BYTES),
            command.p.words.eq(header_words(self.config) + PARAMETER_WORDS + more),
            starting.eq(command.valid & command.ready),
            reader.task.eq(task),
            reader.starting.eq(starting),
            argmax.restart.eq(starting & (task.mode == DrainMode.ARGMAX)),
            argmax.column.eq(task.column),
            argmax.fresh.eq(task.fresh),
            self.events.drain_steps.eq(reader.step),
        ]
        address, last = self._walk(m, starting, dequantizer.o)
        self._deliver(m, dequantizer.o, address, running, adder, argmax)
        with m.If(concluding):
            self._conclude(m, argmax)
        with m.FSM():
            with m.State("command"):
                m.d.comb += command.valid.eq(self.task.valid)
                with m.If(starting):
                    m.next = "run"
            with m.State("run"):
                m.d.comb += running.eq(self.task.valid)
                with m.If(dequantizer.o.valid & dequantizer.o.ready & last):
                    m.next = "settle"
            with m.State("settle"):
                with m.If(~adder.busy & ~argmax.busy):
                    with m.If(task.mode == DrainMode.ARGMAX):
                        m.next = "conclude"
                    with m.Else():
                        m.d.comb += self.task.ready.eq(1)
                        m.next = "command"
            with m.State("conclude"):
                m.d.comb += [
                    concluding.eq(self.task.valid),
                    self.task.ready.eq(self.vector.ready),
                ]
                with m.If(self.vector.ready):
                    m.next = "command"
        return m

    def _walk(self, m: Module, starting: Signal, o: stream.Interface) -> tuple[Signal, Value]:
        """Address of the word that ``o`` offers, and whether it is the instruction's last."""
        task = self.task.p
        m.submodules.rows = rows = RowCounter()
        address, token, word = Signal(16), Signal(16), Signal(16)
        next_token, next_word = Signal(16), Signal(16)
        m.d.comb += [
            rows.restart.eq(starting),
            rows.step.eq(o.valid & o.ready),
            rows.tokens.eq(task.tokens),
            rows.heads.eq(task.heads),
            rows.words.eq(task.words),
            next_token.eq(token + task.stride),
            next_word.eq(word + Mux(task.mode == DrainMode.RESIDUAL, 2, 1)),
        ]
        with m.If(starting):
            m.d.sync += [one.eq(task.destination) for one in (address, token, word)]
        with m.Elif(rows.step):
            with m.If(rows.last_row):
                m.d.sync += [one.eq(next_word) for one in (address, token, word)]
            with m.Elif(rows.last_head):
                m.d.sync += [one.eq(next_token) for one in (address, token)]
            with m.Else():
                m.d.sync += address.eq(address + task.head_stride)
        if self.config.orders_tokens:
            following = Mux(rows.step & rows.last_row, next_word, word)
            self._locate(m, starting, rows.step, address, following)
        return address, rows.last

    def _locate(
        self, m: Module, starting: Signal, step: Signal, address: Signal, word: Value
    ) -> None:
        """Look up where the rows of a word are if they have an order."""
        task, located = self.task.p, self.located
        m.submodules.places = places = OrderedRows()
        connect(m, places.memory, flipped(self.order))
        m.d.comb += [
            places.start.eq(starting),
            places.first.eq(task.order),
            places.tokens.eq(task.tokens),
            places.stride.eq(task.stride),
            places.step.eq(task.ordered & ~starting & places.valid & (~located | step)),
        ]
        with m.If(starting):
            m.d.sync += located.eq(~task.ordered)
        with m.Elif(places.step):
            m.d.sync += [located.eq(1), address.eq(word + places.offset)]
        with m.Elif(step):
            m.d.sync += located.eq(~task.ordered)

    def _deliver(
        self, m: Module, o: stream.Interface, address: Signal, running: Signal,
        adder: ResidualAdder, argmax: Argmax,
    ) -> None:
        """Hand the dequantizer's words to what the mode makes of them."""
        vector, offered = self.vector, running & o.valid
        placed = offered & self.located
        m.d.comb += [
            adder.i.p.address.eq(address),
            adder.i.p.values.eq(o.p.wide),
            argmax.values.eq(o.p.wide),
        ]
        with m.Switch(self.task.p.mode):
            with m.Case(DrainMode.VECTOR):
                m.d.comb += [
                    vector.valid.eq(placed),
                    vector.p.address.eq(address),
                    vector.p.data.eq(o.p.narrow),
                    o.ready.eq(running & self.located & vector.ready),
                ]
            with m.Case(DrainMode.RESIDUAL):
                m.d.comb += [
                    adder.i.valid.eq(placed),
                    o.ready.eq(running & self.located & adder.i.ready),
                    vector.valid.eq(adder.o.valid & self.task.valid),
                    vector.payload.eq(adder.o.payload),
                    adder.o.ready.eq(vector.ready),
                ]
            with m.Case(DrainMode.ARGMAX):
                m.d.comb += [argmax.valid.eq(offered), o.ready.eq(running)]

    def _conclude(self, m: Module, argmax: Argmax) -> None:
        """Write the place and the value of the maximum."""
        m.d.comb += [
            self.vector.valid.eq(1),
            self.vector.p.address.eq(self.task.p.destination),
            self.vector.p.data.eq(
                Cat(argmax.index, Const(0, INDEX_BITS - COLUMN_BITS), argmax.value)
            ),
        ]
