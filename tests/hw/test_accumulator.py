# amaranth: UnusedElaboratable=no

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.units.accumulator import Accumulator
from tests.hw.engine_models import SMALL

CONFIG = dataclasses.replace(SMALL, accumulator_words=8)
WORDS, LANES = CONFIG.accumulator_words, CONFIG.lanes


def simulate(steps: list[tuple[int, int, bool]], bank: int, seed: int) -> None:
    """Run (idle cycles, word, first) on one bank while reading the other, then read this one."""
    rng = np.random.default_rng(seed)
    dut = Accumulator(CONFIG)
    golden = np.zeros((2, WORDS, LANES), np.int64)
    values = rng.integers(-(1 << 31), 1 << 31, (len(steps) + WORDS, LANES))

    async def add(ctx: Any, bank: int, word: int, first: bool, sums: Any) -> None:
        ctx.set(dut.write.valid, 1)
        ctx.set(dut.write.bank, bank)
        ctx.set(dut.write.address, word)
        ctx.set(dut.write.first, first)
        ctx.set(dut.write.sums, [int(value) for value in sums])
        _, _, steps = await ctx.tick().sample(dut.events.accumulator_steps)
        del steps
        ctx.set(dut.write.valid, 0)
        total = sums + (0 if first else golden[bank, word])
        golden[bank, word] = (total + (1 << 31)) % (1 << 32) - (1 << 31)

    async def read(ctx: Any, bank: int, word: int) -> None:
        ctx.set(dut.read.en, 1)
        ctx.set(dut.read.bank, bank)
        ctx.set(dut.read.address, word)

    def check(ctx: Any, bank: int, word: int) -> None:
        assert list(ctx.get(dut.read.data)) == golden[bank, word].tolist()

    async def drive(ctx: Any) -> None:
        for word in range(WORDS):
            await add(ctx, 1 - bank, word, True, values[len(steps) + word])
        await ctx.tick()
        rests = {}
        for step, (idle, word, first) in enumerate(steps):
            for _ in range(max(idle, rests.get(word, 0))):
                await ctx.tick()
            other = int(rng.integers(WORDS))
            await read(ctx, 1 - bank, other)
            await add(ctx, bank, word, first, values[step])
            check(ctx, 1 - bank, other)
            rests = {word: 1}
        await ctx.tick()
        for word in {word for _, word, _ in steps}:
            await read(ctx, bank, word)
            await ctx.tick()
            check(ctx, bank, word)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()


words = st.tuples(st.integers(0, 2), st.integers(0, WORDS - 1), st.booleans())


@settings(max_examples=15)
@given(steps=st.lists(words, min_size=1, max_size=24), bank=st.integers(0, 1), seed=st.integers(0))
def test_adds_while_the_other_bank_is_read(steps, bank, seed):
    simulate(steps, bank, seed)


def test_a_word_is_added_to_every_second_cycle():
    simulate([(1, 3, step == 0) for step in range(8)], 0, 0)


def test_every_word_in_turn():
    simulate([(0, step % WORDS, step < WORDS) for step in range(3 * WORDS)], 1, 1)
