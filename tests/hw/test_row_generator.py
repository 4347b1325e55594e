# amaranth: UnusedElaboratable=no

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from numpy.typing import NDArray

from hw.config import HardwareConfig
from hw.golden.lookup import row_offset, rows
from hw.units.lookup_layouts import generator_cycles
from hw.units.row_generator import RowGenerator
from hw.units.row_rounding import RowRounding
from tests.hw.lut_records import MINI, THREE

ROUNDED = [dataclasses.replace(MINI, name=f"rows_{bits}", row_bits=bits)
           for bits in (8, 10, 12, 15)] + [dataclasses.replace(THREE, row_bits=13)]


def split(word: int, bits: int, count: int) -> list[int]:
    """Fields of a word, the first in the lowest bits."""
    return [word >> (bits * place) & ((1 << bits) - 1) for place in range(count)]


def generate(
    config: HardwareConfig, sources: NDArray[Any], x: NDArray[Any], compute: Any = True,
    shift: int = 0,
) -> NDArray[np.int64]:
    """Rows for the byte rows of ``sources`` and ``x``, one each cycle.

    compute: for all rows, or for each.
    """
    dut, latency = RowGenerator(config), generator_cycles(config)
    result: list[list[int]] = []
    computed = np.broadcast_to(compute, len(x))

    async def bench(ctx: Any) -> None:
        if config.rounds_rows:
            ctx.set(dut.shift, shift)
        for cycle in range(len(x) + latency):
            ctx.set(dut.en, cycle < len(x))
            if cycle < len(x):
                ctx.set(dut.compute, bool(computed[cycle]))
                ctx.set(dut.source, int.from_bytes(sources[cycle].tobytes(), "little"))
                ctx.set(dut.x, int.from_bytes(x[cycle].tobytes(), "little"))
            if cycle >= latency:
                result.append(split(ctx.get(dut.row), config.entry_bits, config.row_entries))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return np.array(result)


@pytest.mark.parametrize("partner", ["extremes", "permutation"])
def test_every_product_in_both_fields(partner: str) -> None:
    """All pairs of int8 factors in the low and the high field, 8 pairs of fields in each row."""
    config = dataclasses.replace(MINI, vector_length=1)
    everything = np.arange(-128, 128)
    other = np.random.default_rng(0).permutation(everything)
    if partner == "extremes":
        other = np.where(everything % 2, -128, 127)
    pairs = np.stack([everything, other], axis=1)
    books = np.concatenate([pairs, pairs[:, ::-1]]).astype(np.int8).reshape(64, 16)
    sources, x = np.repeat(books, 256, axis=0), np.tile(everything.astype(np.int8), 64)[:, None]
    expected = sources.astype(np.int64) * x + (1 << 15)
    np.testing.assert_array_equal(generate(config, sources, x), expected)


@pytest.mark.parametrize("index_bits", [3, 4])
@pytest.mark.parametrize("length", [2, 4])
def test_rows_match_golden(length: int, index_bits: int) -> None:
    config = dataclasses.replace(THREE, vector_length=length, index_bits=index_bits)
    random = np.random.default_rng(length)
    books = random.integers(-128, 128, (100, config.row_entries, length)).astype(np.int8)
    x = random.integers(-127, 128, (100, length)).astype(np.int8)
    books[:2], x[0], x[1] = -128, -127, 127
    books[2:4], x[2], x[3] = 127, -127, 127
    books[4, ::2], books[4, 1::2], x[4] = -128, 127, 127
    expected = np.array([rows(*pair) for pair in zip(x, books, strict=True)])
    # Entries of v = 4 may leave the 16 bits, which the compiler excludes; they wrap around.
    np.testing.assert_array_equal(generate(config, books, x), expected & 0xffff)


@pytest.mark.parametrize("config", [MINI, THREE], ids=lambda config: str(config.name))
def test_table_entries_pass(config: HardwareConfig) -> None:
    shape = 10, 2 * config.row_entries
    entries = np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)
    got = generate(config, entries, np.zeros((10, 2), np.int8), compute=False)
    np.testing.assert_array_equal(got, entries[:, :config.row_entries])


@pytest.mark.parametrize("config", ROUNDED, ids=lambda config: str(config.name))
def test_every_dot_product_is_rounded(config: HardwareConfig) -> None:
    """All 16-bit dot products under every shift, against integer arithmetic."""
    dut, bits = RowRounding(config), config.row_bits
    dots = np.arange(-(1 << 15), 1 << 15)
    # Others than those near a change of the result say nothing new for wide entries.
    if bits > 8:
        dots = np.random.default_rng(bits).choice(dots, 4096, replace=False)
        dots[:64] = np.concatenate([np.arange(32), -np.arange(32)]) * 1024 - 1
    words = [int.from_bytes(part.astype("<i2").tobytes(), "little")
             for part in dots.reshape(-1, config.row_entries)]
    got: list[list[int]] = []

    async def bench(ctx: Any) -> None:
        for shift in range(config.row_shift_max + 1):
            ctx.set(dut.shift, shift)
            for word in words:
                ctx.set(dut.exact, word)
                got.append(split(ctx.get(dut.row), bits, config.row_entries))

    sim = Simulator(dut)
    sim.add_testbench(bench)
    sim.run()
    shifts = np.arange(config.row_shift_max + 1)[:, None]
    rounded = np.floor(dots / 2.0**shifts + 0.5).astype(np.int64)
    half = row_offset(bits)
    expected = np.clip(rounded, -half, half - 1) + half
    np.testing.assert_array_equal(np.array(got).reshape(expected.shape), expected)


@pytest.mark.parametrize("config", ROUNDED, ids=lambda config: str(config.name))
def test_rounded_rows_match_golden(config: HardwareConfig) -> None:
    random = np.random.default_rng(config.row_bits)
    books = random.integers(-128, 128, (100, config.row_entries, 2)).astype(np.int8)
    x = random.integers(-127, 128, (100, 2)).astype(np.int8)
    books[0], x[0], x[1] = -128, -127, 0
    computed = random.random(100) < 0.8
    for shift in range(config.row_shift_max + 1):
        expected = np.array([
            rows(one, book, config.row_bits, shift) if compute
            else book.reshape(-1)[:config.row_entries].view("u1")
            for one, book, compute in zip(x, books, computed, strict=True)])
        np.testing.assert_array_equal(generate(config, books, x, computed, shift), expected)


def test_golden_rows_by_hand() -> None:
    book = np.array([[1, 0], [-1, 0], [3, 0], [127, 127], [-128, -128], [10, -11]], np.int8)
    x = np.array([2, 2], np.int8)
    assert rows(x, book).tolist() == [32770, 32766, 32774, 33276, 32256, 32766]
    assert rows(x, book, 8, 0).tolist() == [130, 126, 134, 255, 0, 126]
    assert rows(x, book, 8, 2).tolist() == [129, 128, 130, 255, 0, 128]
    assert rows(x, book, 8, 4).tolist() == [128, 128, 128, 160, 96, 128]
