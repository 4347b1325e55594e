"""ROPE instructions against the golden rotation, with stalls on every port."""

# amaranth: UnusedElaboratable=no

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import HardwareConfig
from hw.golden.rope import rotate
from hw.units.rope_engine import RopeEngine
from hw.verilog import convert
from tests.hw.engine_models import SMALL, prove_engine
from tests.hw.engines import (
    ExternalMemory,
    Traffic,
    VectorMemory,
    count,
    load_config,
    pack,
    run_tasks,
    watch_held,
)


def simulate(
    config: HardwareConfig, shapes: list[tuple[int, int, int]], seed: int,
    chances: tuple[float, float],
) -> list[int]:
    """Rotate (tokens, heads, words) one after another and compare; returns the cycles.

    chances: of the aux port and of the vector memory to go on in a cycle.
    """
    rng = np.random.default_rng(seed)
    width = config.word_elements
    vectors = rng.integers(-32768, 32768, (700, width)).astype(np.int16)
    vectors[rng.random(700) < 0.1] = -32768
    vectors[rng.random(700) < 0.1] = 32767
    expected = vectors.copy()
    image, tasks, place, written = b"", [], 3, 0
    for tokens, heads, words in shapes:
        image += b"\xee" * (-len(image) % 64)
        table = rng.integers(-32768, 32768, (tokens, words * width))
        table[rng.random(tokens) < 0.3] = -32768
        head_stride = words + int(rng.integers(3))
        stride = heads * head_stride + int(rng.integers(3))
        tasks.append({
            "address": len(image) // 64, "tokens": tokens, "heads": heads, "words": words,
            "source": place, "stride": stride, "head_stride": head_stride,
        })
        image += table.astype("<i2").tobytes()
        starts = place + np.add.outer(np.arange(tokens) * stride, np.arange(heads) * head_stride)
        rows = np.add.outer(starts.ravel(), np.arange(words))
        x = vectors[rows].reshape(tokens * heads, -1)
        y = rotate(x, np.repeat(table, heads, axis=0))
        expected[rows] = y.reshape(*rows.shape, width)
        place = int(rows[-1, -1]) + 2
        written += rows.size

    memory = ExternalMemory(image, Traffic(seed, chances[0]))
    vector = VectorMemory([pack(row.tolist(), 16) for row in vectors], Traffic(seed, chances[1]))
    totals: dict[str, int] = {}
    dut = RopeEngine(config)
    cycles = run_tasks(dut, tasks, [
        partial(memory.serve, command=dut.command, words=dut.words),
        partial(vector.serve, port=dut.vector_read),
        partial(vector.accept, port=dut.vector_write),
        partial(count, events=dut.events, totals=totals),
        *(partial(watch_held, port=port)
          for port in (dut.command, dut.vector_read.request, dut.vector_write)),
    ])
    assert vector.words == [pack(row.tolist(), 16) for row in expected]
    assert totals == {"rope_steps": written}
    assert len(memory.commands) == len(tasks)
    return cycles


SHAPE = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6))
CHANCE = st.sampled_from([0.3, 0.7, 1.0])


@settings(max_examples=20)
@given(
    shapes=st.lists(SHAPE, min_size=1, max_size=3), seed=st.integers(0, 999),
    chances=st.tuples(CHANCE, CHANCE),
)
def test_matches_golden(
    shapes: list[tuple[int, int, int]], seed: int, chances: tuple[float, float]
) -> None:
    simulate(SMALL, shapes, seed, chances)


def test_wide_port() -> None:
    simulate(load_config(port_bits=256, lanes=64), [(2, 3, 4)], 1, (0.7, 0.7))


def test_longest_row() -> None:
    simulate(SMALL, [(2, 2, 64)], 2, (1, 0.8))


def test_a_word_takes_a_cycle() -> None:
    tokens, heads, words = 4, 12, 4
    (cycles,) = simulate(SMALL, [(tokens, heads, words)], 0, (1, 1))
    assert cycles <= tokens * (heads * words + 4) + 16


def test_lanes_are_one_module() -> None:
    text = convert(RopeEngine(SMALL), "rope_engine")
    assert text.count("module rope_lane(") == 1


@pytest.mark.parametrize("port", ["vector_write", "command", "request"])
def test_offers_are_held(tmp_path: Path, port: str) -> None:
    dut: Any = RopeEngine(load_config(port_bits=64, lanes=16, vector_words=16))
    offered = dut.vector_read.request if port == "request" else getattr(dut, port)
    prove_engine(dut, offered, tmp_path)
