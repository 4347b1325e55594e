"""Gather engine: rows of a table in memory become the residual stream."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import ADDRESS_BITS, ReadCommand, Task, VectorRead, VectorWrite
from hw.isa import LINE_BYTES, Opcode
from hw.units.gather_lanes import GatherLanes

ID_BITS = 24
"""Rows of the largest table."""


class GatherEngine(wiring.Component):
    """For each token, for each word of its row: shift the row up, add it, write the pair.

    A row costs a read of its id (not with ``direct``), then a read of its words; a word takes its
    lanes' steps and two writes, with ``add`` also two reads. The instruction completes when its
    last word is written.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In(Task(GATHER))
    command : Out(ReadCommand), one for each id and one for each row
    words : In(stream of port words)
    vector_read : Out(VectorRead), used with ``add`` only
    vector_write : Out(VectorWrite)
    events : Out({gather_steps}), words written
    """

    task: stream.Interface
    command: stream.Interface
    words: stream.Interface
    vector_read: wiring.PureInterface
    vector_write: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "task": In(Task(Opcode.GATHER)),
            "command": Out(ReadCommand()),
            "words": In(stream.Signature(config.port_bits)),
            "vector_read": Out(VectorRead(config)),
            "vector_write": Out(VectorWrite(config)),
            "events": Out(data.StructLayout({"gather_steps": 1})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, task, write = self.config, self.task, self.vector_write
        request = self.vector_read.request
        line_words = LINE_BYTES // config.port_bytes
        m.submodules.lanes = lanes = GatherLanes(config)
        line = Signal.like(task.p.ids)
        row = Signal(ID_BITS)
        row_words = Signal(ADDRESS_BITS)
        address, command_words = Signal(ADDRESS_BITS), Signal.like(task.p.words)
        tokens_left, words_left = Signal.like(task.p.tokens), Signal.like(task.p.words)
        pair, place = Signal(16), Signal(16)
        id_words_left = Signal(range(line_words + 1))
        high, arriving = Signal(), Signal()
        m.d.comb += [
            self.command.p.address.eq(address),
            self.command.p.words.eq(command_words),
            request.payload.eq(place + high),
            write.p.address.eq(place + high),
            write.p.data.eq(Mux(high, lanes.high, lanes.low)),
            self.events.gather_steps.eq(write.valid & write.ready),
            lanes.shift.eq(task.p.shift),
            lanes.add.eq(task.p.add),
            lanes.row.eq(self.words.payload),
            lanes.old.eq(self.vector_read.data),
            lanes.load_old.eq(arriving),
        ]
        m.d.sync += arriving.eq(request.valid & request.ready)

        with m.FSM():
            with m.State("start"):
                m.d.sync += [
                    line.eq(task.p.ids),
                    pair.eq(task.p.destination), tokens_left.eq(task.p.tokens),
                ]
                with m.If(task.valid):
                    m.next = "token"
            with m.State("token"):
                m.d.sync += [
                    words_left.eq(task.p.words), place.eq(pair), id_words_left.eq(line_words),
                    row.eq(line), address.eq(line * LINE_BYTES), command_words.eq(line_words),
                ]
                m.next = "id"
                with m.If(task.p.direct):
                    m.next = "multiply"
            with m.State("id"):
                m.d.comb += self.command.valid.eq(1)
                with m.If(self.command.ready):
                    m.next = "take id"
            with m.State("take id"):
                m.d.comb += self.words.ready.eq(1)
                with m.If(self.words.valid):
                    m.d.sync += id_words_left.eq(id_words_left - 1)
                    with m.If(id_words_left == line_words):
                        m.d.sync += row.eq(self.words.payload)
                    with m.If(id_words_left == 1):
                        m.next = "multiply"
            with m.State("multiply"):
                m.d.sync += row_words.eq(row * task.p.words)
                m.next = "locate"
            with m.State("locate"):
                m.d.sync += [
                    address.eq(task.p.address * LINE_BYTES + row_words * config.port_bytes),
                    command_words.eq(task.p.words),
                ]
                m.next = "row"
            with m.State("row"):
                m.d.comb += self.command.valid.eq(1)
                with m.If(self.command.ready):
                    m.next = "take word"
            with m.State("take word"):
                m.d.comb += [self.words.ready.eq(1), lanes.load_row.eq(self.words.valid)]
                with m.If(self.words.valid):
                    m.next = "compute"
                    with m.If(task.p.add):
                        m.next = "read"
            with m.State("read"):
                m.d.comb += request.valid.eq(1)
                with m.If(request.ready):
                    m.d.sync += high.eq(~high)
                    with m.If(high):
                        m.next = "arrive"
            with m.State("arrive"):
                m.next = "compute"
            with m.State("compute"):
                m.d.comb += lanes.run.eq(1)
                with m.If(lanes.done):
                    m.next = "write"
            with m.State("write"):
                m.d.comb += write.valid.eq(1)
                with m.If(write.ready):
                    m.d.sync += high.eq(~high)
                    with m.If(high):
                        m.d.sync += [place.eq(place + 2), words_left.eq(words_left - 1)]
                        m.next = "take word"
                        with m.If(words_left == 1):
                            m.d.sync += [
                                line.eq(line + 1), pair.eq(pair + task.p.stride),
                                tokens_left.eq(tokens_left - 1),
                            ]
                            m.next = "token"
                            with m.If(tokens_left == 1):
                                m.next = "complete"
            with m.State("complete"):
                m.d.comb += task.ready.eq(1)
                m.next = "start"
        return m
