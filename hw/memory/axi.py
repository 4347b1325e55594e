"""AXI4 and AXI4-Lite port signatures, with the signal names of the AMBA specification.

All are written from the master's side: a master has ``Out(Axi4Read(config))``, a slave
``In(AxiLite())``. Bursts are incrementing, of whole words, and use one identifier, so that
responses come in order.
"""

from __future__ import annotations

from amaranth.lib.wiring import In, Out, Signature

from hw.config import HardwareConfig
from hw.interfaces import ADDRESS_BITS

BURST_INCR = 1
"""AxBURST: each beat has the next address."""
CACHE_NORMAL = 0b0011
"""AxCACHE: normal memory, non-cacheable, bufferable."""
PAGE_BYTES = 4096
"""A burst does not cross a multiple of this address."""
BEATS_MAX = 64
"""Longest burst that the masters issue."""
LITE_ADDRESS_BITS = 12
"""Byte addresses of the register file."""
LITE_BITS = 32


def Axi4Read(config: HardwareConfig) -> Signature:
    """Read address and read data channel."""
    return Signature({
        "arid": Out(1),
        "araddr": Out(ADDRESS_BITS),
        "arlen": Out(8),
        "arsize": Out(3),
        "arburst": Out(2),
        "arcache": Out(4),
        "arprot": Out(3),
        "arvalid": Out(1),
        "arready": In(1),
        "rid": In(1),
        "rdata": In(config.port_bits),
        "rresp": In(2),
        "rlast": In(1),
        "rvalid": In(1),
        "rready": Out(1),
    })


def Axi4Write(config: HardwareConfig) -> Signature:
    """Write address, write data and write response channel."""
    return Signature({
        "awid": Out(1),
        "awaddr": Out(ADDRESS_BITS),
        "awlen": Out(8),
        "awsize": Out(3),
        "awburst": Out(2),
        "awcache": Out(4),
        "awprot": Out(3),
        "awvalid": Out(1),
        "awready": In(1),
        "wdata": Out(config.port_bits),
        "wstrb": Out(config.port_bytes),
        "wlast": Out(1),
        "wvalid": Out(1),
        "wready": In(1),
        "bid": In(1),
        "bresp": In(2),
        "bvalid": In(1),
        "bready": Out(1),
    })


def AxiLite() -> Signature:
    """All five channels of the 32-bit control port."""
    return Signature({
        "awaddr": Out(LITE_ADDRESS_BITS),
        "awprot": Out(3),
        "awvalid": Out(1),
        "awready": In(1),
        "wdata": Out(LITE_BITS),
        "wstrb": Out(LITE_BITS // 8),
        "wvalid": Out(1),
        "wready": In(1),
        "bresp": In(2),
        "bvalid": In(1),
        "bready": Out(1),
        "araddr": Out(LITE_ADDRESS_BITS),
        "arprot": Out(3),
        "arvalid": Out(1),
        "arready": In(1),
        "rdata": In(LITE_BITS),
        "rresp": In(2),
        "rvalid": In(1),
        "rready": Out(1),
    })


def size_code(config: HardwareConfig) -> int:
    """AxSIZE of whole words: logarithm of their bytes."""
    return (config.port_bytes - 1).bit_length()
