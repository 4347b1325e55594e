"""Iterations of the program's LOOP instruction."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.interfaces import ADDRESS_BITS
from hw.isa import (
    ADDRESS_OFFSET,
    FIELDS,
    HEADER,
    INSTRUCTION_BITS,
    INSTRUCTION_BYTES,
    Base,
    Opcode,
    fields_of,
)

POSITION_BITS = ADDRESS_BITS - INSTRUCTION_BYTES.bit_length() + 1
"""Positions count instructions from byte address 0 on."""


class LoopControl(wiring.Component):
    """Counts the instructions of a loop's body and its iterations, and moves their addresses.

    Outputs are combinational; what an input pulse changes shows in the next cycle.

    Members
    -------
    head : In, the next instruction
    position : In, its place in memory, in instructions
    enter : In(1), it is a LOOP and is consumed: the instruction behind it starts the body
    handed : In(1), it is handed out
    clear : In(1), forget the loop (the program has ended)
    instruction : Out, ``head`` with its address in this iteration
    jump : Out(1), ``handed`` and the next instruction is the one at ``body``
    body : Out, position of the body's first instruction
    """

    def __init__(self) -> None:
        super().__init__({
            "head": In(INSTRUCTION_BITS),
            "position": In(POSITION_BITS),
            "enter": In(1),
            "handed": In(1),
            "clear": In(1),
            "instruction": Out(INSTRUCTION_BITS),
            "jump": Out(1),
            "body": Out(POSITION_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fields = FIELDS[Opcode.LOOP]
        layout = data.StructLayout(fields_of(Opcode.LOOP))
        loop = data.View(layout, self.head[:layout.size])
        header = data.View(data.StructLayout(HEADER), self.head[:ADDRESS_OFFSET])
        length, left = Signal(fields["length"]), Signal(fields["length"])
        iterations = Signal(fields["count"])
        strides = [Signal(fields[name], name=name) for name in ("first_stride", "second_stride")]
        moved = [Signal.like(stride, name=f"{stride.name}_sum") for stride in strides]

        address = self.instruction[ADDRESS_OFFSET:ADDRESS_OFFSET + len(moved[0])]
        last = Signal()
        m.d.comb += [
            self.instruction.eq(self.head),
            last.eq(self.handed & (left == 1)),
            self.jump.eq(last & (iterations > 1) & ~self.clear),
        ]
        for base, total in zip((Base.FIRST, Base.SECOND), moved, strict=True):
            with m.If(header.base == base):
                m.d.comb += address.eq(self.head[ADDRESS_OFFSET:][:len(total)] + total)

        with m.If(self.enter):
            m.d.sync += [
                self.body.eq(self.position + 1),
                length.eq(loop.length), left.eq(loop.length), iterations.eq(loop.count),
                strides[0].eq(loop.first_stride), strides[1].eq(loop.second_stride),
            ]
        with m.Elif(self.jump):
            m.d.sync += [left.eq(length), iterations.eq(iterations - 1)]
            m.d.sync += [total.eq(total + one) for total, one in zip(moved, strides, strict=True)]
        with m.Elif(last | self.clear):
            m.d.sync += [left.eq(0), *(total.eq(0) for total in moved)]
        with m.Elif(self.handed & (left != 0)):
            m.d.sync += left.eq(left - 1)
        return m
