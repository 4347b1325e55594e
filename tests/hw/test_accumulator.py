# amaranth: UnusedElaboratable=no

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import SUM_BITS_MAX, SUM_BITS_MIN
from hw.fixed import wrapped
from hw.units.accumulator import Accumulator
from hw.units.slice_lanes import BLOCK_BITS, SLICE_LANES, slice_lanes
from tests.hw.engine_models import SMALL

CONFIG = dataclasses.replace(SMALL, accumulator_words=8)
WORDS, LANES = CONFIG.accumulator_words, CONFIG.lanes


def simulate(
    steps: list[tuple[int, int, bool]], bank: int, seed: int, bits: int = SUM_BITS_MAX
) -> None:
    """Run (idle cycles, word, first) on one bank while reading the other, then read this one."""
    rng = np.random.default_rng(seed)
    dut = Accumulator(dataclasses.replace(CONFIG, sum_bits=bits))
    golden = np.zeros((2, WORDS, LANES), np.int64)
    half = 1 << (bits - 1)
    values = rng.integers(-half, half, (len(steps) + WORDS, LANES))
    bases = rng.integers(0, 2 * half, len(values)) * rng.integers(0, 2, len(values))

    async def add(ctx: Any, bank: int, word: int, first: bool, index: int) -> None:
        sums, base = values[index], int(bases[index])
        ctx.set(dut.write.valid, 1)
        ctx.set(dut.write.bank, bank)
        ctx.set(dut.write.address, word)
        ctx.set(dut.write.first, first)
        ctx.set(dut.write.base, base)
        ctx.set(dut.write.sums, [int(value) for value in sums])
        _, _, steps = await ctx.tick().sample(dut.events.accumulator_steps)
        del steps
        ctx.set(dut.write.valid, 0)
        golden[bank, word] = wrapped(sums + (base if first else golden[bank, word]), bits)

    async def read(ctx: Any, bank: int, word: int) -> None:
        ctx.set(dut.read.en, 1)
        ctx.set(dut.read.bank, bank)
        ctx.set(dut.read.address, word)

    def check(ctx: Any, bank: int, word: int) -> None:
        assert list(ctx.get(dut.read.data)) == golden[bank, word].tolist()

    async def drive(ctx: Any) -> None:
        for word in range(WORDS):
            await add(ctx, 1 - bank, word, True, len(steps) + word)
        await ctx.tick()
        rests = {}
        for step, (idle, word, first) in enumerate(steps):
            for _ in range(max(idle, rests.get(word, 0))):
                await ctx.tick()
            other = int(rng.integers(WORDS))
            await read(ctx, 1 - bank, other)
            await add(ctx, bank, word, first, step)
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
@given(steps=st.lists(words, min_size=1, max_size=24), bank=st.integers(0, 1), seed=st.integers(0),
       bits=st.sampled_from([SUM_BITS_MIN, 27, 28, SUM_BITS_MAX]))
def test_adds_while_the_other_bank_is_read(steps, bank, seed, bits):
    simulate(steps, bank, seed, bits)


def test_a_word_is_added_to_every_second_cycle():
    simulate([(1, 3, step == 0) for step in range(8)], 0, 0)


def test_every_word_in_turn():
    simulate([(0, step % WORDS, step < WORDS) for step in range(3 * WORDS)], 1, 1)


@pytest.mark.parametrize(("bits", "lanes"), [(32, 4), (27, 8), (24, 8), (28, 16), (20, 16)])
def test_slices_leave_few_memory_bits_unused(bits, lanes):
    config = dataclasses.replace(CONFIG, sum_bits=bits)
    assert slice_lanes(config) == lanes

    def unused(lanes: int) -> float:
        return -(-lanes * bits // BLOCK_BITS) * BLOCK_BITS / (lanes * bits)

    assert unused(lanes) == min(map(unused, SLICE_LANES))
