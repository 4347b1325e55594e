# amaranth: UnusedElaboratable=no

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import HardwareConfig
from hw.units.argmax import Argmax
from tests.hw.engine_models import SMALL
from tests.hw.engines import load_config

HIGHEST = (1 << 31) - 1


def search(
    config: HardwareConfig, runs: list[list[list[int]]], gaps: list[int]
) -> list[tuple[int, int]]:
    """(index, value) after each run of words; columns go on from run to run."""
    dut = Argmax(config)
    found: list[tuple[int, int]] = []

    async def feed(ctx: Any) -> None:
        gap, column = iter(gaps), 5
        for number, words in enumerate(runs):
            ctx.set(dut.restart, 1)
            ctx.set(dut.fresh, int(number == 0))
            ctx.set(dut.column, column)
            await ctx.tick()
            ctx.set(dut.restart, 0)
            for word in words:
                for _ in range(next(gap, 0)):
                    await ctx.tick()
                ctx.set(dut.values, word)
                ctx.set(dut.valid, 1)
                await ctx.tick()
                ctx.set(dut.valid, 0)
            while ctx.get(dut.busy):
                await ctx.tick()
            found.append((ctx.get(dut.index), ctx.get(dut.value)))
            column += len(words) * config.word_elements

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(feed)
    sim.run()
    return found


value = st.integers(-2, 1) | st.sampled_from([-HIGHEST, HIGHEST])
word = st.lists(value, min_size=4, max_size=4)


@settings(max_examples=25)
@given(
    runs=st.lists(st.lists(word, min_size=1, max_size=5), min_size=1, max_size=3),
    gaps=st.lists(st.integers(0, 2), max_size=8),
)
def test_lowest_column_of_the_largest_value(runs, gaps):
    expected = []
    for number in range(len(runs)):
        values = np.concatenate([np.ravel(words) for words in runs[:number + 1]])
        expected.append((5 + int(values.argmax()), int(values.max())))
    assert search(SMALL, runs, gaps) == expected


@pytest.mark.parametrize("place", [0, 7, 18, 31])
def test_places_of_a_word(place):
    values = [-9] * 32
    values[place:] = [3] * (32 - place)
    assert search(load_config("v80"), [[values]], []) == [(5 + place, 3)]
