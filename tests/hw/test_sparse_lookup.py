# amaranth: UnusedElaboratable=no
"""Skipped positions: filter, position lists, and LUT instructions that follow them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.golden.sparsity import (
    drop_positions,
    kept_positions,
    listed_records,
    listed_rounds,
    skipped_offset,
)
from hw.isa import LutMode
from hw.units.position_filter import PositionFilter
from hw.units.position_list import place_bits
from hw.units.position_lists import PositionLists
from tests.hw.engines import Traffic, pack
from tests.hw.lut_records import MINI, TINY
from tests.hw.test_lut_engine import check, layer, run

SPARSE = dataclasses.replace(MINI, name="sparse", sparse=True)
PORTS = dataclasses.replace(TINY, name="sparse_ports", sparse=True)
ONE_LANE = dataclasses.replace(PORTS, name="sparse_one", weight_ports=4, lanes=64)
MANY_LANES = dataclasses.replace(PORTS, name="sparse_many", weight_ports=1)
CONFIGS = (SPARSE, PORTS, ONE_LANE, MANY_LANES)


def test_kept_positions_by_hand() -> None:
    x = np.array([[5, -1, 0, 3, -7, 7], [0, 0, -4, -3, 7, 8]], np.int16)
    thresholds = np.array([4, 9, 0, 3, 7, 7], np.int16)
    np.testing.assert_array_equal(
        kept_positions(x, thresholds, 2), [[True, False, False], [False, True, True]])
    q = np.arange(1, 13, dtype=np.int8).reshape(2, 6)
    np.testing.assert_array_equal(
        drop_positions(q, x, thresholds, 2), [[1, 2, 0, 0, 0, 0], [0, 0, 9, 10, 11, 12]])


def test_lists_by_hand() -> None:
    q = np.array([[0, 1, 0, 0, 2, 0, 0, 0], [0, 0, 3, 0, 0, 0, 0, 0],
                  [0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 5]], np.int8)
    lists = listed_records(q, 2, 2)
    assert [list(records) for records in lists] == [[0, 3, 6, 7], [0, 7]]
    assert listed_rounds(q, 2, 2) == 2
    assert skipped_offset(4, 2, 4, 16) == 8 << 15
    assert skipped_offset(4, 2, 4, 8) == 8 << 7
    assert listed_rounds(np.zeros((3, 8), np.int8), 2, 2) == 1


@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_filter(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.integers(-32767, 32768, (12, PORTS.word_elements)) >> random.integers(0, 15, (12, 1))
    thresholds = np.abs(x + random.integers(-1, 2, x.shape)).clip(0, 32767)
    thresholds[random.random(len(x)) < 0.2] = 32767
    dut = PositionFilter(PORTS)
    got = []

    async def drive(ctx: Any) -> None:
        for word, limits in zip(x, thresholds, strict=True):
            ctx.set(dut.word, [int(value) for value in word])
            ctx.set(dut.thresholds, [int(value) for value in limits])
            bits = ctx.get(dut.kept)
            got.append([bool(bits >> n & 1) for n in range(PORTS.positions)])

    sim = Simulator(dut)
    sim.add_testbench(drive)
    sim.run()
    expected = [kept_positions(word[None], limits, PORTS.vector_length)[0]
                for word, limits in zip(x, thresholds, strict=True)]
    np.testing.assert_array_equal(got, expected)


def list_words(config: HardwareConfig, tokens: list[Ints], traffic: Traffic) -> list[Any]:
    """Rounds, counts, values and record numbers of the lists after each token."""
    dut, results = PositionLists(config), []

    async def drive(ctx: Any) -> None:
        for q in tokens:
            for round_, word in enumerate(q):
                while not traffic.go():
                    await ctx.tick()
                ctx.set(dut.write.round, round_)
                ctx.set(dut.write.word, pack(word, 8))
                ctx.set(dut.write.valid, 1)
                await ctx.tick()
                ctx.set(dut.write.valid, 0)
            await ctx.tick().repeat(2)
            rounds = ctx.get(dut.read.rounds)
            counts = [ctx.get(count) for count in dut.read.counts]
            values, places = [], []
            for address in range(rounds):
                for port in (dut.read.value, dut.read.place):
                    ctx.set(port.address, address)
                    ctx.set(port.en, 1)
                await ctx.tick()
                values.append(ctx.get(dut.read.value.data))
                places.append(ctx.get(dut.read.place.data))
            results.append((rounds, counts, values, places))

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()
    return results


@given(
    config=st.sampled_from(CONFIGS), rounds=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    kept=st.sampled_from([0.0, 0.2, 0.7, 1.0]), chance=st.sampled_from([0.3, 1.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=24)
def test_lists_equal_golden(
    config: HardwareConfig, rounds: list[int], kept: float, chance: float, seed: int,
) -> None:
    random = np.random.default_rng(seed)
    length, lanes = config.vector_length, config.positions_per_port
    tokens = []
    for count in rounds:
        q = random.integers(-127, 128, (count, config.positions, length))
        q[random.random((count, config.positions)) >= kept] = 0
        tokens.append(q.reshape(count, -1).astype(np.int8))
    results = list_words(config, tokens, Traffic(seed, chance))
    for q, (words, counts, values, places) in zip(tokens, results, strict=True):
        lists = listed_records(q, length, config.weight_ports)
        assert words == listed_rounds(q, length, config.weight_ports)
        assert counts == [len(records) for records in lists]
        by_port = q.reshape(len(q), config.weight_ports, lanes, length).transpose(1, 0, 2, 3)
        for port, records in enumerate(lists):
            own = by_port[port].reshape(-1, length)
            for entry in range(words * lanes):
                word, place = divmod(entry, lanes)
                place += port * lanes
                value = values[word] >> (8 * length * place) & ((1 << 8 * length) - 1)
                if entry < len(records):
                    assert value == pack(own[records[entry]], 8)
                    number = places[word] >> (place_bits(config) * place)
                    assert number & ((1 << place_bits(config)) - 1) == records[entry]
                else:
                    assert value == 0


@settings(max_examples=8)
@given(
    seed=st.integers(0, 1000), rounds=st.integers(1, 6), blocks=st.integers(1, 4),
    blocks_per_group=st.integers(1, 4), slices=st.sampled_from([1, 4]),
    config=st.sampled_from(CONFIGS), kept=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    stall=st.sampled_from([0.0, 0.5]), row_bits=st.sampled_from([8, 16]),
)
def test_sparse_sums_equal_dense_ones(
    seed: int, rounds: int, blocks: int, blocks_per_group: int, slices: int,
    config: HardwareConfig, kept: float, stall: float, row_bits: int,
) -> None:
    config = dataclasses.replace(config, row_bits=row_bits)
    item = layer(config, seed, LutMode.ROWGEN, rounds, 1, blocks, blocks_per_group, slices,
                 kept=kept, sparse=1, row_shift=config.row_shift_max // 2)
    counts = check(config, item, stall, seed)
    first = item.fields["operands"]
    words = b"".join(item.operands[first + r].to_bytes(config.word_elements, "little")
                     for r in range(rounds))
    q = np.frombuffer(words, np.int8).reshape(rounds, -1)
    lists = listed_records(q, config.vector_length, config.weight_ports)
    assert counts["skipped_rows"] == rounds * config.positions - sum(map(len, lists))
    assert counts["table_words"] == sum(map(len, lists)) * item.fields["record_words"]
    assert counts["lut_steps"] == slices * blocks * listed_rounds(
        q, config.vector_length, config.weight_ports)


def test_sparse_between_others() -> None:
    kinds = ((LutMode.ROWGEN, {"sparse": 1, "kept": 0.4}), (LutMode.GATHER, {}),
             (LutMode.STREAM, {}), (LutMode.ROWGEN, {"sparse": 1, "kept": 0.4}))
    for number, kind in enumerate(kinds):
        items = [layer(PORTS, 5, LutMode.ROWGEN, 3, 1, 2, 2, first=1),
                 layer(PORTS, 6 + number, kind[0], 4, 1, 2, 2, **kind[1], first=1),
                 layer(PORTS, 7, LutMode.ROWGEN, 2, 1, 2, 2, kept=0.5, first=1, sparse=1),
                 layer(PORTS, 8, LutMode.STREAM, 2, 1, 2, 2, first=0)]
        words, _, _ = run(PORTS, items, stall=0.2)
        expected = items[2].expected + items[3].expected
        np.testing.assert_array_equal(words[5:7].reshape(1, -1), expected)


@pytest.mark.parametrize("kept", [0.5, 0.1])
def test_sparse_takes_fewer_cycles(kept: float) -> None:
    _, _, dense = run(PORTS, [layer(PORTS, 3, LutMode.ROWGEN, 24, 1, 4, 4)])
    _, _, sparse = run(PORTS, [layer(PORTS, 3, LutMode.ROWGEN, 24, 1, 4, 4, kept=kept, sparse=1)])
    assert sparse < (kept + 0.25) * dense
