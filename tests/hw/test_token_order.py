"""Memories of importance and order, with the engine that ranks: added up, ordered, read."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth import Module
from amaranth.hdl import Elaboratable
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.golden.importance import token_order
from hw.memory.token_order import ORDER_READERS, TokenOrder
from hw.units.order_engine import OrderEngine
from tests.hw.engine_models import SMALL


class Ranking(Elaboratable):
    """The memories and the engine as they are connected in the accelerator."""

    def __init__(self) -> None:
        self.memory, self.engine = TokenOrder(), OrderEngine(SMALL)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory, m.submodules.engine = self.memory, self.engine
        connect(m, self.engine.importance, self.memory.importance)
        connect(m, self.engine.order, self.memory.order)
        return m


@st.composite
def additions(draw: Any) -> tuple[list[list[int]], int, int]:
    """What each head adds to each token, and the sizes of the parts."""
    tokens, heads = draw(st.integers(1, 20)), draw(st.integers(1, 3))
    row = st.lists(st.integers(0, draw(st.sampled_from([2, 1 << 16]))), min_size=tokens,
                   max_size=tokens)
    pruned = draw(st.integers(0, tokens))
    return (draw(st.lists(row, min_size=heads, max_size=heads)),
            draw(st.integers(0, tokens - pruned)), pruned)


@given(st.lists(additions(), min_size=1, max_size=2))
@settings(max_examples=10)
def test_ranks_follow_what_was_added(layers: list[tuple[list[list[int]], int, int]]) -> None:
    dut = Ranking()
    memory, engine = dut.memory, dut.engine

    async def drive(ctx: Any) -> None:
        for heads, low, pruned in layers:
            for head, values in enumerate(heads):
                for token, value in enumerate(values):
                    for port, given_value in (("valid", 1), ("fresh", head == 0),
                                              ("entry", token), ("value", value)):
                        ctx.set(getattr(memory.add, port), given_value)
                    await ctx.tick()
                    ctx.set(memory.add.valid, 0)
                    await ctx.tick()
            tokens = len(heads[0])
            ctx.set(engine.task.payload, {"tokens": tokens, "low": low, "pruned": pruned})
            ctx.set(engine.task.valid, 1)
            while not ctx.get(engine.task.ready):
                await ctx.tick()
            await ctx.tick()
            ctx.set(engine.task.valid, 0)
            expected = token_order(np.sum(heads, axis=0), low, pruned).tolist()
            for reader in range(ORDER_READERS):
                found = []
                for place in range(tokens):
                    port = memory.reads[reader]
                    ctx.set(port.en, 1)
                    ctx.set(port.address, place)
                    await ctx.tick()
                    found.append(ctx.get(port.data))
                assert found == expected

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()
