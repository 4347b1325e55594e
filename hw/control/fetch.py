"""Instruction fetch."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import ADDRESS_BITS, ReadCommand
from hw.isa import INSTRUCTION_BITS, LINE_BYTES, Opcode
from hw.memory.fifo import Fifo

LINES_AHEAD = 4
"""Lines that are requested before their instructions are taken."""


class Fetch(wiring.Component):
    """Reads a program line by line up to its END, and hands out its instructions.

    A line is requested only when the buffer has room for it, so its words are always taken. Up to
    ``LINES_AHEAD`` lines after the one that holds END may be read; their words are thrown away. An
    opcode that does not exist ends the program as END does. A start is remembered while words of
    the previous program are still to come.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    start : In(1), pulse
    program : In, byte address of the first instruction (on a line); read in the cycle of start
    command : Out(ReadCommand())
    words : In(stream of port words)
    instructions : Out(stream of 256 bits), END included
    """

    command: stream.Interface
    words: stream.Interface
    instructions: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "start": In(1),
            "program": In(ADDRESS_BITS),
            "command": Out(ReadCommand()),
            "words": In(stream.Signature(config.port_bits)),
            "instructions": Out(stream.Signature(INSTRUCTION_BITS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        port_bits = self.config.port_bits
        line_words = LINE_BYTES // self.config.port_bytes
        depth = LINES_AHEAD * line_words
        m.submodules.buffer = buffer = Fifo(port_bits, depth)
        m.d.comb += [
            buffer.i.payload.eq(self.words.payload),
            buffer.i.valid.eq(self.words.valid),
            self.words.ready.eq(buffer.i.ready),
            self.command.p.words.eq(line_words),
        ]
        fetching, pending = Signal(), Signal()
        ended = Signal()
        next_line = Signal(ADDRESS_BITS)
        reserved = Signal(range(depth + 1))
        request, taken = Signal(), Signal()
        m.d.comb += [
            taken.eq(buffer.o.valid & buffer.o.ready),
            request.eq(
                fetching & ~ended & (~self.command.valid | self.command.ready)
                & (reserved <= depth - line_words)
            ),
        ]
        m.d.sync += reserved.eq(reserved + Mux(request, line_words, 0) - taken)
        with m.If(request):
            m.d.sync += [
                self.command.valid.eq(1),
                self.command.p.address.eq(next_line),
                next_line.eq(next_line + LINE_BYTES),
            ]
        with m.Elif(self.command.ready):
            m.d.sync += self.command.valid.eq(0)

        window = Signal(max(port_bits, INSTRUCTION_BITS))
        filled = Signal(range(INSTRUCTION_BITS // port_bits + 1))
        ready_instructions = Signal(range(port_bits // INSTRUCTION_BITS + 2))
        fills = max(1, INSTRUCTION_BITS // port_bits)
        handed = max(1, port_bits // INSTRUCTION_BITS)
        opcode = self.instructions.payload[:4]
        m.d.comb += [
            self.instructions.payload.eq(window[:INSTRUCTION_BITS]),
            self.instructions.valid.eq(ready_instructions != 0),
            ended.eq(self.instructions.valid & self.instructions.ready
                     & ((opcode == Opcode.END) | (opcode > max(Opcode)))),
        ]
        with m.If(~fetching):
            m.d.comb += buffer.o.ready.eq(1)
        with m.Elif(ready_instructions == 0):
            m.d.comb += buffer.o.ready.eq(1)
            with m.If(buffer.o.valid):
                m.d.sync += window.eq(Cat(window, buffer.o.payload)[-len(window):])
                with m.If(filled == fills - 1):
                    m.d.sync += [filled.eq(0), ready_instructions.eq(handed)]
                with m.Else():
                    m.d.sync += filled.eq(filled + 1)
        with m.Elif(self.instructions.ready):
            m.d.sync += [
                window.eq(window >> INSTRUCTION_BITS),
                ready_instructions.eq(Mux(ended, 0, ready_instructions - 1)),
            ]

        with m.If(ended):
            m.d.sync += fetching.eq(0)
        with m.If(self.start & ~fetching):
            m.d.sync += [pending.eq(1), next_line.eq(self.program)]
        with m.If(pending & ~fetching & (reserved == 0) & ~self.command.valid):
            m.d.sync += [pending.eq(0), fetching.eq(1)]
        return m
