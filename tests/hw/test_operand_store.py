from __future__ import annotations

import random
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from hw.memory.operand_store import OperandStore
from tests.hw.axi_models import simulate
from tests.hw.engines import load_config

WORDS = 4


@settings(max_examples=15)
@given(st.integers(0, 1 << 30), st.sampled_from([0.3, 1.0]))
def test_nibbles_are_written(seed, chance):
    """Three writers fill single nibbles; reads return what earlier cycles wrote."""
    config = load_config(port_bits=64)
    rng = random.Random(seed)
    dut = OperandStore(config)
    bits = config.word_elements * 8

    async def drive(ctx):
        memory = [0] * WORDS
        offers: list[tuple[int, int, int] | None] = [None] * len(dut.writes)
        expected = None
        for _ in range(120):
            for n, port in enumerate(dut.writes):
                if offers[n] is None and rng.random() < chance:
                    offers[n] = (rng.randrange(WORDS), rng.getrandbits(bits),
                                 rng.choice([rng.getrandbits(bits // 4), (1 << bits // 4) - 1]))
                address, value, nibbles = offers[n] or (0, 0, 0)
                ctx.set(port.payload, {"address": address, "data": value, "nibbles": nibbles})
                ctx.set(port.valid, offers[n] is not None)
            read, reading = rng.randrange(WORDS), rng.random() < chance
            ctx.set(dut.read.en, reading)
            ctx.set(dut.read.address, read)
            if expected is not None:
                assert ctx.get(dut.read.data) == expected
            assert ctx.get(dut.events.operand_reads) == reading
            taken = [n for n, port in enumerate(dut.writes) if offers[n] and ctx.get(port.ready)]
            assert len(taken) == any(offers) == ctx.get(dut.events.operand_writes)
            expected = None
            if reading and all(offers[n][0] != read for n in taken):
                expected = memory[read]
            for n in taken:
                address, value, nibbles = offers[n]
                mask = sum(15 << 4 * k for k in range(bits // 4) if nibbles >> k & 1)
                memory[address] = memory[address] & ~mask | value & mask
                offers[n] = None
            await ctx.tick()

    simulate(dut, [drive], [], 200)


@settings(max_examples=5)
@given(st.integers(0, 1 << 30))
def test_factors_and_scales(seed):
    config = load_config()
    rng = random.Random(seed)
    dut = OperandStore(config)

    async def put(ctx, port, entries):
        for address, value in entries:
            ctx.set(port.payload, {"address": address, "data": value})
            ctx.set(port.valid, 1)
            await ctx.tick().until(port.ready)
            ctx.set(port.valid, 0)

    async def check(ctx, read, entries):
        ctx.set(read.en, 1)
        for address, value in entries.items():
            ctx.set(read.address, address)
            await ctx.tick()
            assert ctx.get(read.data) == value

    def entries_of(memory):
        width, addresses = len(memory.data), 1 << len(memory.address)
        entries = {rng.randrange(addresses): rng.getrandbits(width) for _ in range(20)}
        return entries | {addresses - 1: (1 << width) - 1}

    factors, scales = entries_of(dut.alpha_read), entries_of(dut.scale_read)
    shares = [list(scales.items())[n::2] for n in range(2)]
    written = []

    async def write_scales(ctx, number):
        await put(ctx, dut.scale_writes[number], shares[number])
        written.append(number)

    async def drive(ctx):
        write = dut.alpha_write
        for address, value in factors.items():
            ctx.set(write.valid, 1)
            ctx.set(write.address, address)
            ctx.set(write.data, value)
            await ctx.tick()
        ctx.set(write.valid, 0)
        await check(ctx, dut.alpha_read, factors)
        assert sorted(written) == [0, 1]
        await check(ctx, dut.scale_read, scales)

    simulate(dut, [drive], [partial(write_scales, number=n) for n in range(2)], 200)
