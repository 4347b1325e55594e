# amaranth: UnusedElaboratable=no

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import HardwareConfig
from hw.units.lookup_layouts import block_words, lane_cycles, simd_field_bits
from hw.units.position_lane import PositionLane
from tests.hw.lut_records import MINI, THREE, WIDE, low_first

CODES, GROUPS = 3, 2
NARROW = dataclasses.replace(MINI, name="narrow", row_bits=8)


def join(values: Any, bits: int) -> int:
    return sum(int(value) << (bits * place) for place, value in enumerate(values))


@pytest.mark.parametrize("config", [MINI, WIDE, NARROW, THREE], ids=lambda config: str(config.name))
@settings(max_examples=4)
@given(seed=st.integers(0, 1000), int4=st.booleans())
def test_steps_add_entries_of_the_row(config: HardwareConfig, seed: int, int4: bool) -> None:
    """Random steps with idle cycles between them; each finds its own row, block and partial."""
    random = np.random.default_rng(seed)
    dut = PositionLane(config)
    field, lanes, latency = simd_field_bits(config), config.lanes, lane_cycles(config)
    rows = random.integers(0, 16 if int4 else 256, (2, CODES, GROUPS, config.row_entries))
    indices = random.integers(0, config.row_entries, (2, config.index_blocks, lanes))
    steps: list[tuple[int, int, int, bool] | None] = []
    for _ in range(40):
        half, code, row = (int(random.integers(0, n)) for n in (2, CODES, GROUPS))
        steps += [None] * int(random.integers(0, 3))
        steps.append((half, code, row, True))
        steps += [(half, code, row, False)] * int(random.integers(0, 3))
    partials = random.integers(0, 100, (len(steps) + latency, lanes))
    blocks = random.integers(0, config.index_blocks, len(steps) + latency)

    async def write(ctx: Any, kind: str, half: int, text: bytes) -> None:
        size = config.port_bytes
        for number, start in enumerate(range(0, len(text), size)):
            word = int.from_bytes(text[start:start + size].ljust(size, b"\0"), "little")
            address, part = (number, 0) if kind == "table" else divmod(number, block_words(config))
            place = {kind: 1, "half": half, "address": address, "part": part}
            ctx.set(dut.write, {**place, "data": word})
            ctx.set(dut.selected, 1)
            await ctx.tick()
            ctx.set(dut.write, {**place, "data": 0})
            ctx.set(dut.selected, 0)
            await ctx.tick()

    async def bench(ctx: Any) -> None:
        ctx.set(dut.setup, {"int4": int4, "rows_per_code": GROUPS})
        for half in range(2):
            await write(ctx, "table", half, low_first(rows[half].ravel(), 4 if int4 else 8))
            await write(ctx, "low", half, low_first(indices[half].ravel(), config.index_low_bits))
        ctx.set(dut.write, {})
        for cycle in range(len(steps) + latency):
            step = steps[cycle] if cycle < len(steps) else None
            block = int(blocks[cycle])
            ctx.set(dut.step, {} if step is None else {
                "valid": 1, "half": step[0], "row": step[2], "read": step[3], "block": block,
            })
            # Bytes of the operand are looked at in reads only.
            read = step is not None and step[3]
            operand = step[1] + (cycle << 16) if read and step is not None else (1 << 32) - 1
            ctx.set(dut.operand, operand)
            if cycle >= latency - 1:
                ctx.set(dut.partial, join(partials[cycle - latency + 1], field))
            if cycle >= latency and (done := steps[cycle - latency]) is not None:
                row = rows[done[0], done[1], done[2]]
                entries = row[indices[done[0], blocks[cycle - latency]]]
                expected = join(entries + partials[cycle - latency], field)
                assert ctx.get(dut.total) == expected
            await ctx.tick()
            assert ctx.get(dut.step_next) == ctx.get(dut.step)
            if read:
                assert ctx.get(dut.operand_next) == operand >> (8 * config.vector_length)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
