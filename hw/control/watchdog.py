"""Detects a machine that makes no progress."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.isa import Engine

LIMIT_BITS = 32


class Watchdog(wiring.Component):
    """Counts the running cycles since the last progress.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    running : In(1), the machine runs a program; no cycle is counted while it does not
    progress : In(1), an instruction completed or a word moved on an external port
    limit : In, cycles without progress that are too many; 0 is no limit
    clear : In(1), forget a hang
    busy, waiting : In, state of each engine
    hang : Out(1), the limit was reached; until clear
    hang_busy, hang_waiting : Out, state of each engine when it was reached
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        engines = len(Engine)
        super().__init__({
            "running": In(1),
            "progress": In(1),
            "limit": In(LIMIT_BITS),
            "clear": In(1),
            "busy": In(engines),
            "waiting": In(engines),
            "hang": Out(1),
            "hang_busy": Out(engines),
            "hang_waiting": Out(engines),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        idle_cycles = Signal(LIMIT_BITS)
        with m.If(self.clear):
            m.d.sync += [idle_cycles.eq(0), self.hang.eq(0)]
        with m.Elif(self.progress | ~self.running):
            m.d.sync += idle_cycles.eq(0)
        with m.Elif(~self.hang & (self.limit != 0)):
            m.d.sync += idle_cycles.eq(idle_cycles + 1)
            with m.If(idle_cycles >= self.limit - 1):
                m.d.sync += [
                    self.hang.eq(1),
                    self.hang_busy.eq(self.busy),
                    self.hang_waiting.eq(self.waiting),
                ]
        return m
