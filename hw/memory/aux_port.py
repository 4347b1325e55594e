"""Clients of the aux port: instruction fetch and engines."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import HardwareConfig
from hw.interfaces import ReadCommand
from hw.isa import EARLY_READS, ENGINE_OF, HEADER, Engine
from hw.memory.early_read import EarlyRead
from hw.memory.read_mux import ReadMux
from hw.verilog import module


class AuxPort(wiring.Component):
    """Shares a read port; what `EARLY_READS` begin with is read while they wait.

    Engines that share a queue share an `EarlyRead`: the one whose instruction is next has it. A
    command that waits for tokens is asked for 3 cycles after its instruction is next in its queue.

    Parameters
    ----------
    config : HardwareConfig
    clients : names, those of engines in lower case as in `hw.isa.Opcode`

    Members
    -------
    commands : In(ReadCommand()), an array over clients
    words : Out(stream of port words), an array over clients
    opcodes : In, for each engine that of its next instruction, or of the one that runs
    waiting : In, a bit for each engine: its next instruction lacks tokens
    command : Out(ReadCommand()), to the port
    data : In(stream of port words), from the port
    """

    command: stream.Interface
    data: stream.Interface

    def __init__(self, config: HardwareConfig, clients: Sequence[str]) -> None:
        self.config = config
        self.clients = tuple(clients)
        super().__init__({
            "commands": In(ReadCommand()).array(len(clients)),
            "words": Out(stream.Signature(config.port_bits)).array(len(clients)),
            "opcodes": In(data.ArrayLayout(HEADER["opcode"], len(Engine))),
            "waiting": In(len(Engine)),
            "command": Out(ReadCommand()),
            "data": In(stream.Signature(config.port_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        early_opcodes = {opcode.name.lower(): opcode for opcode in EARLY_READS}
        first: dict[Engine, str] = {}
        for name in self.clients:
            if name in early_opcodes:
                first.setdefault(ENGINE_OF[early_opcodes[name]], name)
        direct = [number for number, name in enumerate(self.clients) if name not in early_opcodes]
        m.submodules.mux = mux = ReadMux(self.config, len(direct) + len(first))
        connect(m, mux.command, flipped(self.command))
        connect(m, flipped(self.data), mux.data)
        for place, number in enumerate(direct):
            connect(m, flipped(self.commands[number]), mux.commands[place])
            connect(m, mux.words[place], flipped(self.words[number]))

        # An instruction that lacked tokens is still next, and does not run yet, a cycle later; by
        # then its engine shows its command.
        waited = Signal(len(Engine))
        m.d.sync += waited.eq(self.waiting)
        readers = {}
        for place, queue in enumerate(first, len(direct)):
            reader = readers[queue] = module("early_read", EarlyRead(self.config))
            m.submodules[f"early_{queue.name.lower()}"] = reader
            connect(m, reader.command, mux.commands[place])
            connect(m, mux.words[place], reader.data)
        for number, name in enumerate(self.clients):
            if name not in early_opcodes:
                continue
            queue = ENGINE_OF[early_opcodes[name]]
            reader, asked, words = readers[queue], self.commands[number], self.words[number]
            m.d.comb += words.payload.eq(reader.words.payload)
            if first[queue] == name:
                # A command that nobody gives may be any: no choice for a queue of one engine.
                m.d.comb += reader.asked.payload.eq(asked.payload)
            with m.If(self.opcodes[queue] == early_opcodes[name]):
                m.d.comb += [
                    reader.ahead.eq(waited[queue]),
                    reader.asked.valid.eq(asked.valid),
                    asked.ready.eq(reader.asked.ready),
                    words.valid.eq(reader.words.valid),
                    reader.words.ready.eq(words.ready),
                ]
                if first[queue] != name:
                    m.d.comb += reader.asked.payload.eq(asked.payload)
        return m
