"""The header line in front of an instruction's parameters."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.isa import LINE_BYTES


def header_words(config: HardwareConfig) -> int:
    """Port words of a header line."""
    return LINE_BYTES // config.port_bytes


class HeaderLine(wiring.Component):
    """Keep the first bytes of an instruction's header line and pass on the words behind it.

    The words behind pass in the same cycle.

    Parameters
    ----------
    config : HardwareConfig
    kept_bytes : int
        Bytes that are kept, at most those of a port word.

    Members
    -------
    restart : In(1), the next words begin with a header line
    i : In(stream of port words)
    o : Out(stream of port words)
    line : Out(8 * kept_bytes), from the cycle after the first word
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: HardwareConfig, kept_bytes: int) -> None:
        if not 1 <= kept_bytes <= config.port_bytes:
            raise ValueError(f"kept_bytes must be 1 to {config.port_bytes}, not {kept_bytes}")
        self.config = config
        super().__init__({
            "restart": In(1),
            "i": In(stream.Signature(config.port_bits)),
            "o": Out(stream.Signature(config.port_bits)),
            "line": Out(8 * kept_bytes),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = header_words(self.config)
        taken = Signal(range(words + 1))
        passed = taken == words
        m.d.comb += [
            self.o.valid.eq(self.i.valid & passed),
            self.o.payload.eq(self.i.payload),
            self.i.ready.eq(self.o.ready | ~passed),
        ]
        with m.If(self.restart):
            m.d.sync += taken.eq(0)
        with m.Elif(self.i.valid & ~passed):
            m.d.sync += taken.eq(taken + 1)
            with m.If(taken == 0):
                m.d.sync += self.line.eq(self.i.payload)
        return m
