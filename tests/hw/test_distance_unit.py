"""The distance unit keeps the earlier of two equal centroids and swaps centroids on ``first``."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.units.argmin_tree import ArgminTree
from hw.units.distance_unit import DistanceUnit, distance_bits
from tests.hw.engines import load_config

EXTREMES = (-32768, -32767, -1, 0, 1, 32767)


@pytest.mark.parametrize("l2_search", [False, True])
@pytest.mark.parametrize("length", [1, 2, 4])
def test_distance(length: int, l2_search: bool) -> None:
    config = load_config(vector_length=length, l2_search=l2_search)
    dut = DistanceUnit(config)
    rng = random.Random(length)

    def some() -> list[int]:
        return [rng.choice((*EXTREMES, rng.randint(-32767, 32767))) for _ in range(length)]

    async def bench(ctx: Any) -> None:
        ctx.set(dut.en, 1)
        ctx.set(dut.index, 7)
        for _ in range(60):
            x, c, l2 = some(), some(), rng.randrange(2)
            ctx.set(dut.load, 1)
            ctx.set(dut.centroid, c)
            await ctx.tick()
            ctx.set(dut.load, 0)
            ctx.set(dut.vector, {"elements": x, "first": 1, "l2": l2})
            await ctx.tick()
            gaps = [abs(a - b) for a, b in zip(x, c, strict=True)]
            expected = sum(gap * gap for gap in gaps) if l2 and l2_search else max(gaps)
            assert expected < (1 << distance_bits(config)) - 1
            for best in (max(expected - 1, 0), expected, expected + 1):
                ctx.set(dut.best, {"distance": best, "index": 3})
                ctx.set(dut.en, 0)
                await ctx.tick()
                ctx.set(dut.en, 1)
                ctx.set(dut.vector, {"elements": x, "first": 0, "l2": l2})
                await ctx.tick()
                assert ctx.get(dut.next_best.distance) == min(best, expected)
                assert ctx.get(dut.next_best.index) == (7 if expected < best else 3)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.parametrize("chains", [2, 8])
def test_argmin_prefers_the_lower_chain(chains: int) -> None:
    dut = ArgminTree(load_config(chains=chains))
    rng = random.Random(chains)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.en, 1)
        for _ in range(50):
            distances = [rng.choice((0, 5, 65534)) for _ in range(chains)]
            ctx.set(dut.i, [{"distance": d, "index": 9 * k} for k, d in enumerate(distances)])
            for _ in range(chains.bit_length() - 1):
                await ctx.tick()
            assert ctx.get(dut.o) == 9 * distances.index(min(distances))

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
