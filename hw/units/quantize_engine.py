"""Quantize engine: int16 activations to int8 or int4 with a scale for each row."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, Signature

from hw.config import ALPHA_MAX, HardwareConfig, bits_for
from hw.golden.quantize import INVERSE_BITS, NORMAL_BITS
from hw.interfaces import OperandWrite, ReadCommand, Task, VectorRead
from hw.isa import LINE_BYTES, Opcode
from hw.memory.operand_store import ScaleWrite
from hw.memory.token_order import OrderRead
from hw.units.divider import Divider
from hw.units.ordered_rows import OrderedRows
from hw.units.peak_unit import FACTOR_BITS, PeakUnit
from hw.units.position_filter import PositionFilter
from hw.units.position_lists import ListWrite
from hw.units.quantize_lanes import INVERSE_WIDTH, SHIFT_BITS, QuantizeLanes
from hw.units.vector_reader import VectorReader

NIBBLE_BITS = 4
"""Width of a channel factor in memory."""
INVERSE_STEP_BITS = 3
"""Bits of a row's inverse scale a cycle."""
ROW_BITS = 16
"""Width of ``tokens * heads``."""


def AlphaWrite(config: HardwareConfig) -> Signature:
    """Channel factors of a round, never refused."""
    return Signature({
        "valid": Out(1),
        "address": Out(12),
        "data": Out(FACTOR_BITS * config.chunks_per_word),
    })


class QuantizeEngine(wiring.Component):
    """Run QUANTIZE: for each row a pass for its peak, a division, and a pass that writes.

    A vector word a cycle in both passes, ``log2(word_elements)`` and about 17 cycles a row in
    between. The channel factors are read once and unpacked, a round a cycle,
    while the first row's peak is found. Rounds (at most ``operand_words``), tokens and heads of
    a task are not 0. In int4 mode an even row writes zeros to its odd neighbour's nibbles.

    Where the hardware skips positions, ``thresholds`` asks for a word of them for each round, once
    for each row, and writes 0 where a position has none above; ``lists`` (one row, int8) also puts
    the words on the position lists.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In(Task)
    vector : Out(VectorRead)
    command, words : Out(ReadCommand), In(stream of port words), channel factors
    operand : Out(OperandWrite), a word for each row and round
    alpha_write : Out(AlphaWrite), once for each round
    scale_write : Out(ScaleWrite), the peak of each row
    order : Out(OrderRead()), for tasks with ``ordered`` (``orders_tokens``)
    list_write : Out(ListWrite), where the hardware skips positions
    events : Out, quantize_steps pulses (operand words written)
    """

    task: stream.Interface
    words: stream.Interface
    operand: stream.Interface
    list_write: wiring.PureInterface
    scale_write: stream.Interface
    order: wiring.PureInterface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        lists = {"list_write": Out(ListWrite(config))} if config.skips_positions else {}
        super().__init__(lists | {
            "task": In(Task(Opcode.QUANTIZE)),
            "vector": Out(VectorRead(config)),
            "command": Out(ReadCommand()),
            "words": In(stream.Signature(config.port_bits)),
            "operand": Out(OperandWrite(config)),
            "alpha_write": Out(AlphaWrite(config)),
            "scale_write": Out(ScaleWrite()),
            "order": Out(OrderRead()),
            "events": Out(data.StructLayout({"quantize_steps": 1})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        task = self.task.p
        config = self.config

        m.submodules.reader = reader = VectorReader(config)
        m.submodules.peak = peak = PeakUnit(config)
        m.submodules.lanes = lanes = QuantizeLanes(config)
        m.submodules.divider = divider = Divider(
            7 + INVERSE_BITS, NORMAL_BITS, INVERSE_WIDTH, INVERSE_STEP_BITS
        )
        wiring.connect(m, reader.memory, wiring.flipped(self.vector))

        start = Signal()
        factors, loaded = self._load(m, start)
        running = Signal()
        requesting = self._request(m, reader, start, running)

        # A word and, from the factor memory, its factors, one cycle after it is taken.
        word = Signal(config.port_bits)
        held = Signal()
        popping = Signal()
        writing = Signal()
        popped = Signal()
        known, limited = Signal(), Signal(init=1)
        rounds = Signal.like(task.rounds)
        last = Signal()
        m.d.comb += [
            known.eq(rounds < loaded),
            reader.o.ready.eq(popping & known & limited & (~held | ~writing | lanes.i.ready)),
            popped.eq(reader.o.valid & reader.o.ready),
            last.eq(popped & (rounds + 1 == task.rounds)),
            factors.en.eq(popped),
            factors.addr.eq(rounds),
            peak.valid.eq(held & ~writing),
            peak.word.eq(word),
            peak.factors.eq(factors.data),
            lanes.i.valid.eq(held & writing),
            lanes.i.p.word.eq(word),
        ]
        asking = Signal()
        if config.skips_positions:
            self._filter(m, reader.o, popped, limited, writing, lanes.i, asking)
        with m.If(popped):
            m.d.sync += [held.eq(1), word.eq(reader.o.payload)]
            m.d.sync += rounds.eq(Mux(last, 0, rounds + 1))
        with m.Elif(~writing | lanes.i.ready):
            m.d.sync += held.eq(0)

        row = Signal(ROW_BITS)
        rows = Signal(ROW_BITS)
        m.d.sync += rows.eq(task.tokens * task.heads)
        normal = Signal(range(NORMAL_BITS))
        inverse = Signal(INVERSE_WIDTH)
        m.d.comb += lanes.i.p.inverse.eq(inverse)
        for n in range(config.chunks_per_word):
            factor = factors.data.word_select(n, FACTOR_BITS)
            m.d.comb += lanes.i.p.shifts[n].eq((normal + ALPHA_MAX - factor)[:SHIFT_BITS])
        limit = Mux(task.int4, 7 << INVERSE_BITS, 127 << INVERSE_BITS)
        m.d.comb += [
            divider.i.p.dividend.eq(limit),
            divider.i.p.divisor.eq(peak.peak << normal),
            self.scale_write.p.address.eq(task.scales + row),
            self.scale_write.p.data.eq(peak.peak),
        ]
        flushed = self._write(m, lanes, row, rows, writing)

        m.d.comb += running.eq(self.task.valid)
        with m.FSM():
            with m.State("idle"):
                m.d.comb += [running.eq(0), self.command.valid.eq(self.task.valid)]
                with m.If(self.task.valid & self.command.ready):
                    m.d.comb += [start.eq(1), peak.clear.eq(1)]
                    m.d.sync += row.eq(0)
                    m.next = "peak"
            with m.State("peak"):
                m.d.comb += popping.eq(1)
                with m.If(last):
                    m.next = "settle"
            with m.State("settle"):
                m.d.comb += self.scale_write.valid.eq(self.task.valid & ~held & ~peak.busy)
                with m.If(self.scale_write.valid & self.scale_write.ready):
                    m.next = "normalise"
                    if config.skips_positions:
                        with m.If(task.thresholds):
                            m.next = "ask"
            with m.State("ask"):
                m.d.comb += asking.eq(1)
                with m.If(self.command.valid & self.command.ready):
                    m.next = "normalise"
            with m.State("normalise"):
                for bit in range(NORMAL_BITS):
                    with m.If(peak.peak[bit]):
                        m.d.sync += normal.eq(NORMAL_BITS - 1 - bit)
                m.d.sync += inverse.eq(0)
                m.next = "divide"
                with m.If(peak.peak == 0):
                    m.next = "write"
            with m.State("divide"):
                m.d.comb += divider.i.valid.eq(1)
                with m.If(divider.i.ready):
                    m.next = "invert"
            with m.State("invert"):
                m.d.comb += divider.o.ready.eq(1)
                with m.If(divider.o.valid):
                    m.d.sync += inverse.eq(divider.o.payload)
                    m.next = "write"
            with m.State("write"):
                m.d.comb += [writing.eq(1), popping.eq(1)]
                with m.If(last):
                    m.next = "flush"
            with m.State("flush"):
                m.d.comb += writing.eq(1)
                with m.If(flushed):
                    m.d.comb += peak.clear.eq(1)
                    m.d.sync += row.eq(row + 1)
                    m.next = "peak"
                    with m.If((row + 1 == rows) & ~requesting):
                        m.next = "done"
            with m.State("done"):
                m.d.comb += self.task.ready.eq(1)
                m.next = "idle"

        return m

    def _load(self, m: Module, start: Signal) -> tuple[Any, Signal]:
        """Read and unpack the factors; returns their memory and the rounds that it holds."""
        task = self.task.p
        config = self.config
        entry_bits = NIBBLE_BITS * config.chunks_per_word
        entries = config.port_bits // entry_bits
        m.submodules.factors = store = memory.Memory(
            shape=FACTOR_BITS * config.chunks_per_word,
            depth=min(config.operand_words, 1 << len(task.rounds)),
            init=[],
        )
        write = store.write_port()
        loaded = Signal.like(task.rounds)
        active = Signal()
        entry = Signal(range(entries))
        nibbles = self.words.payload.word_select(entry, entry_bits)
        final = loaded + 1 == task.rounds
        m.d.comb += [
            self.command.p.address.eq(task.address * LINE_BYTES),
            self.command.p.words.eq(self._factor_words()),
            self.words.ready.eq(active & (final | (entry == entries - 1))),
            write.en.eq(active & self.words.valid),
            write.addr.eq(loaded),
            write.data.eq(Cat(
                nibbles.word_select(n, NIBBLE_BITS)[:FACTOR_BITS]
                for n in range(config.chunks_per_word)
            )),
            self.alpha_write.valid.eq(write.en),
            self.alpha_write.address.eq(task.alphas + loaded),
            self.alpha_write.data.eq(write.data),
        ]
        with m.If(write.en):
            m.d.sync += [loaded.eq(loaded + 1), entry.eq(entry + 1), active.eq(~final)]
        with m.If(start):
            m.d.sync += [active.eq(1), loaded.eq(0), entry.eq(0)]
        return store.read_port(), loaded

    def _factor_words(self) -> Value:
        """Port words of the channel factors."""
        entries = self.config.port_bits // (NIBBLE_BITS * self.config.chunks_per_word)
        return (self.task.p.rounds + (entries - 1)) >> bits_for(entries)

    def _filter(
        self, m: Module, o: Any, popped: Signal, limited: Signal, writing: Signal, lanes: Any,
        asking: Signal,
    ) -> None:
        """Ask for a row's thresholds, take one word of them with each word of its second pass."""
        task, config = self.task.p, self.config
        m.submodules.filter = filter_ = PositionFilter(config)
        kept, filtering = Signal(config.positions), Signal()
        m.d.comb += [
            filtering.eq(writing & task.thresholds),
            limited.eq(~filtering | self.words.valid),
            filter_.word.eq(o.payload),
            filter_.thresholds.eq(self.words.payload),
        ]
        with m.If(popped):
            m.d.sync += kept.eq(Mux(filtering, filter_.kept, ~0))
        with m.If(filtering):
            m.d.comb += self.words.ready.eq(popped)
        with m.If(asking):
            address = task.address * LINE_BYTES + self._factor_words() * config.port_bytes
            m.d.comb += [
                self.command.valid.eq(self.task.valid),
                self.command.p.address.eq(address),
                self.command.p.words.eq(task.rounds),
            ]
        for n in range(config.word_elements):
            with m.If(~kept[n // config.vector_length]):
                m.d.comb += lanes.p.word[n].eq(0)

    def _request(self, m: Module, reader: Any, start: Signal, running: Signal) -> Signal:
        """Ask for the words of each row twice; returns whether there is more to ask for."""
        task = self.task.p
        active = Signal()
        again = Signal()
        token = Signal.like(task.tokens)
        head = Signal.like(task.heads)
        rounds = Signal.like(task.rounds)
        token_address = Signal(16)
        row_address = Signal(16)
        next_address = Signal(16)
        located = self._located(m, start, active & running, row_address)
        m.d.comb += [
            reader.i.valid.eq(active & running & located),
            reader.i.payload.eq(row_address + rounds),
            next_address.eq(token_address + task.stride),
        ]
        with m.If(reader.i.valid & reader.i.ready):
            m.d.sync += rounds.eq(rounds + 1)
            with m.If(rounds + 1 == task.rounds):
                m.d.sync += [rounds.eq(0), again.eq(~again)]
                with m.If(again & (head + 1 != task.heads)):
                    m.d.sync += [
                        head.eq(head + 1), row_address.eq(row_address + task.head_stride)
                    ]
                with m.Elif(again):
                    m.d.sync += [
                        head.eq(0),
                        token.eq(token + 1),
                        token_address.eq(next_address),
                        row_address.eq(next_address),
                        located.eq(~task.ordered),
                        active.eq(token + 1 != task.tokens),
                    ]
        with m.If(start):
            m.d.sync += [
                active.eq(1), again.eq(0), token.eq(0), head.eq(0), rounds.eq(0),
                located.eq(~task.ordered),
                token_address.eq(task.source), row_address.eq(task.source),
            ]
        return active

    def _located(self, m: Module, start: Signal, active: Value, row_address: Signal) -> Signal:
        """Whether ``row_address`` is the row's; it is looked up where rows have an order."""
        task, located = self.task.p, Signal()
        if self.config.orders_tokens:
            m.submodules.rows = rows = OrderedRows()
            wiring.connect(m, rows.memory, wiring.flipped(self.order))
            m.d.comb += [
                rows.start.eq(start),
                rows.first.eq(task.order),
                rows.tokens.eq(task.tokens),
                rows.stride.eq(task.stride),
                rows.step.eq(active & ~located & rows.valid),
            ]
            with m.If(rows.step):
                m.d.sync += [located.eq(1), row_address.eq(task.source + rows.offset)]
        return located

    def _write(
        self, m: Module, lanes: Any, row: Signal, rows: Signal, writing: Signal
    ) -> Value:
        """Write a row's words; returns whether all are written."""
        task = self.task.p
        address = Signal(16)
        written = Signal.like(task.rounds)
        odd = row[0]
        quantized = [lanes.o.payload[n].as_unsigned() for n in range(self.config.word_elements)]
        low = Cat(Cat(q[:4], q[:4] & odd.replicate(4)) for q in quantized)
        m.d.comb += [
            self.operand.valid.eq(lanes.o.valid & writing & self.task.valid),
            lanes.o.ready.eq(self.operand.ready & writing),
            self.operand.p.address.eq(address),
            self.operand.p.data.eq(Mux(task.int4, low, Cat(*quantized))),
            self.operand.p.nibbles.eq(
                Cat(Cat(~(task.int4 & odd), 1) for _ in quantized)
            ),
            self.events.quantize_steps.eq(self.operand.valid & self.operand.ready),
        ]
        with m.If(~writing):
            m.d.sync += [
                address.eq(task.operands + Mux(task.int4, row >> 1, row)),
                written.eq(0),
            ]
        with m.Elif(self.operand.valid & self.operand.ready):
            m.d.sync += [
                address.eq(address + Mux(task.int4, (rows + 1) >> 1, rows)),
                written.eq(written + 1),
            ]
        if self.config.skips_positions:
            m.d.comb += [
                self.list_write.valid.eq(self.events.quantize_steps & task.lists),
                self.list_write.round.eq(written),
                self.list_write.word.eq(self.operand.p.data),
            ]
        return ~self.operand.valid & (written == task.rounds)
