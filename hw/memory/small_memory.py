"""Small on-chip memory with one writer and one reader."""

from __future__ import annotations

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, Signature

from hw.interfaces import MemoryRead


def MemoryWrite(address_bits: int, width: int) -> Signature:
    """Writer of an on-chip memory that is never refused."""
    return Signature({"valid": Out(1), "address": Out(address_bits), "data": Out(width)})


class SmallMemory(wiring.Component):
    """``2**address_bits`` entries; data of a read is there in the next cycle.

    A read returns every write of an earlier cycle.

    Parameters
    ----------
    address_bits, width : bits of an address and of an entry

    Members
    -------
    write : In(MemoryWrite(address_bits, width))
    read : In(MemoryRead(address_bits, width))
    """

    def __init__(self, address_bits: int, width: int) -> None:
        self.address_bits = address_bits
        self.width = width
        super().__init__({
            "write": In(MemoryWrite(address_bits, width)),
            "read": In(MemoryRead(address_bits, width)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(
            shape=self.width, depth=1 << self.address_bits, init=[]
        )
        write_port, read_port = memory.write_port(), memory.read_port()
        m.d.comb += [
            write_port.en.eq(self.write.valid),
            write_port.addr.eq(self.write.address),
            write_port.data.eq(self.write.data),
            read_port.en.eq(self.read.en),
            read_port.addr.eq(self.read.address),
            self.read.data.eq(read_port.data),
        ]
        return m
