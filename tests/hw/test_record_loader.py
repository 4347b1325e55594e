# amaranth: UnusedElaboratable=no

from __future__ import annotations

from typing import Any

from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import HardwareConfig
from hw.port_shares import port_shares
from hw.units import lookup_layouts as layouts
from hw.units.record_loader import RecordLoader
from tests.hw.lut_records import SHARED, SHARED_THREE, THREE, TINY

ROUNDS = 5


@settings(max_examples=10)
@given(
    table=st.integers(1, 4), blocks=st.integers(1, 3), high=st.integers(0, 3),
    gaps=st.lists(st.integers(0, 2), max_size=20), reading=st.integers(0, 30),
    parts=st.sampled_from([2, 4]),
    port=st.sampled_from([(TINY, 0), (THREE, 0), (SHARED, 0), (SHARED, 4),
                          (SHARED_THREE, 0), (SHARED_THREE, 4)]),
)
def test_words_reach_their_buffers(
    table: int, blocks: int, high: int, gaps: list[int], reading: int, parts: int,
    port: tuple[HardwareConfig, int],
) -> None:
    """Every word lands once, in order; a part of the buffers is not written before its release."""
    config, share = port[0], port_shares(port[0])[port[1]]
    high = high if config.wide_indices else 0
    # Whole blocks, of which this port brings some words.
    low = share.low_words(blocks)
    expected = [
        (lane, kind, number % parts, address)
        for number in range(ROUNDS) for lane in range(share.lanes)
        for kind, count in (("table", table * share.table), ("low", low), ("high", high))
        for address in range(count)
    ]
    dut = RecordLoader(config, share)
    held = [-1] * parts
    quarter, words = layouts.quarter_blocks(config), len(share.parts)
    middle = {"table": layouts.quarter_words(config), "low": quarter, "high": quarter}
    written: list[tuple[int, str, int, int]] = []

    async def send(ctx: Any) -> None:
        ctx.set(dut.record, {"table_words": table, "low_words": low, "high_words": high,
                             "rounds": ROUNDS, "quartered": parts == 4})
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for word in range(len(expected)):
            for _ in range(gaps[word] if word < len(gaps) else 0):
                await ctx.tick()
            ctx.set(dut.words.payload, word)
            ctx.set(dut.words.valid, 1)
            await ctx.tick().until(dut.words.ready)
            ctx.set(dut.words.valid, 0)
        # What follows belongs to the next instruction.
        ctx.set(dut.words.valid, 1)

    async def read(ctx: Any) -> None:
        for number in range(ROUNDS):
            await ctx.tick().until(dut.loaded)
            # Whatever was counted as loaded is in the buffer two cycles later.
            held[number % parts] = number
            ctx.set(dut.take, 1)
            await ctx.tick()
            ctx.set(dut.take, 0)
            for _ in range(reading):
                await ctx.tick()
            held[number % parts] = -1
            ctx.set(dut.released, 1)
            await ctx.tick()
            ctx.set(dut.released, 0)

    async def police(ctx: Any) -> None:
        size = len(expected) // ROUNDS
        while True:
            *_, write, lane = await ctx.tick().sample(dut.write, dut.lane)
            for kind in ("table", "low", "high"):
                if write[kind]:
                    assert write.data == len(written)
                    number = len(written) // size
                    assert held[number % parts] in (-1, number)
                    upper, address = divmod(write.address, middle[kind])
                    if kind != "table":
                        assert write.part in share.parts
                        address = address * words + write.part - share.parts.start
                    written.append((lane.bit_length() - 1, kind, write.half + 2 * upper, address))

    async def watchdog(ctx: Any) -> None:
        for _ in range(2000):
            await ctx.tick()
        raise TimeoutError(f"{len(written)} of {len(expected)} words")

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(send)
    sim.add_testbench(read)
    sim.add_testbench(police, background=True)
    sim.add_testbench(watchdog, background=True)
    sim.run()
    assert written == expected
