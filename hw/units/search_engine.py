"""Search engine: activation codes of all positions, round by round."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import OperandWrite, ReadCommand, Task, VectorRead
from hw.isa import LINE_BYTES, Opcode
from hw.units.centroid_search import CentroidSearch
from hw.units.vector_reader import VectorReader
from hw.verilog import module


class SearchEngine(wiring.Component):
    """Run SEARCH: one `CentroidSearch` for each position, all in step.

    A vector word a cycle, while the centroids of the next round are loaded, one index of all
    positions a cycle: a round takes the larger of ``tokens`` and ``act_codes_max`` cycles, and a
    few more. Rounds and tokens of a task are not 0.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In(Task)
    vector : Out(VectorRead)
    command, words : Out(ReadCommand), In(stream of port words), centroids
    operand : Out(OperandWrite), a word of codes for each round and token
    events : Out, search_steps (vector words searched) and centroid_words pulses
    """

    task: stream.Interface
    words: stream.Interface
    operand: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "task": In(Task(Opcode.SEARCH)),
            "vector": Out(VectorRead(config)),
            "command": Out(ReadCommand()),
            "words": In(stream.Signature(config.port_bits)),
            "operand": Out(OperandWrite(config)),
            "events": Out(data.StructLayout({"search_steps": 1, "centroid_words": 1})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        task = self.task.p

        m.submodules.reader = reader = VectorReader(self.config)
        wiring.connect(m, reader.memory, wiring.flipped(self.vector))
        searches = [
            module("centroid_search", CentroidSearch(self.config))
            for _ in range(self.config.positions)
        ]
        for n, search in enumerate(searches):
            m.submodules[f"position_{n}"] = search

        start = Signal()
        finished = Signal()
        running = Signal()
        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.command.valid.eq(self.task.valid)
                with m.If(self.task.valid & self.command.ready):
                    m.d.comb += start.eq(1)
                    m.next = "run"
            with m.State("run"):
                m.d.comb += running.eq(1)
                with m.If(finished):
                    m.next = "done"
            with m.State("done"):
                m.d.comb += self.task.ready.eq(1)
                m.next = "idle"
        m.d.comb += [
            self.command.p.address.eq(task.address * LINE_BYTES),
            self.command.p.words.eq(task.rounds * self.config.act_codes_max),
        ]

        requesting = self._request(m, reader, start, running)
        feeding, fed = self._feed(m, reader, searches, start)
        written = self._write(m, searches, start, running)
        m.d.comb += finished.eq(
            ~requesting & ~feeding & ~self.operand.valid & (written == fed)
        )

        return m

    def _request(self, m: Module, reader: Any, start: Signal, running: Signal) -> Signal:
        """Ask for word ``source + t * stride + r``: for each round, for each token.

        Returns whether there is more to ask for.
        """
        task = self.task.p
        active = Signal()
        token = Signal.like(task.tokens)
        column = Signal.like(task.rounds)
        row = Signal(16)
        next_column = column + 1
        m.d.comb += [reader.i.valid.eq(active & running), reader.i.payload.eq(row)]
        with m.If(reader.i.valid & reader.i.ready):
            m.d.sync += [token.eq(token + 1), row.eq(row + task.stride)]
            with m.If(token + 1 == task.tokens):
                m.d.sync += [
                    token.eq(0),
                    column.eq(next_column),
                    row.eq(task.source + next_column),
                    active.eq(next_column != task.rounds),
                ]
        with m.If(start):
            m.d.sync += [active.eq(1), token.eq(0), column.eq(0), row.eq(task.source)]
        return active

    def _feed(
        self, m: Module, reader: Any, searches: list[Any], start: Signal
    ) -> tuple[Signal, Signal]:
        """Give words to the searches; returns whether more are to come, and where they go."""
        task = self.task.p
        feeding = Signal()
        fed = Signal(16)
        token = Signal.like(task.tokens)
        column = Signal.like(task.rounds)
        first = Signal()
        allowed = Signal()
        accepted = Signal()
        loaded = self._load(m, searches, start, accepted & first)
        m.d.comb += [
            first.eq(token == 0),
            allowed.eq(~first | loaded),
            accepted.eq(reader.o.valid & reader.o.ready),
            reader.o.ready.eq(searches[0].i.ready & allowed),
            self.events.search_steps.eq(accepted),
        ]
        width = 16 * self.config.vector_length
        for n, search in enumerate(searches):
            m.d.comb += [
                search.i.valid.eq(reader.o.valid & allowed),
                search.i.p.elements.eq(reader.o.payload[n * width:(n + 1) * width]),
                search.i.p.first.eq(first),
                search.i.p.l2.eq(task.l2),
            ]
        with m.If(accepted):
            m.d.sync += [token.eq(token + 1), fed.eq(fed + 1)]
            with m.If(token + 1 == task.tokens):
                m.d.sync += [
                    token.eq(0),
                    column.eq(column + 1),
                    feeding.eq(column + 1 != task.rounds),
                ]
        with m.If(start):
            m.d.sync += [feeding.eq(1), fed.eq(task.operands), token.eq(0), column.eq(0)]
        return feeding, fed

    def _load(
        self, m: Module, searches: list[Any], start: Signal, swap: Any
    ) -> Signal:
        """Fill the shadows; returns whether they hold the centroids of the next round.

        swap: the first vector of a round enters the searches.
        """
        length = self.config.chain_length
        active = Signal()
        column = Signal.like(self.task.p.rounds)
        index = Signal(range(self.config.act_codes_max))
        full = Signal()
        loaded = Signal()
        taken = Signal()

        # Units that the first vector of the running round has passed.
        passed = Signal(range(length + 1), init=length)
        with m.If(swap):
            m.d.sync += [passed.eq(1), full.eq(0)]
        with m.Elif(searches[0].i.ready & (passed != length)):
            m.d.sync += passed.eq(passed + 1)

        # A register behind the port, which fans out to all units.
        word = Signal(self.config.port_bits)
        word_valid = Signal()
        word_index = Signal.like(index)
        width = 16 * self.config.vector_length
        for n, search in enumerate(searches):
            m.d.comb += [
                search.load.valid.eq(word_valid),
                search.load.index.eq(word_index),
                search.load.centroid.eq(word[n * width:(n + 1) * width]),
            ]

        m.d.comb += [
            self.words.ready.eq(active & ~full & ((index < passed) | (passed == length))),
            taken.eq(self.words.valid & self.words.ready),
            self.events.centroid_words.eq(taken),
            loaded.eq(full & ~word_valid),
        ]
        m.d.sync += word_valid.eq(taken)
        with m.If(taken):
            m.d.sync += [word.eq(self.words.payload), word_index.eq(index), index.eq(index + 1)]
            with m.If(index == self.config.act_codes_max - 1):
                m.d.sync += [
                    index.eq(0),
                    full.eq(1),
                    column.eq(column + 1),
                    active.eq(column + 1 != self.task.p.rounds),
                ]
        with m.If(start):
            m.d.sync += [active.eq(1), column.eq(0)]
        return loaded

    def _write(
        self, m: Module, searches: list[Any], start: Signal, running: Signal
    ) -> Signal:
        """Write the codes to consecutive operand words; returns the next one."""
        written = Signal(16)
        taken = Signal()
        filling = Const(0, 8 * (self.config.vector_length - 1))
        m.d.comb += [
            self.operand.valid.eq(Cat(search.o.valid for search in searches).all() & running),
            self.operand.p.address.eq(written),
            self.operand.p.data.eq(Cat((search.o.payload, filling) for search in searches)),
            self.operand.p.nibbles.eq(~0),
            taken.eq(self.operand.valid & self.operand.ready),
            *(search.o.ready.eq(taken) for search in searches),
        ]
        with m.If(taken):
            m.d.sync += written.eq(written + 1)
        with m.If(start):
            m.d.sync += written.eq(self.task.p.operands)
        return written
