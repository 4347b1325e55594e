from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.control.fetch import LINES_AHEAD, Fetch
from hw.isa import (
    ADDRESS_OFFSET,
    HEADER,
    INSTRUCTION_BYTES,
    LINE_BYTES,
    Base,
    Opcode,
    encode,
)
from tests.hw.axi_models import Channel, held, receive, simulate
from tests.hw.engines import ExternalMemory, Traffic, load_config
from tests.hw.formal import prove_held

BASE_OFFSET = ADDRESS_OFFSET - HEADER["base"]
ADDRESS_MASK = (1 << 32) - 1


def image(instructions):
    return b"".join(code.to_bytes(INSTRUCTION_BYTES, "little") for code in instructions)


def random_instruction(rng):
    return int.from_bytes(encode(Opcode.STORE, {
        "address": rng.getrandbits(32), "words": rng.getrandbits(16), "source": rng.getrandbits(16),
        "base": rng.choice(list(Base)),
    }), "little")


def moved(code, strides, iteration):
    """An instruction of a loop's body in one iteration."""
    base = code >> BASE_OFFSET & 3
    address = code >> ADDRESS_OFFSET & ADDRESS_MASK
    total = (address + iteration * (0, *strides)[base]) & ADDRESS_MASK
    return code ^ (address ^ total) << ADDRESS_OFFSET


def random_program(rng):
    """Instructions with loops among them, then END; and what fetch hands out."""
    program, expected = [], []
    for _ in range(rng.randrange(5)):
        plain = [random_instruction(rng) for _ in range(rng.randrange(4))]
        body = [random_instruction(rng) for _ in range(rng.choice([1, 2, rng.randrange(1, 12)]))]
        count, strides = rng.randrange(1, 5), (rng.getrandbits(32), rng.getrandbits(8))
        loop = encode(Opcode.LOOP, {
            "count": count, "length": len(body),
            "first_stride": strides[0], "second_stride": strides[1],
        })
        program += [*plain, int.from_bytes(loop, "little"), *body]
        expected += plain
        expected += [moved(code, strides, n) for n in range(count) for code in body]
    return [*program, Opcode.END], [*expected, Opcode.END]


@settings(max_examples=20)
@given(st.data())
def test_loops_are_expanded(case):
    """Two programs, one after the other, against their expansion in Python."""
    config = load_config(
        port_bits=case.draw(st.sampled_from([64, 128, 256, 512])),
        lanes=128, group_max=128, weight_ports=1,
    )
    rng = random.Random(case.draw(st.integers(0, 1 << 30)))
    chance = case.draw(st.sampled_from([0.4, 1.0]))
    (first, handed_first), (second, handed_second) = (random_program(rng) for _ in range(2))
    contents = image(first)
    contents += b"\xff" * (-len(contents) % LINE_BYTES)
    second_address = len(contents)
    contents += image(second) + bytes((LINES_AHEAD + 1) * LINE_BYTES)
    memory = ExternalMemory(contents, Traffic(rng.random(), chance))
    dut = Fetch(config)

    async def host(ctx):
        for address, expected in ((0, handed_first), (second_address, handed_second)):
            ctx.set(dut.program, address)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            received: list[int] = []
            await receive(ctx, dut.instructions, len(expected), Traffic(rng.random(), chance),
                          received)
            assert received == expected

    instructions, command = dut.instructions, dut.command
    simulate(dut, [host], [
        lambda ctx: memory.serve(ctx, command, dut.words),
        lambda ctx: held(ctx, command.valid, command.ready, command.payload),
        lambda ctx: held(ctx, instructions.valid, instructions.ready, instructions.payload),
    ], 20000)


def test_fetch_stays_within_its_buffer():
    """Nobody takes instructions: only as many lines are read as there is room for."""
    memory = ExternalMemory(image([Opcode.LOAD] * 64), Traffic(0, 1.0))
    dut = Fetch(load_config())

    async def drive(ctx):
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        await ctx.tick().repeat(200)
        assert len(memory.commands) in (LINES_AHEAD, LINES_AHEAD + 1)
        assert ctx.get(dut.words.ready)
        received: list[int] = []
        await receive(ctx, dut.instructions, 40, Traffic(0, 1.0), received)
        assert received == [Opcode.LOAD] * 40

    simulate(dut, [drive], [lambda ctx: memory.serve(ctx, dut.command, dut.words)], 2000)


@pytest.mark.parametrize("port", ["command", "instructions"])
def test_streams_are_held(tmp_path, port):
    dut = Fetch(load_config(port_bits=64))
    offered = getattr(dut, port)
    prove_held(Channel(dut, offered.valid, offered.ready, offered.payload), tmp_path, 3)
