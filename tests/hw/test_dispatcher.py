from __future__ import annotations

import random
from collections import Counter
from typing import Any

from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.control.dispatcher import Dispatcher
from hw.control.fetch import LINES_AHEAD, Fetch
from hw.control.task_queue import TaskQueue
from hw.control.tokens import TokenCounts
from hw.control.watchdog import Watchdog
from hw.interfaces import ADDRESS_BITS, STORE_COUNT_BITS, ReadCommand
from hw.isa import (
    ENGINE_OF,
    FIELDS,
    HEADER,
    INSTRUCTION_BYTES,
    LINE_BYTES,
    OPCODE_MASK,
    QUEUE_DEPTH,
    Engine,
    Opcode,
    decode,
    encode,
)
from tests.hw.axi_models import Channel, held, receive, send, simulate
from tests.hw.engines import ExternalMemory, Traffic, load_config
from tests.hw.formal import prove_held

PADDING = bytes(LINES_AHEAD * LINE_BYTES)


def random_program(rng, length):
    """Instructions whose waits are all posted by earlier ones, then END."""
    tokens: Counter[tuple[int, int]] = Counter()
    program = []
    for _ in range(length):
        opcode = rng.choice(list(ENGINE_OF))
        engine = ENGINE_OF[opcode]
        wait = post = 0
        for other in Engine:
            if tokens[other, engine] and rng.random() < 0.6:
                wait |= 1 << other
                tokens[other, engine] -= 1
        for other in Engine:
            if rng.random() < 0.2:
                post |= 1 << other
                tokens[engine, other] += 1
        operands = {name: rng.getrandbits(width) for name, width in FIELDS[opcode].items()}
        program.append(encode(opcode, operands | {"wait": wait, "post": post}))
    return [int.from_bytes(code, "little") for code in [*program, encode(Opcode.END, {})]]


def image(instructions):
    return b"".join(code.to_bytes(INSTRUCTION_BYTES, "little") for code in instructions)


class Machine(wiring.Component):
    """Fetch and dispatcher."""

    def __init__(self, config):
        self.fetch, self.dispatcher = Fetch(config), Dispatcher(config)
        super().__init__({
            "start": In(1),
            "program": In(ADDRESS_BITS),
            "command": Out(ReadCommand()),
            "words": In(stream.Signature(config.port_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetch, m.submodules.dispatcher = self.fetch, self.dispatcher
        connect(m, self.fetch.instructions, self.dispatcher.instructions)
        connect(m, self.fetch.command, flipped(self.command))
        connect(m, flipped(self.words), self.fetch.words)
        m.d.comb += [
            self.fetch.start.eq(self.start), self.dispatcher.start.eq(self.start),
            self.fetch.program.eq(self.program),
        ]
        return m


@settings(max_examples=6)
@given(st.data())
def test_programs_run_in_token_order(case):
    """Two programs, one after the other: order, tokens, payloads, copies and the end."""
    config = load_config(
        port_bits=case.draw(st.sampled_from([64, 128, 256, 512])),
        lanes=128, group_max=128, weight_ports=1,
    )
    rng = random.Random(case.draw(st.integers(0, 1 << 30)))
    chance = case.draw(st.sampled_from([0.4, 1.0]))
    programs = [random_program(rng, rng.randrange(30)) for _ in range(2)]
    first = image(programs[0])
    second_address = (len(first) + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES
    contents = first.ljust(second_address, b"\xff") + image(programs[1])
    contents += PADDING + bytes(-len(contents) % LINE_BYTES)
    memory = ExternalMemory(contents, Traffic(rng.random(), chance))
    dut = Machine(config)
    dispatcher = dut.dispatcher
    log: list[tuple[str, int, int]] = []
    copies: list[tuple[int, int]] = []
    stores = [0]

    async def host(ctx):
        for program, address in zip(programs, (0, second_address), strict=True):
            log.clear()
            copies.clear()
            ctx.set(dut.program, address)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            finished = 0
            while not finished:
                *_, finished = await ctx.tick().sample(dispatcher.finished)
            assert not ctx.get(dispatcher.error)
            check(ctx, program)

    def check(ctx, program):
        assert len(log) == 2 * (len(program) - 1)
        counts: Counter[tuple[int, int]] = Counter()
        for kind, engine, code in log:
            header = decode(code.to_bytes(INSTRUCTION_BYTES, "little"))[1]
            for other in Engine:
                if kind == "start" and header["wait"] >> other & 1:
                    counts[other, engine] -= 1
                    assert counts[other, engine] >= 0
                if kind == "end" and header["post"] >> other & 1:
                    counts[engine, other] += 1
        for engine in Engine:
            expected = [code for code in program[:-1]
                        if ENGINE_OF[Opcode(code & OPCODE_MASK)] == engine]
            for kind in ("start", "end"):
                assert [c for k, e, c in log if (k, e) == (kind, engine)] == expected
            assert ctx.get(dispatcher.completed[engine]) == len(expected)
            if engine == Engine.LINEAR:
                wanted = []
                for code in program[:-1]:
                    owner = ENGINE_OF[Opcode(code & OPCODE_MASK)]
                    wanted += [(code, stores[0])] * (owner == engine)
                    stores[0] = (stores[0] + (owner == Engine.STORE)) % (1 << STORE_COUNT_BITS)
                assert copies == wanted[:len(copies)]
                assert ctx.get(dispatcher.stored) == stores[0]
                assert len(expected) - len(copies) <= QUEUE_DEPTH

    async def take_copies(ctx):
        """Those left when a program has ended stay there for the next start to remove."""
        pace, port = random.Random(rng.random()), dispatcher.ahead
        while True:
            ready = not ctx.get(dispatcher.finished) and pace.random() < 0.3
            ctx.set(port.ready, ready)
            *_, valid, copy = await ctx.tick().sample(port.valid, port.payload)
            if valid and ready:
                copies.append((copy.instruction, copy.stores))

    def run_engine(engine):
        async def process(ctx):
            task = dispatcher.tasks[engine]
            pace = random.Random(rng.random())
            running = False
            while True:
                ready = running and pace.random() < 0.3
                ctx.set(task.ready, ready)
                *_, valid, code, busy = await ctx.tick().sample(
                    task.valid, task.payload, dispatcher.busy[engine]
                )
                assert busy == valid
                if ready:
                    log.append(("end", engine, code))
                elif valid and not running:
                    log.append(("start", engine, code))
                running = bool(valid) and not ready
        return process

    simulate(dut, [host], [
        lambda ctx: memory.serve(ctx, dut.command, dut.words),
        lambda ctx: held(ctx, dut.command.valid, dut.command.ready, dut.command.payload),
        take_copies,
        *(run_engine(engine) for engine in Engine),
        *(lambda ctx, task=task: held(ctx, task.valid, task.ready, task.payload)
          for task in dispatcher.tasks),
    ], 8000)


def instruction(opcode, **header):
    wait, post = HEADER["opcode"], HEADER["opcode"] + HEADER["wait"]
    return opcode | header.get("wait", 0) << wait | header.get("post", 0) << post


def test_waiting_is_reported_and_instructions_block():
    dut = Dispatcher(load_config())
    store = instruction(Opcode.STORE, wait=1 << Engine.LOAD)
    load = instruction(Opcode.LOAD, post=1 << Engine.STORE)

    async def drive(ctx):
        await send(ctx, dut.instructions, [store, load, 0], Traffic(0, 1.0))
        for _ in range(6):
            await ctx.tick()
        assert ctx.get(dut.waiting) == 1 << Engine.STORE
        assert ctx.get(dut.busy) == 1 << Engine.LOAD
        assert not ctx.get(dut.finished)
        ctx.set(dut.tasks[Engine.LOAD].ready, 1)
        assert ctx.get(dut.completions) == 1 << Engine.LOAD
        for _ in range(3):
            await ctx.tick()
        assert ctx.get(dut.waiting) == 0
        assert ctx.get(dut.busy) == 1 << Engine.STORE
        ctx.set(dut.tasks[Engine.STORE].ready, 1)
        await ctx.tick()
        await ctx.tick()
        assert ctx.get(dut.finished)
        assert not ctx.get(dut.error)

    simulate(dut, [drive], [], 100)


def test_unknown_opcode_ends_the_program():
    config = load_config()
    memory = ExternalMemory(image([max(Opcode) + 1]) + PADDING + bytes(32), Traffic(0, 1.0))
    dut = Machine(config)

    async def drive(ctx):
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        while not ctx.get(dut.dispatcher.finished):
            await ctx.tick()
        assert ctx.get(dut.dispatcher.error)
        ctx.set(dut.start, 1)
        await ctx.tick()
        assert not ctx.get(dut.dispatcher.error)
        assert not ctx.get(dut.dispatcher.finished)

    simulate(dut, [drive], [lambda ctx: memory.serve(ctx, dut.command, dut.words)], 200)


def test_a_lost_token_is_an_error():
    dut = TokenCounts()
    pair = dut.posted[Engine.LOAD][Engine.STORE], dut.taken[Engine.STORE][Engine.LOAD]

    async def drive(ctx):
        ctx.set(pair[0], 1)
        await ctx.tick().repeat(255)
        assert ctx.get(dut.overflow)
        ctx.set(pair[1], 1)
        assert not ctx.get(dut.overflow)
        await ctx.tick()
        ctx.set(pair[0], 0)
        for _ in range(255):
            assert ctx.get(dut.available[Engine.STORE]) == 1 << Engine.LOAD
            await ctx.tick()
        assert ctx.get(dut.available[Engine.STORE]) == 0
        ctx.set(pair[0], 1)
        ctx.set(pair[1], 0)
        await ctx.tick()
        ctx.set(dut.clear, 1)
        await ctx.tick()
        assert ctx.get(dut.available[Engine.STORE]) == 0

    simulate(dut, [drive], [], 1000)


def test_linear_instructions_wait_for_room_of_their_copies():
    dut = Dispatcher(load_config())
    program = [instruction(Opcode.LUT) | n << 32 for n in range(3 * QUEUE_DEPTH)]

    async def drive(ctx):
        await send(ctx, dut.instructions, [*program, 0], Traffic(0, 1.0))

    async def check(ctx):
        ctx.set(dut.tasks[Engine.LINEAR].ready, 1)
        await ctx.tick().repeat(20 * QUEUE_DEPTH)
        assert 0 < ctx.get(dut.completed[Engine.LINEAR]) <= QUEUE_DEPTH + 1
        copies: list[Any] = []
        await receive(ctx, dut.ahead, len(program), Traffic(0, 0.5), copies)
        assert [(copy.instruction, copy.stores) for copy in copies] == [
            (code, 0) for code in program]

    simulate(dut, [drive, check], [], 100 * QUEUE_DEPTH)


def test_watchdog():
    dut = Watchdog(load_config())

    async def drive(ctx):
        ctx.set(dut.limit, 5)
        await ctx.tick().repeat(20)
        assert not ctx.get(dut.hang)
        ctx.set(dut.running, 1)
        for _ in range(4):
            await ctx.tick().repeat(4)
            assert not ctx.get(dut.hang)
            ctx.set(dut.progress, 1)
            await ctx.tick()
            ctx.set(dut.progress, 0)
        ctx.set(dut.busy, 3)
        ctx.set(dut.waiting, 64)
        await ctx.tick().repeat(5)
        assert ctx.get(dut.hang)
        ctx.set(dut.busy, 0)
        await ctx.tick().repeat(9)
        assert (ctx.get(dut.hang_busy), ctx.get(dut.hang_waiting)) == (3, 64)
        ctx.set(dut.clear, 1)
        ctx.set(dut.limit, 0)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        await ctx.tick().repeat(20)
        assert not ctx.get(dut.hang)

    simulate(dut, [drive], [], 200)


def test_tasks_are_held(tmp_path):
    dut = TaskQueue()
    prove_held(Channel(dut, dut.o.valid, dut.o.ready, dut.o.payload), tmp_path, 3)
