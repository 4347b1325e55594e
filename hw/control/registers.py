"""AXI4-Lite registers: start, status and counters."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, Signature

from hw.config import HardwareConfig
from hw.interfaces import ADDRESS_BITS
from hw.isa import Engine
from hw.memory.axi import LITE_ADDRESS_BITS, LITE_BITS, AxiLite
from hw.register_map import (
    COUNTER_BITS,
    ERROR_BITS,
    HANG_BUSY,
    HANG_WAITING,
    IDENTITY,
    STATUS_BITS,
    STATUS_BUSY,
    STATUS_WAITING,
    VERSION,
    WATCHDOG_LIMIT,
    counters,
    register_map,
)

WORD_SHIFT = 2
"""Byte addresses to register words."""


class Registers(wiring.Component):
    """The host's side of the accelerator, laid out by `hw.register_map`.

    A read takes one cycle, a write needs its address and data at once; both channels take a
    transfer a cycle. Addresses without a register read 0 and ignore writes. Increments are counted
    a cycle late, those of the last running cycle included.

    Parameters
    ----------
    config : HardwareConfig
    events : bits of the increment of each counter; exactly the names of `counters`

    Members
    -------
    axi : In(AxiLite())
    start : Out(1), pulse when the host starts a program
    program : Out, byte address of its first instruction
    watchdog_limit : Out
    running : Out(1), from the cycle after start until the program ends or hangs
    finished : In(1), the program has ended (low in the cycle after start)
    errors : In({program, read, write}), pulses or levels
    hang, hang_busy, hang_waiting : In, of the watchdog
    busy, waiting : In, state of each engine
    increments : In, a member for each counter
    irq : Out(1), done, error or hang
    """

    def __init__(self, config: HardwareConfig, events: Mapping[str, int]) -> None:
        if list(events) != list(counters(config)):
            raise ValueError("events must be the counters of hw.register_map, in their order")
        self.config = config
        self.event_bits = dict(events)
        engines = len(Engine)
        causes = [name for name in ERROR_BITS if name != "hang"]
        super().__init__({
            "axi": In(AxiLite()),
            "start": Out(1),
            "program": Out(ADDRESS_BITS),
            "watchdog_limit": Out(LITE_BITS, init=WATCHDOG_LIMIT),
            "running": Out(1),
            "finished": In(1),
            "errors": In(data.StructLayout(dict.fromkeys(causes, 1))),
            "hang": In(1),
            "hang_busy": In(engines),
            "hang_waiting": In(engines),
            "busy": In(engines),
            "waiting": In(engines),
            "increments": In(Signature({
                name: Out(bits) for name, bits in self.event_bits.items()
            })),
            "irq": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        done, hung = Signal(), Signal()
        causes = Signal(len(ERROR_BITS))
        with m.If(self.start):
            m.d.sync += [self.running.eq(1), done.eq(0), hung.eq(0), causes.eq(0)]
        with m.Else():
            seen = {name: self.errors[name] for name in self.errors.shape().members}
            seen["hang"] = self.hang & self.running
            m.d.sync += causes.eq(causes | Cat(seen[name] for name in ERROR_BITS))
            with m.If(self.running & (self.finished | self.hang)):
                m.d.sync += [
                    self.running.eq(0), done.eq(self.finished), hung.eq(~self.finished),
                ]
        m.d.sync += self.irq.eq((done | hung | causes.any()) & ~self.start)

        values = self._counters(m)
        flags = {"running": self.running, "done": done, "error": causes.any(), "hang": hung}
        status = Signal(LITE_BITS)
        hang_engines = Signal(LITE_BITS)
        engines = len(Engine)
        m.d.comb += [
            *(status[bit].eq(flags[name]) for name, bit in STATUS_BITS.items()),
            status[STATUS_BUSY:STATUS_BUSY + engines].eq(self.busy),
            status[STATUS_WAITING:STATUS_WAITING + engines].eq(self.waiting),
            hang_engines[HANG_BUSY:HANG_BUSY + engines].eq(self.hang_busy),
            hang_engines[HANG_WAITING:HANG_WAITING + engines].eq(self.hang_waiting),
        ]
        values |= {
            "id": Const(IDENTITY, LITE_BITS),
            "version": Const(VERSION, LITE_BITS),
            "configuration": Const(int(self.config.digest(), 16), 64),
            "control": Const(0, LITE_BITS),
            "status": status,
            "program": self.program,
            "watchdog_limit": self.watchdog_limit,
            "errors": causes,
            "hang_engines": hang_engines,
        }
        self._read(m, values)
        self._write(m)
        return m

    def _counters(self, m: Module) -> dict[str, Value]:
        """Count the increments of running cycles."""
        cycles = Signal(COUNTER_BITS)
        values: dict[str, Value] = {"cycles": cycles}
        with m.If(self.start):
            m.d.sync += cycles.eq(0)
        with m.Elif(self.running):
            m.d.sync += cycles.eq(cycles + 1)
        for name, bits in self.event_bits.items():
            values[name] = count = Signal(COUNTER_BITS, name=name)
            increment = Signal(bits, name=f"{name}_increment")
            m.d.sync += [
                increment.eq(Mux(self.running, getattr(self.increments, name), 0)),
                count.eq(Mux(self.start, 0, count + increment)),
            ]
        return values

    def _read(self, m: Module, values: Mapping[str, Value]) -> None:
        """One transfer a cycle; data in the next."""
        axi = self.axi
        m.d.comb += axi.arready.eq(~axi.rvalid | axi.rready)
        with m.If(axi.arready):
            m.d.sync += axi.rvalid.eq(axi.arvalid)
        with m.If(axi.arready & axi.arvalid):
            with m.Switch(axi.araddr[WORD_SHIFT:]):
                for register in register_map(self.config):
                    value = values[register.name]
                    for half in range(register.bits // LITE_BITS):
                        with m.Case((register.offset >> WORD_SHIFT) + half):
                            part = value[half * LITE_BITS:(half + 1) * LITE_BITS]
                            m.d.sync += axi.rdata.eq(part)
                with m.Default():
                    m.d.sync += axi.rdata.eq(0)

    def _write(self, m: Module) -> None:
        """One transfer a cycle; its response in the next."""
        axi = self.axi
        offsets = {register.name: register.offset for register in register_map(self.config)}
        take = Signal()
        m.d.comb += [
            take.eq(axi.awvalid & axi.wvalid & (~axi.bvalid | axi.bready)),
            axi.awready.eq(take),
            axi.wready.eq(take),
        ]
        with m.If(take):
            m.d.sync += axi.bvalid.eq(1)
        with m.Elif(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        word = Signal(LITE_ADDRESS_BITS - WORD_SHIFT)
        m.d.comb += word.eq(axi.awaddr[WORD_SHIFT:])
        targets = {
            offsets["program"]: self.program[:LITE_BITS],
            offsets["program"] + LITE_BITS // 8: self.program[LITE_BITS:],
            offsets["watchdog_limit"]: self.watchdog_limit,
        }
        for offset, target in targets.items():
            for byte in range(len(target) // 8):
                with m.If(take & axi.wstrb[byte] & (word == offset >> WORD_SHIFT)):
                    m.d.sync += target.word_select(byte, 8).eq(axi.wdata.word_select(byte, 8))
        m.d.comb += self.start.eq(
            take & (word == offsets["control"] >> WORD_SHIFT)
            & axi.wstrb[0] & axi.wdata[0] & ~self.running
        )
