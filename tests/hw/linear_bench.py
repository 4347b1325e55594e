"""The linear engines and their prefetcher, connected as in the accelerator, between memories."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from amaranth import Module, Mux
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.sim import Simulator

from compiler.image.access import port_region
from hw.config import HardwareConfig
from hw.fixed import Ints, wrapped
from hw.interfaces import (
    STORE_COUNT_BITS,
    Accumulate,
    Ahead,
    MemoryRead,
    ReadCommand,
    task_layout,
)
from hw.isa import INSTRUCTION_BITS, LINE_BYTES, Opcode, encode
from hw.memory.fifo import Fifo
from hw.units.lut_engine import LutEngine
from hw.units.packed_dot import ALPHA_BITS
from hw.units.position_lists import ListWrite, PositionLists
from hw.units.simd_engine import SimdEngine
from hw.units.weight_prefetch import WeightPrefetch
from tests.hw.engine_models import serve_reads
from tests.hw.engines import ExternalMemory, Traffic, count, watch_held

REST = 2
"""Fewest cycles from a use of an accumulator word to the next."""
QUEUE = 4
"""Instructions that the dispatcher lets into the linear engine's queue."""


class Linear(wiring.Component):
    """Ports as those of the engines; ``task`` and ``ahead`` carry whole instructions.

    Only the engines of ``opcodes`` are there, and words wait in queues as in read masters; words
    that come with ``listed`` are put on the position lists, where the hardware has them.
    """

    def __init__(self, config: HardwareConfig, opcodes: Iterable[Opcode]) -> None:
        self.config = config
        ports = config.weight_ports
        kinds = {Opcode.LUT: LutEngine, Opcode.SIMD: SimdEngine}
        self.engines: dict[Opcode, Any] = {opcode: kinds[opcode](config) for opcode in opcodes}
        self.prefetch = WeightPrefetch(config)
        self.parts = [*self.engines.values(), self.prefetch]
        self.lists = None
        if config.skips_positions and Opcode.LUT in self.engines:
            self.lists = PositionLists(config)
        super().__init__({
            "listed": In(ListWrite(config)),
            "task": In(stream.Signature(INSTRUCTION_BITS)),
            "ahead": In(Ahead()),
            "stored": In(STORE_COUNT_BITS),
            "commands": Out(ReadCommand()).array(ports),
            "words": In(stream.Signature(config.port_bits)).array(ports),
            "operand": Out(MemoryRead(16, config.word_elements * 8)),
            "alpha": Out(MemoryRead(12, ALPHA_BITS * config.chunks_per_word)),
            "sums": Out(Accumulate(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.prefetch = prefetch = self.prefetch
        lut, simd = self.engines.get(Opcode.LUT), self.engines.get(Opcode.SIMD)
        connect(m, flipped(self.ahead), prefetch.ahead)
        m.d.comb += [
            prefetch.running.eq(self.task.valid),
            prefetch.stored.eq(self.stored),
            prefetch.completed.eq(self.task.valid & self.task.ready),
        ]
        for opcode, engine in self.engines.items():
            m.submodules[opcode.name.lower()] = engine
            mine = self.task.payload[:4] == opcode
            m.d.comb += [
                engine.task.payload.eq(self.task.payload[:task_layout(opcode).size]),
                engine.task.valid.eq(self.task.valid & mine),
                engine.operand.data.eq(self.operand.data),
            ]
            with m.If(mine):
                m.d.comb += [
                    self.task.ready.eq(engine.task.ready),
                    self.operand.en.eq(engine.operand.en),
                    self.operand.address.eq(engine.operand.address),
                ]
        for port, source in enumerate(self.words):
            m.submodules[f"queue_{port}"] = queue = Fifo(
                self.config.port_bits, self.config.read_fifo_words)
            connect(m, flipped(source), queue.i)
            words = queue.o
            if lut is not None:
                connect(m, lut.commands[port], prefetch.gather[port])
            connect(m, prefetch.commands[port], flipped(self.commands[port]))
            ready: Any = 0
            for engine in self.engines.values():
                m.d.comb += [
                    engine.words[port].payload.eq(words.payload),
                    engine.words[port].valid.eq(words.valid),
                ]
                ready = ready | engine.words[port].ready
            m.d.comb += [
                words.ready.eq(ready),
                prefetch.arrived[port].eq(source.valid & source.ready),
                prefetch.taken[port].eq(words.valid & words.ready),
            ]
        if simd is not None:
            connect(m, simd.alpha, flipped(self.alpha))
        if self.lists is not None and lut is not None:
            m.submodules.lists = self.lists
            connect(m, lut.lists, self.lists.read)
            connect(m, flipped(self.listed), self.lists.write)
        engines = list(self.engines.values())
        first, last = engines[0], engines[-1]
        for name in ("valid", "bank", "address", "first", "base", "sums"):
            m.d.comb += getattr(self.sums, name).eq(
                Mux(last.task.valid, getattr(last.sums, name), getattr(first.sums, name))
            )
        return m


async def accumulate(ctx: Any, sums: Any, banks: Ints) -> None:
    """Keep accumulator banks; a word that is used again too early is an error."""
    last_use: dict[tuple[int, int], int] = {}
    cycle = 0
    while True:
        *_, valid, bank, address, first, base, values = await ctx.tick().sample(
            sums.valid, sums.bank, sums.address, sums.first, sums.base, sums.sums
        )
        cycle += 1
        if valid:
            assert cycle - last_use.get((bank, address), -REST) >= REST
            last_use[bank, address] = cycle
            row = np.array(list(values), np.int64)
            total = row + (base if first else banks[bank][address])
            banks[bank][address] = wrapped(total, len(sums.base))


def fill(
    memories: Sequence[ExternalMemory], opcode: Opcode, fields: Mapping[str, int],
    config: HardwareConfig, contents: Sequence[bytes] | None,
) -> None:
    """Put what an instruction reads into memory, or garbage."""
    size = port_region(opcode, fields, config)
    for port, memory in enumerate(memories):
        start = (fields["address"] + port * fields["port_stride"]) * LINE_BYTES
        part = (bytes(0xA5 ^ byte for byte in memory.image[start:start + size]) if contents is None
                else contents[port][start:start + size])
        memory.image = memory.image[:start] + part + memory.image[start + size:]


def run_linear(
    config: HardwareConfig, tasks: Sequence[tuple[Opcode, Mapping[str, int]]],
    images: Sequence[bytes], operands: Mapping[int, int], alphas: Mapping[int, int], banks: Ints,
    traffic: Traffic, early: bool = True, late: bool = False, limit: int = 8000,
) -> tuple[dict[str, int], list[int]]:
    """Run instructions and keep their sums in ``banks``; returns event totals and cycles of each.

    images: memory as each port sees it. early: instructions go ahead as the dispatcher lets them,
    else each when it starts. What a volatile one reads is stored some time before it starts; with
    ``late`` another store, before it in the program too, completes only behind its start.
    """
    dut = Linear(config, sorted({opcode for opcode, _ in tasks}))
    words = [int.from_bytes(encode(opcode, fields), "little") for opcode, fields in tasks]
    cycles: list[int] = []
    started = stored = 0
    volatile = [bool(fields.get("volatile")) for _, fields in tasks]
    before = [(1 + late) * count for count in itertools.accumulate(volatile)]
    external = [ExternalMemory(image, traffic) for image in images]
    for (opcode, fields), one in zip(tasks, volatile, strict=True):
        if one:
            fill(external, opcode, fields, config, None)
    totals: list[dict[str, int]] = [{} for _ in dut.parts]

    async def dispatch(ctx: Any) -> None:
        nonlocal started
        for stores, word, (opcode, fields) in zip(before, words, tasks, strict=True):
            while not traffic.go() or stored < stores - late:
                await ctx.tick()
            if opcode == Opcode.LUT and fields.get("sparse"):
                await fill_lists(ctx, fields)
            started += 1
            ctx.set(dut.task.payload, word)
            ctx.set(dut.task.valid, 1)
            for used in range(1, limit):
                *_, taken = await ctx.tick().sample(dut.task.ready)
                if taken:
                    cycles.append(used)
                    break
            else:
                raise TimeoutError(f"task {len(cycles)} runs for more than {limit} cycles")
            ctx.set(dut.task.valid, 0)
            await ctx.tick()
        for _ in range(4):
            await ctx.tick()

    async def fill_lists(ctx: Any, fields: Mapping[str, int]) -> None:
        for round_ in range(fields["rounds"]):
            while not traffic.go():
                await ctx.tick()
            ctx.set(dut.listed.round, round_)
            ctx.set(dut.listed.word, operands[fields["operands"] + round_])
            ctx.set(dut.listed.valid, 1)
            await ctx.tick()
            ctx.set(dut.listed.valid, 0)
        await ctx.tick().repeat(2)

    async def send_ahead(ctx: Any) -> None:
        for number, word in enumerate(words):
            while (number >= (len(cycles) + QUEUE if early else started)
                   or before[number] > stored + QUEUE):
                await ctx.tick()
            ctx.set(dut.ahead.p.instruction, word)
            ctx.set(dut.ahead.p.stores, before[number] % (1 << STORE_COUNT_BITS))
            ctx.set(dut.ahead.valid, 1)
            await ctx.tick().until(dut.ahead.ready)
            ctx.set(dut.ahead.valid, 0)

    async def store(ctx: Any) -> None:
        nonlocal stored
        for number, (opcode, fields) in enumerate(tasks):
            if not volatile[number]:
                continue
            await ctx.tick().repeat(traffic.random.randrange(100))
            fill(external, opcode, fields, config, images)
            for _ in range(1 + late):
                stored += 1
                ctx.set(dut.stored, stored % (1 << STORE_COUNT_BITS))
                while late and started <= number:
                    await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(dispatch)
    for process in [
        send_ahead,
        store,
        *(partial(external[q].serve, command=dut.commands[q], words=dut.words[q])
          for q in range(config.weight_ports)),
        *(partial(watch_held, port=command) for command in dut.commands),
        partial(serve_reads, en=dut.operand.en, key=dut.operand.address, data=dut.operand.data,
                content=operands.__getitem__, traffic=traffic),
        partial(serve_reads, en=dut.alpha.en, key=dut.alpha.address, data=dut.alpha.data,
                content=alphas.__getitem__, traffic=traffic),
        partial(accumulate, sums=dut.sums, banks=banks),
        *(partial(count, events=part.events, totals=total)
          for part, total in zip(dut.parts, totals, strict=True)),
    ]:
        sim.add_testbench(process, background=True)
    sim.run()
    merged: dict[str, int] = {}
    for total in totals:
        merged |= total
    return merged, cycles
