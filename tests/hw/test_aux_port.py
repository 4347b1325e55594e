"""Clients of the aux port whose first words are read while their instruction waits."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hw.isa import Engine, Opcode
from hw.memory.aux_port import AuxPort
from hw.memory.early_read import EARLY_WORDS, EarlyRead
from tests.hw.axi_models import Channel, held, receive, send, simulate, word_at
from tests.hw.engines import ExternalMemory, Traffic, load_config
from tests.hw.formal import prove_held

CONFIG = load_config(port_bits=64)
SIZE = CONFIG.port_bytes
CLIENTS = ("fetch", "gather", "quantize", "norm", "rope")
VALUES = [word_at(n, 64) for n in range(512)]


def memory_of(traffic: Traffic) -> ExternalMemory:
    """A memory of `VALUES`."""
    return ExternalMemory(b"".join(value.to_bytes(SIZE, "little") for value in VALUES), traffic)


@dataclass
class Read:
    """A command of a client, after ``wait`` cycles in which its instruction lacks tokens."""

    opcode: Opcode
    word: int
    count: int
    wait: int
    received: list[int] = field(default_factory=list)

    @property
    def payload(self) -> dict[str, int]:
        """As a client gives it."""
        return {"address": SIZE * self.word, "words": self.count}

    def check(self) -> None:
        """What came is what was asked for."""
        assert self.received == VALUES[self.word:self.word + self.count]


async def run_queue(ctx: Any, dut: AuxPort, queue: Engine, reads: list[Read], traffic: Traffic,
                    again: int = 0) -> None:
    """Instructions of a queue, one behind the other; they may ask a second time (``again``)."""
    for read in reads:
        number = CLIENTS.index(read.opcode.name.lower())
        command, words = dut.commands[number], dut.words[number]
        # An engine shows its command a cycle after its instruction is next.
        ctx.set(dut.opcodes[queue], read.opcode)
        ctx.set(command.payload, {"address": 8, "words": 1})
        for cycle in range(read.wait + 1):
            ctx.set(dut.waiting[queue], cycle < read.wait)
            ctx.set(words.ready, traffic.go())
            *_, valid = await ctx.tick().sample(words.valid)
            assert not valid, "words of an instruction that has not started"
            ctx.set(command.payload, read.payload)
        ctx.set(words.ready, 0)
        await send(ctx, command, [read.payload], traffic)
        await receive(ctx, words, read.count, traffic, read.received)
        if again:
            ctx.set(command.payload, {"address": 0, "words": again})
            second: list[int] = []
            await send(ctx, command, [{"address": 0, "words": again}], traffic)
            await receive(ctx, words, again, traffic, second)
            assert second == VALUES[:again]
        await ctx.tick()


def run(queues: dict[Engine, list[Read]], direct: list[list[Read]], seed: int, chance: float,
        again: int = 0) -> list[tuple[int, int]]:
    """Reads of queues and of direct clients; returns the commands that the memory saw."""
    memory = memory_of(Traffic(seed, chance))
    dut = AuxPort(CONFIG, CLIENTS)

    def queue_of(queue: Engine) -> Any:
        async def process(ctx: Any) -> None:
            await run_queue(ctx, dut, queue, queues[queue], Traffic(seed + queue, chance),
                            again if queue == Engine.QUANTIZE else 0)
        return process

    def client(number: int) -> Any:
        async def process(ctx: Any) -> None:
            for read in direct[number]:
                await send(ctx, dut.commands[number], [read.payload], Traffic(seed, chance))
                await receive(ctx, dut.words[number], read.count, Traffic(-seed, chance),
                              read.received)
        return process

    command = dut.command
    simulate(dut, [*map(queue_of, queues), *map(client, range(len(direct)))], [
        lambda ctx: memory.serve(ctx, command, dut.data),
        lambda ctx: held(ctx, command.valid, command.ready, command.payload),
        *(lambda ctx, port=port: held(ctx, port.valid, port.ready, port.payload)
          for port in dut.words),
    ], 30000)
    for reads in [*queues.values(), *direct]:
        for read in reads:
            read.check()
    return memory.commands


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from([0.3, 0.7, 1.0]), st.sampled_from([0, 0, 5]))
def test_each_instruction_gets_its_words(seed: int, chance: float, again: int) -> None:
    rng = random.Random(seed)

    def reads(opcodes: list[Opcode]) -> list[Read]:
        return [Read(rng.choice(opcodes), rng.randrange(400),
                     rng.choice([1, 2, 9, EARLY_WORDS, EARLY_WORDS + 1, 70]),
                     rng.choice([0, 0, 1, 2, 5, 60])) for _ in range(rng.randrange(1, 7))]

    run({Engine.QUANTIZE: reads([Opcode.QUANTIZE]),
         Engine.NORM: reads([Opcode.NORM, Opcode.ROPE])},
        [reads([Opcode.GATHER]), reads([Opcode.GATHER])], seed, chance, again)


def test_only_the_first_words_are_read_ahead() -> None:
    """What fits the queue before the start, the rest behind it; without a wait all at once."""
    long, short, ready = (Read(Opcode.NORM, 8, EARLY_WORDS + 9, 500), Read(Opcode.ROPE, 100, 7, 50),
                          Read(Opcode.NORM, 60, EARLY_WORDS + 9, 0))
    commands = run({Engine.NORM: [long, short, ready]}, [], 1, 1.0)
    first = SIZE * EARLY_WORDS
    assert commands == [(8 * SIZE, EARLY_WORDS), (8 * SIZE + first, 9), (100 * SIZE, 7),
                        (60 * SIZE, EARLY_WORDS + 9)]


def test_a_waiting_instruction_stops_nobody() -> None:
    """Its early words have room; a start finds them there."""
    dut, memory = AuxPort(CONFIG, CLIENTS), memory_of(Traffic(1, 1.0))
    quantize, fetch = CLIENTS.index("quantize"), CLIENTS.index("fetch")
    command, words = dut.commands[quantize], dut.words[quantize]
    ended: list[int] = []

    async def waiting(ctx: Any) -> None:
        ctx.set(dut.opcodes[Engine.QUANTIZE], Opcode.QUANTIZE)
        ctx.set(dut.waiting[Engine.QUANTIZE], 1)
        ctx.set(command.payload, {"address": 0, "words": 64})
        while not ended:
            await ctx.tick()
        ctx.set(dut.waiting[Engine.QUANTIZE], 0)
        ctx.set(command.valid, 1)
        assert ctx.get(command.ready)
        await ctx.tick()
        ctx.set(command.valid, 0)
        ctx.set(words.ready, 1)
        for value in VALUES[:EARLY_WORDS]:
            assert ctx.get(words.valid)
            assert ctx.get(words.payload) == value
            await ctx.tick()

    async def busy(ctx: Any) -> None:
        for _ in range(10):
            await ctx.tick()
        for _ in range(4):
            received: list[int] = []
            await send(ctx, dut.commands[fetch], [{"address": SIZE * 3, "words": 50}],
                       Traffic(1, 1.0))
            await receive(ctx, dut.words[fetch], 50, Traffic(1, 1.0), received)
            assert received == VALUES[3:53]
        ended.append(1)

    simulate(dut, [waiting, busy], [lambda ctx: memory.serve(ctx, dut.command, dut.data)], 2000)
    assert memory.commands[0] == (0, EARLY_WORDS)


def test_command_and_words_are_held(tmp_path: Any) -> None:
    for name in ("command", "words"):
        dut = EarlyRead(CONFIG)
        port = getattr(dut, name)
        folder = tmp_path / name
        folder.mkdir()
        prove_held(Channel(dut, port.valid, port.ready, port.payload), folder, 3)
