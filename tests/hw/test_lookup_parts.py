# amaranth: UnusedElaboratable=no
"""Buffers, row extract, copy lanes and SIMD adder of the lookup engine."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import HardwareConfig
from hw.errors import ConfigError
from hw.units import lookup_layouts as layouts
from hw.units.copy_lanes import CopyLanes
from hw.units.index_buffer import IndexBuffer
from hw.units.row_extract import RowExtract
from hw.units.simd_adder import SimdAdder
from hw.units.table_buffer import TableBuffer
from tests.hw.lut_records import MINI, SHARED, SHARED_THREE, THREE, WIDE, low_first

FOUR = dataclasses.replace(MINI, name="four", index_bits=4)


def simulate(dut: Any, bench: Any) -> None:
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


def join(values: Any, bits: int) -> int:
    """Fields of one wide value, the first lowest."""
    return sum(int(value) << (bits * place) for place, value in enumerate(values))


def split(value: int, bits: int, count: int) -> list[int]:
    return [value >> (bits * place) & ((1 << bits) - 1) for place in range(count)]


@pytest.mark.parametrize("config", [MINI, THREE, WIDE], ids=lambda config: str(config.name))
def test_table_buffer_keeps_both_halves(config: HardwareConfig) -> None:
    dut = TableBuffer(config)
    random = np.random.default_rng(0)
    stored = [random.bytes(config.table_words * config.port_bytes) for _ in range(2)]
    size = dut.width // 8

    async def bench(ctx: Any) -> None:
        for half in range(2):
            for word in range(config.table_words):
                start = word * config.port_bytes
                data = int.from_bytes(stored[half][start:start + config.port_bytes], "little")
                ctx.set(dut.write, {"table": 1, "half": half, "address": word, "data": data})
                await ctx.tick()
        # Words for other buffers leave the table alone.
        ctx.set(dut.write, {"low": 1, "high": 1, "half": 0, "address": 0, "data": 0})
        await ctx.tick()
        slot_bytes = layouts.slot_bits(config) // 8
        for half in range(2):
            for slot in range(0, len(stored[0]) // slot_bytes, 3):
                ctx.set(dut.en, 1)
                ctx.set(dut.half, half)
                ctx.set(dut.slot, slot)
                await ctx.tick()
                start = slot * slot_bytes // size * size
                expected = int.from_bytes(stored[half][start:start + size], "little")
                assert ctx.get(dut.word) == expected
                ctx.set(dut.en, 0)
                ctx.set(dut.slot, 0)
                await ctx.tick()
                assert ctx.get(dut.word) == expected

    simulate(dut, bench)


def test_row_larger_than_the_table_buffer() -> None:
    with pytest.raises(ConfigError, match=r"^table_words must be at least 4 \(one row\), not 2$"):
        TableBuffer(dataclasses.replace(MINI, table_words=2))


@pytest.mark.parametrize(("index_bits", "lanes"), [(3, 512), (4, 128)])
def test_row_extract_takes_every_kind_of_row(index_bits: int, lanes: int) -> None:
    config = dataclasses.replace(MINI, port_bits=512, lanes=lanes, index_bits=index_bits)
    dut, entries = RowExtract(config), config.row_entries
    size = entries // 2
    word = np.random.default_rng(1).integers(0, 256, 64)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.word, join(word, 8))
        ctx.set(dut.en, 1)
        for slot in range(64 // size):
            row = word[size * slot:size * (slot + 4)]
            ctx.set(dut.slot, slot)
            ctx.set(dut.int4, 1)
            await ctx.tick()
            nibbles = np.stack([row[:size] & 15, row[:size] >> 4], axis=1).ravel()
            assert split(ctx.get(dut.row), 8, entries) == nibbles.tolist()
            ctx.set(dut.int4, 0)
            await ctx.tick()
            assert split(ctx.get(dut.row), 8, len(row)) == row.tolist()
        ctx.set(dut.en, 0)
        ctx.set(dut.word, 0)
        await ctx.tick()
        assert split(ctx.get(dut.row), 8, len(row)) == row.tolist()

    simulate(dut, bench)


@pytest.mark.parametrize("config", [MINI, FOUR, THREE, WIDE, SHARED, SHARED_THREE],
                         ids=lambda config: str(config.name))
@pytest.mark.parametrize("index_high", [0, 1, 2])
def test_index_buffer_returns_indices(config: HardwareConfig, index_high: int) -> None:
    if index_high and not config.wide_indices:
        index_high = 0
    dut = IndexBuffer(config)
    blocks, lanes, low_bits = config.index_blocks, config.lanes, config.index_low_bits
    entries = config.row_entries
    indices = np.random.default_rng(2).integers(0, entries << (2 * index_high),
                                                (2, blocks * lanes))

    async def bench(ctx: Any) -> None:
        for half in range(2):
            planes = {"low": low_first(indices[half] % entries, low_bits)}
            if index_high:
                planes["high"] = low_first(indices[half] >> 4, 2 * index_high)
            for name, plane in planes.items():
                for start in range(0, len(plane), config.port_bytes):
                    data = int.from_bytes(plane[start:start + config.port_bytes], "little")
                    block, part = divmod(start // config.port_bytes, layouts.block_words(config))
                    shared = config.shared_ports and part == layouts.block_words(config) - 1
                    write, other = dut.write, getattr(dut, "shared_write", None)
                    if shared:
                        write, other = other, write
                    ctx.set(write, {name: 1, "half": half, "address": block, "part": part,
                                    "data": data})
                    if other is not None:
                        ctx.set(other, {"low": 0})
                    await ctx.tick()
        ctx.set(dut.write, {})
        if config.shared_ports:
            ctx.set(dut.shared_write, {})
        ctx.set(dut.index_high, index_high)
        requests = [(half, block) for half in range(2) for block in range(blocks)]
        for cycle in range(len(requests) + 2):
            ctx.set(dut.en, cycle < len(requests))
            if cycle < len(requests):
                ctx.set(dut.half, requests[cycle][0])
                ctx.set(dut.block, requests[cycle][1])
            if cycle >= 2:
                half, block = requests[cycle - 2]
                expected = indices[half, block * lanes:(block + 1) * lanes]
                assert split(ctx.get(dut.low), low_bits, lanes) == (expected % entries).tolist()
                if config.wide_indices:
                    assert split(ctx.get(dut.high), 4, lanes) == (expected >> 4).tolist()
            await ctx.tick()

    simulate(dut, bench)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), rowgen=st.booleans(), row_bits=st.sampled_from([8, 12, 16]),
       index_bits=st.sampled_from([3, 4, 8]))
def test_copy_lanes_match_indexing(
    seed: int, rowgen: bool, row_bits: int, index_bits: int
) -> None:
    config = dataclasses.replace(THREE, rowgen=rowgen, row_bits=row_bits, index_bits=index_bits)
    entries = config.row_entries
    wide = rowgen and index_bits == 8
    dut = CopyLanes(config)
    random = np.random.default_rng(seed)

    async def bench(ctx: Any) -> None:
        for _ in range(5):
            row = random.integers(0, 1 << config.entry_bits, entries)
            index = random.integers(0, 64 if wide else entries, config.lanes)
            chosen = int(random.integers(0, 4)) if wide else 0
            ctx.set(dut.row, join(row, config.entry_bits))
            ctx.set(dut.low, join(index % entries, config.index_low_bits))
            ctx.set(dut.slice, chosen)
            if wide:
                ctx.set(dut.high, join(index >> 4, 4))
            await ctx.tick()
            expected = np.where(index // entries == chosen, row[index % entries], 0)
            got = split(ctx.get(dut.values), config.entry_bits, config.lanes)
            assert got == expected.tolist()

    simulate(dut, bench)


@pytest.mark.parametrize(("rowgen", "row_bits"), [(False, 16), (True, 16), (True, 12), (True, 8)])
def test_largest_sums_stay_in_their_fields(rowgen: bool, row_bits: int) -> None:
    """As many largest entries as there are positions, in every second column."""
    config = dataclasses.replace(
        MINI, rowgen=rowgen, row_bits=row_bits, port_bits=512, lanes=128, table_words=16,
        group_max=32
    )
    dut = SimdAdder(config)
    values = [((1 << config.entry_bits) - 1) * (lane % 2) for lane in range(config.lanes)]

    async def bench(ctx: Any) -> None:
        ctx.set(dut.values, join(values, config.entry_bits))
        for position in range(1, config.positions + 1):
            await ctx.tick()
            total = ctx.get(dut.total)
            assert split(total, dut.field_bits, config.lanes) == [v * position for v in values]
            ctx.set(dut.partial, total)

    simulate(dut, bench)


def test_sums_that_could_carry() -> None:
    config = dataclasses.replace(
        MINI, rowgen=False, port_bits=512, lanes=128, vector_length=1, group_max=32
    )
    with pytest.raises(ConfigError, match=r"^sums of 32 positions do not fit the 12-bit fields"):
        SimdAdder(config)
