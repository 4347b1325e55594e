"""Record fetch: the external reads of a LUT instruction that gathers rows."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.interfaces import ADDRESS_BITS, COUNT_BITS, MemoryRead, ReadCommand, task_layout
from hw.isa import LINE_BYTES, Opcode


class RecordFetch(wiring.Component):
    """Commands for all weight ports, in the order in which the loaders expect their words.

    For each record, one for each token (the bundle of rows that its code chooses) and one for the
    indices; one command on every port each 3 cycles, the ports in step.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    start : In(1), begin on ``fields`` (mode GATHER) one cycle after it became valid or later
    fields : In(task_layout(LUT)), stable while commands are made
    commands : Out(ReadCommand) of each port
    operand : Out(MemoryRead of the operand store), the codes of a token
    """

    fields: data.View
    commands: list[stream.Interface]
    operand: wiring.PureInterface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "start": In(1),
            "fields": In(task_layout(Opcode.LUT)),
            "commands": Out(ReadCommand()).array(config.weight_ports),
            "operand": Out(MemoryRead(16, config.word_elements * 8)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, fields = self.config, self.fields
        per_port = config.positions_per_port
        token, round_, part = Signal(8), Signal(12), Signal(bits_for(per_port))
        operands, record, words = Signal(16), Signal(COUNT_BITS), Signal(COUNT_BITS)
        indices, sending, all_taken = Signal(), Signal(), Signal()
        taken, now_taken = Signal(config.weight_ports), Signal(config.weight_ports)
        codes = [Signal(8, name=f"code_{port}") for port in range(config.weight_ports)]

        m.d.comb += [
            indices.eq(token == fields.tokens),
            self.operand.address.eq(operands + token),
            now_taken.eq(taken | Cat(command.ready for command in self.commands)),
            all_taken.eq(now_taken.all()),
        ]

        with m.Switch(part):
            for lane in range(per_port):
                with m.Case(lane):
                    for port, code in enumerate(codes):
                        position = port * per_port + lane
                        m.d.comb += code.eq(
                            self.operand.data.word_select(position * config.vector_length, 8)
                        )
        offsets = []
        for port, command in enumerate(self.commands):
            base = Signal(ADDRESS_BITS, name=f"base_{port}")
            offset = Signal(16, name=f"offset_{port}")
            m.d.sync += base.eq((fields.address + port * fields.port_stride) * LINE_BYTES)
            m.d.comb += [
                command.valid.eq(sending & ~taken[port]),
                command.p.address.eq(base + (record + offset) * config.port_bytes),
                command.p.words.eq(words),
            ]
            offsets.append(offset)

        with m.FSM():
            with m.State("idle"):
                m.d.sync += [token.eq(0), round_.eq(0), part.eq(0), record.eq(0)]
                m.d.sync += operands.eq(fields.operands)
                with m.If(self.start):
                    m.next = "read"
            with m.State("read"):
                m.d.comb += self.operand.en.eq(~indices)
                m.next = "place"
            with m.State("place"):
                with m.If(indices):
                    m.d.sync += words.eq(fields.record_words - fields.table_words)
                with m.Else():
                    m.d.sync += words.eq(fields.bundle_words)
                for offset, code in zip(offsets, codes, strict=True):
                    chosen = code * fields.bundle_words
                    m.d.sync += offset.eq(Mux(indices, fields.table_words, chosen))
                m.next = "send"
            with m.State("send"):
                m.d.comb += sending.eq(1)
                m.d.sync += taken.eq(now_taken)
                with m.If(all_taken):
                    m.d.sync += [taken.eq(0), token.eq(token + 1)]
                    m.next = "read"
                    with m.If(indices):
                        m.d.sync += [token.eq(0), part.eq(part + 1)]
                        m.d.sync += record.eq(record + fields.record_words)
                        with m.If(part == per_port - 1):
                            m.d.sync += [part.eq(0), round_.eq(round_ + 1)]
                            m.d.sync += operands.eq(operands + fields.tokens)
                            with m.If(round_ + 1 == fields.rounds):
                                m.next = "idle"
        return m
