"""ORDER instructions and the lookup of ordered rows against golden."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from amaranth.sim import Simulator
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hw.golden.importance import first_attention, importance, token_order
from hw.golden.softmax import softmax
from hw.units.order_engine import COMPARATORS, OrderEngine
from hw.units.ordered_rows import OrderedRows
from hw.units.softmax_importance import SoftmaxImportance
from tests.hw.engine_models import SMALL, serve_reads
from tests.hw.engines import Traffic, load_config, record, run_tasks


def test_order_worked_by_hand() -> None:
    """Ranks 3, 0, 2, 1: of the two fives the earlier one is less important."""
    assert token_order(np.array([9, 2, 5, 5]), 0, 0).tolist() == [0, 1, 2, 3]
    assert token_order(np.array([9, 2, 5, 5]), 2, 0).tolist() == [0, 3, 1, 2]
    assert token_order(np.array([9, 2, 5, 5]), 1, 1).tolist() == [0, 3, 2, 1]
    assert token_order(np.array([9, 2, 5, 5]), 0, 3).tolist() == [0, 1, 2, 3]
    assert token_order(np.array([7, 7, 7]), 1, 1).tolist() == [2, 1, 0]


def test_attention_to_the_first_position_worked_by_hand() -> None:
    """Numerators 127 and 127 share 1: each has half of it; position 0 sees only itself."""
    numerators, reciprocals = softmax(np.zeros((2, 2), np.int16), np.array([0, 1]), 0, 0, 0, False)
    assert numerators.tolist() == [[127, 0], [127, 127]]
    assert first_attention(numerators, reciprocals, False).tolist() == [1 << 16, 1 << 15]
    codes, shares = softmax(np.array([[0, 0, 256]], np.int16), np.array([2]), 0, 0, 8, True)
    assert codes.tolist() == [[1, 1, 0]]
    assert first_attention(codes, shares, True).tolist() == [1 << 14]
    assert importance(np.array([1, 2, 30, 40]), 2).tolist() == [3, 70]
    assert importance(np.array([1, 2]), 1, np.array([5, (1 << 24) - 1])).tolist() == [6, 1]


@st.composite
def orders(draw: Any) -> tuple[list[int], int, int]:
    """Importance of some tokens, many of them equal, and the sizes of the parts."""
    tokens = draw(st.integers(1, 40))
    most = draw(st.sampled_from([1, 5, (1 << 24) - 1]))
    values = draw(st.lists(st.integers(0, most), min_size=tokens, max_size=tokens))
    pruned = draw(st.integers(0, tokens))
    return values, draw(st.integers(0, tokens - pruned)), pruned


def run_order(values: list[int], low: int, pruned: int) -> int:
    """Run an ORDER; returns its cycles."""
    dut = OrderEngine(SMALL)
    written: dict[int, int] = {}
    beyond = [3] * COMPARATORS
    (cycles,) = run_tasks(dut, [{"tokens": len(values), "low": low, "pruned": pruned}], [
        partial(serve_reads, en=dut.importance.en, key=dut.importance.address,
                data=dut.importance.data, content=lambda key: (values + beyond)[key],
                traffic=Traffic(len(values), 1.0)),
        partial(record, port=dut.order, table=written)])
    assert written == dict(enumerate(token_order(np.array(values), low, pruned).tolist()))
    return cycles


@given(orders())
@example(([1, 1, 0, 1, 0, 0, 1, 0, 1], 3, 2))
@settings(max_examples=15)
def test_order_equals_golden(case: tuple[list[int], int, int]) -> None:
    run_order(*case)


def test_most_tokens() -> None:
    values = np.random.default_rng(0).integers(0, 1 << 24, 255).tolist()
    cycles = run_order(values, 100, 55)
    assert cycles <= -(-255 // COMPARATORS) * (255 + 18) + 3


def test_a_second_order_starts_anew() -> None:
    tasks = [{"tokens": 9, "low": 2, "pruned": 3}, {"tokens": 5, "low": 4, "pruned": 0}]
    values = [5, 1, 5, 0, 9, 9, 2, 2, 7]
    dut = OrderEngine(SMALL)
    written: dict[int, int] = {}
    run_tasks(dut, tasks, [
        partial(serve_reads, en=dut.importance.en, key=dut.importance.address,
                data=dut.importance.data, content=lambda key: (values + [0] * 8)[key],
                traffic=Traffic(0, 1.0)),
        partial(record, port=dut.order, table=written)])
    first = token_order(np.array(values), 2, 3).tolist()
    second = token_order(np.array(values[:5]), 4, 0).tolist()
    assert [written[n] for n in range(9)] == second + first[5:]


@given(st.lists(st.integers(0, 255), min_size=1, max_size=9), st.integers(0, 4095),
       st.sampled_from([0.2, 0.7, 1.0]), st.integers(0, 1000))
@settings(max_examples=15)
def test_rows_go_round(tokens: list[int], stride: int, chance: float, seed: int) -> None:
    dut, traffic, first = OrderedRows(), Traffic(seed, chance), 7
    taken: list[int] = []
    wanted = 2 * len(tokens) + 1

    async def take(ctx: Any) -> None:
        ctx.set(dut.first, first)
        ctx.set(dut.tokens, len(tokens))
        ctx.set(dut.stride, stride)
        # A first start in between is forgotten.
        for cycles in (traffic.random.randrange(9), None):
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for _ in range(cycles or 0):
                await ctx.tick()
        used = 0
        while len(taken) < wanted:
            used += 1
            go = traffic.go()
            valid, offset = ctx.get(dut.valid), ctx.get(dut.offset)
            ctx.set(dut.step, go and valid)
            if go and valid:
                taken.append(offset)
            await ctx.tick()
        if chance == 1.0:
            assert used <= 3 * wanted + 1

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(take)
    sim.add_testbench(partial(
        serve_reads, en=dut.memory.en, key=dut.memory.address, data=dut.memory.data,
        content=lambda key: tokens[key - first], traffic=traffic), background=True)
    sim.run()
    rows = [token * stride & 0xFFFF for token in tokens]
    assert taken == (3 * rows)[:wanted]


@given(st.integers(0, 127), st.integers(0, (1 << 24) - 1), st.booleans(), st.integers(0, 15))
@settings(max_examples=20)
def test_importance_of_a_row(weight: int, reciprocal: int, log2: bool, code: int) -> None:
    dut = SoftmaxImportance(load_config())
    given_weight = code if log2 else weight
    expected = first_attention(
        np.array([[given_weight]], np.uint8), np.array([reciprocal]), log2)[0]

    async def offer(ctx: Any) -> None:
        for name, value in (("weight", given_weight), ("reciprocal", reciprocal), ("log2", log2),
                            ("fresh", 1), ("entry", 77), ("valid", 1)):
            ctx.set(getattr(dut, name), value)
        await ctx.tick()
        for name in ("valid", "weight", "reciprocal", "log2", "fresh", "entry"):
            ctx.set(getattr(dut, name), 0)
        for _ in range(2):
            assert not ctx.get(dut.add.valid)
            assert ctx.get(dut.busy)
            await ctx.tick()
        assert ctx.get(dut.add.valid)
        assert (ctx.get(dut.add.value), ctx.get(dut.add.entry), ctx.get(dut.add.fresh)) == (
            expected, 77, 1)
        await ctx.tick()
        assert not ctx.get(dut.add.valid)
        assert ctx.get(dut.busy)
        await ctx.tick()
        assert not ctx.get(dut.busy)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(offer)
    sim.run()
