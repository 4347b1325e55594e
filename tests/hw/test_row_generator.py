# amaranth: UnusedElaboratable=no

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from numpy.typing import NDArray

from hw.config import HardwareConfig
from hw.golden.lookup import rows
from hw.units.row_generator import RowGenerator
from tests.hw.lut_records import MINI

LATENCY = 2


def generate(
    config: HardwareConfig, sources: NDArray[Any], x: NDArray[Any], compute: bool = True
) -> NDArray[np.int64]:
    """Rows of 16 entries for the byte rows of ``sources`` and ``x``, one each cycle."""
    dut = RowGenerator(config)
    result: list[list[int]] = []

    async def bench(ctx: Any) -> None:
        ctx.set(dut.compute, compute)
        for cycle in range(len(x) + LATENCY):
            ctx.set(dut.en, cycle < len(x))
            if cycle < len(x):
                ctx.set(dut.source, int.from_bytes(sources[cycle].tobytes(), "little"))
                ctx.set(dut.x, int.from_bytes(x[cycle].tobytes(), "little"))
            if cycle >= LATENCY:
                word = int(ctx.get(dut.row)).to_bytes(32, "little")
                result.append(np.frombuffer(word, "<u2").tolist())
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


@pytest.mark.parametrize("length", [2, 4])
def test_rows_match_golden(length: int) -> None:
    config = dataclasses.replace(MINI, vector_length=length)
    random = np.random.default_rng(length)
    books = random.integers(-128, 128, (100, 16, length)).astype(np.int8)
    x = random.integers(-127, 128, (100, length)).astype(np.int8)
    books[:2], x[0], x[1] = -128, -127, 127
    books[2:4], x[2], x[3] = 127, -127, 127
    books[4, ::2], books[4, 1::2], x[4] = -128, 127, 127
    expected = np.array([rows(*pair) for pair in zip(x, books, strict=True)])
    # Entries of v = 4 may leave the 16 bits, which the compiler excludes; they wrap around.
    np.testing.assert_array_equal(generate(config, books, x), expected & 0xffff)


def test_table_entries_pass() -> None:
    entries = np.random.default_rng(3).integers(0, 256, (10, 32)).astype(np.uint8)
    got = generate(MINI, entries, np.zeros((10, 2), np.int8), compute=False)
    np.testing.assert_array_equal(got, entries[:, :16])
