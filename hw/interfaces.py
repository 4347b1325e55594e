"""Signatures that components share."""

from __future__ import annotations

from amaranth import signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, Signature

from hw.config import HardwareConfig
from hw.isa import INSTRUCTION_BITS, QUEUE_DEPTH, Opcode, fields_of

ADDRESS_BITS = 40
"""Byte addresses on the AXI4 ports."""
COUNT_BITS = 24
"""Port words of one external read."""
STORE_COUNT_BITS = (2 * QUEUE_DEPTH).bit_length()
"""Counts instructions of the store engine, of which fewer than half as many are under way."""


def task_layout(opcode: Opcode) -> data.StructLayout:
    """Header and fields of an instruction, as `hw.isa` lays them out."""
    return data.StructLayout(fields_of(opcode))


def Task(opcode: Opcode) -> stream.Signature:
    """Instructions for an engine: valid while one runs, ready in the cycle that completes it."""
    return stream.Signature(task_layout(opcode))


def Ahead() -> stream.Signature:
    """Linear instructions ahead of their start; ``stores``: those of the store engine before."""
    return stream.Signature(data.StructLayout({
        "instruction": INSTRUCTION_BITS, "stores": STORE_COUNT_BITS,
    }))


def ReadCommand() -> stream.Signature:
    """External reads: byte address (word aligned) and number of port words (not 0)."""
    return stream.Signature(data.StructLayout({"address": ADDRESS_BITS, "words": COUNT_BITS}))


def MemoryRead(address_bits: int, width: int) -> Signature:
    """Client of an on-chip memory: data of a request is there in the next cycle."""
    return Signature({"en": Out(1), "address": Out(address_bits), "data": In(width)})


def VectorRead(config: HardwareConfig) -> Signature:
    """Client of the vector memory: data follows a transfer of ``request`` by one cycle."""
    return Signature({"request": Out(stream.Signature(16)), "data": In(config.port_bits)})


def VectorWrite(config: HardwareConfig) -> stream.Signature:
    """Words for the vector memory."""
    return stream.Signature(data.StructLayout({"address": 16, "data": config.port_bits}))


def OperandWrite(config: HardwareConfig) -> stream.Signature:
    """Words for the operand store; ``nibbles`` enables 4 bits each (bit 0: low, byte 0)."""
    return stream.Signature(data.StructLayout({
        "address": 16,
        "data": config.word_elements * 8,
        "nibbles": config.word_elements * 2,
    }))


def Accumulate(config: HardwareConfig) -> Signature:
    """Sums for one accumulator word; never refused. The same word rests for 2 cycles or more.

    Only their lowest ``sum_bits`` bits count.

    base: what the word holds before, where ``first`` forgets the sums in it.
    """
    return Signature({
        "valid": Out(1),
        "bank": Out(1),
        "address": Out(12),
        "first": Out(1),
        "base": Out(config.sum_bits),
        "sums": Out(data.ArrayLayout(signed(config.sum_bits), config.lanes)),
    })


def AccumulatorRead(config: HardwareConfig) -> Signature:
    """Client of the accumulator: data of a request is there in the next cycle."""
    return Signature({
        "en": Out(1),
        "bank": Out(1),
        "address": Out(12),
        "data": In(data.ArrayLayout(signed(config.sum_bits), config.lanes)),
    })
