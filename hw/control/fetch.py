"""Instruction fetch."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.control.loop_control import POSITION_BITS, LoopControl
from hw.interfaces import ADDRESS_BITS, ReadCommand
from hw.isa import HEADER, INSTRUCTION_BITS, INSTRUCTION_BYTES, LINE_BYTES, Opcode
from hw.memory.fifo import Fifo

LINE_INSTRUCTIONS = LINE_BYTES // INSTRUCTION_BYTES
LINES_AHEAD = 4
"""Lines that are requested before their instructions are taken."""


class Fetch(wiring.Component):
    """Reads a program line by line up to its END, and hands out its instructions.

    LOOP is not handed out; its body is, as often as it says, with the addresses of each iteration.
    The body is read again in each iteration: that waits for the lines read ahead, then for the
    body's first line.

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
        ended, stop = Signal(), Signal()
        next_line = Signal(ADDRESS_BITS)
        reserved = Signal(range(depth + 1))
        request, taken = Signal(), Signal()
        m.d.comb += [
            taken.eq(buffer.o.valid & buffer.o.ready),
            request.eq(
                fetching & ~stop & (~self.command.valid | self.command.ready)
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
        m.submodules.loop = loop = LoopControl()
        opcode = window[:HEADER["opcode"]]
        position = Signal(POSITION_BITS)
        # The body of a loop may start behind another instruction of its line.
        skip = Signal()
        head, is_loop, consumed = Signal(), Signal(), Signal()
        m.d.comb += [
            head.eq(ready_instructions != 0),
            is_loop.eq(head & ~skip & (opcode == Opcode.LOOP)),
            self.instructions.payload.eq(loop.instruction),
            self.instructions.valid.eq(head & ~skip & ~is_loop),
            consumed.eq(head & (skip | is_loop | self.instructions.ready)),
            loop.head.eq(window[:INSTRUCTION_BITS]),
            loop.position.eq(position),
            loop.enter.eq(is_loop),
            loop.handed.eq(self.instructions.valid & self.instructions.ready),
            loop.clear.eq(ended),
            ended.eq(loop.handed & ((opcode == Opcode.END) | (opcode > max(Opcode)))),
            stop.eq(ended | loop.jump),
        ]
        with m.If(~fetching):
            m.d.comb += buffer.o.ready.eq(1)
        with m.Elif(~head):
            m.d.comb += buffer.o.ready.eq(1)
            with m.If(buffer.o.valid):
                m.d.sync += window.eq(Cat(window, buffer.o.payload)[-len(window):])
                with m.If(filled == fills - 1):
                    m.d.sync += [filled.eq(0), ready_instructions.eq(handed)]
                with m.Else():
                    m.d.sync += filled.eq(filled + 1)
        with m.Elif(consumed):
            m.d.sync += [
                window.eq(window >> INSTRUCTION_BITS),
                ready_instructions.eq(Mux(stop, 0, ready_instructions - 1)),
                position.eq(position + 1),
                skip.eq(0),
            ]

        with m.If(stop):
            m.d.sync += fetching.eq(0)
        with m.If(loop.jump):
            line = loop.body[LINE_INSTRUCTIONS.bit_length() - 1:]
            m.d.sync += [
                pending.eq(1),
                next_line.eq(line * LINE_BYTES),
                position.eq(line * LINE_INSTRUCTIONS),
                skip.eq(loop.body[:LINE_INSTRUCTIONS.bit_length() - 1]),
            ]
        with m.If(self.start & ~fetching):
            m.d.sync += [
                pending.eq(1), skip.eq(0),
                next_line.eq(self.program), position.eq(self.program[-POSITION_BITS:]),
            ]
        with m.If(pending & ~fetching & (reserved == 0) & ~self.command.valid):
            m.d.sync += [pending.eq(0), fetching.eq(1)]
        return m
