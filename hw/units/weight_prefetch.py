"""Reads weights, tables and indices before the linear engine asks for them."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import HardwareConfig
from hw.interfaces import ADDRESS_BITS, STORE_COUNT_BITS, Ahead, ReadCommand
from hw.isa import LINE_BYTES, QUEUE_DEPTH
from hw.units.weight_region import WeightRegion, region_layout

UNFINISHED_BITS = (2 * QUEUE_DEPTH).bit_length()
"""Counts instructions that were read for and are not complete: a queue of them at most."""


class WeightPrefetch(wiring.Component):
    """One read command per port for each linear instruction, in order, as early as ports take it.

    Ports that two lanes share have none for a SIMD.

    The words wait in the read masters' queues until their instruction takes them. A ``volatile``
    instruction is read for when it has started or all instructions of the store engine before it
    are complete: nothing else writes memory, and those behind it that write what it reads wait for
    it. A GATHER or a sparse LUT reads for itself: its
    commands pass without delay, and those of the instructions behind it wait until it is complete.
    A command is there 3 cycles (LUT) or 18 (SIMD) after its instruction, if those before it were
    taken.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    ahead : In(Ahead()), every LUT and SIMD instruction in program order
    stored : In(STORE_COUNT_BITS), instructions that the store engine has completed; fewer than half
        of the numbers are under way
    running : In(1), a linear instruction runs; low for a cycle or more between two of them
    completed : In(1), it completes in this cycle
    gather : In(ReadCommand()), an array over ports: the commands of a GATHER or a sparse LUT
    commands : Out(ReadCommand()), an array over ports
    arrived, taken : In, a bit for each port: a word came from memory, an engine took one
    events : Out({prefetched_words}), words taken that had come before their instruction started
    """

    ahead: stream.Interface
    gather: list[stream.Interface]
    commands: list[stream.Interface]
    events: data.View

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        ports = config.weight_ports
        super().__init__({
            "ahead": In(Ahead()),
            "stored": In(STORE_COUNT_BITS),
            "running": In(1),
            "completed": In(1),
            "gather": In(ReadCommand()).array(ports),
            "commands": Out(ReadCommand()).array(ports),
            "arrived": In(ports),
            "taken": In(ports),
            "events": Out(data.StructLayout({"prefetched_words": 8})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.region = region = WeightRegion(self.config)
        connect(m, flipped(self.ahead), region.i)

        lane_ports = (1 << self.config.lane_ports) - 1
        present, busy, leaves = Signal(region_layout(self.config)), Signal(), Signal()
        pending, still_pending = Signal(self.config.weight_ports), Signal(self.config.weight_ports)
        unfinished, oldest, allowed = Signal(UNFINISHED_BITS), Signal(), Signal()
        lacking, written = Signal(STORE_COUNT_BITS), Signal()
        m.d.comb += [
            # Stores before the instruction that are not complete, or minus those behind that are.
            lacking.eq(present.stores - self.stored),
            # The instruction that runs is the oldest one that is not complete.
            oldest.eq(unfinished == 0),
            allowed.eq(busy & (~present.volatile | written | (lacking == 0) | lacking[-1]
                               | (self.running & oldest))),
            leaves.eq(busy & Mux(
                present.gather, self.completed & oldest, ~still_pending.any()
            )),
            region.o.ready.eq(~busy | leaves),
        ]
        m.d.sync += [
            unfinished.eq(unfinished + leaves - self.completed),
            pending.eq(still_pending),
            written.eq(allowed & ~leaves),
        ]
        with m.If(region.o.ready):
            m.d.sync += [
                busy.eq(region.o.valid),
                present.eq(region.o.payload),
                pending.eq(Mux(region.o.p.gather, 0, lane_ports)),
            ]
            if self.config.shared_ports:
                with m.If(region.o.p.shared_words != 0):
                    m.d.sync += pending.eq(~0)

        for port, command in enumerate(self.commands):
            gather, line = self.gather[port], Signal(ADDRESS_BITS, name=f"line_{port}")
            with m.If(region.o.ready):
                m.d.sync += line.eq(region.o.p.address + port * region.o.p.port_stride)
            m.d.comb += [
                command.valid.eq(allowed & pending[port]),
                command.p.address.eq(line * LINE_BYTES),
                command.p.words.eq(
                    present.words if port < self.config.lane_ports else present.shared_words),
                still_pending[port].eq(pending[port] & ~(command.valid & command.ready)),
            ]
            with m.If(busy & present.gather):
                m.d.comb += [
                    command.valid.eq(gather.valid),
                    command.payload.eq(gather.payload),
                    gather.ready.eq(command.ready),
                ]
        self._count(m)
        return m

    def _count(self, m: Module) -> None:
        """Words in the queues when an instruction starts, as it takes them."""
        ran, start = Signal(), Signal()
        m.d.sync += ran.eq(self.running)
        m.d.comb += start.eq(self.running & ~ran)
        early_words = []
        for port in range(self.config.weight_ports):
            level = Signal(range(self.config.read_fifo_words + 1), name=f"level_{port}")
            early = Signal.like(level, name=f"early_{port}")
            m.d.sync += level.eq(level + self.arrived[port] - self.taken[port])
            with m.If(start):
                m.d.sync += early.eq(level)
            with m.Elif(self.taken[port] & early.any()):
                m.d.sync += early.eq(early - 1)
            early_words.append(self.taken[port] & early.any())
        m.d.comb += self.events.prefetched_words.eq(sum(Cat(early_words)))
