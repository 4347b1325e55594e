"""HADAMARD instructions against the golden transform, with stalls on every port."""

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
from hw.golden.hadamard import LENGTH_BITS_MAX, hadamard
from hw.units.hadamard_engine import HadamardEngine
from tests.hw.engine_models import SMALL, prove_engine
from tests.hw.engines import Traffic, VectorMemory, count, load_config, pack, run_tasks, watch_held


def simulate(
    config: HardwareConfig, shapes: list[tuple[int, int, int, int, int]], seed: int, chance: float
) -> list[int]:
    """Rotate (tokens, heads, blocks of words, length bits, shift) one after another and compare.

    Blocks shorter than a word count words. chance: of the vector memory to go on in a cycle.
    Returns the cycles of each.
    """
    rng = np.random.default_rng(seed)
    width = config.word_elements
    sizes = [blocks * max(1, (1 << bits) // width) for _, _, blocks, bits, _ in shapes]
    rows_of = [tokens * heads for tokens, heads, *_ in shapes]
    room = sum((size + 3) * rows for size, rows in zip(sizes, rows_of, strict=True)) + 50
    vectors = rng.integers(-32768, 32768, (room, width)).astype(np.int16)
    vectors[rng.random(room) < 0.1] = -32768
    vectors[rng.random(room) < 0.1] = 32767
    expected = vectors.copy()
    tasks, place, written = [], 3, 0
    for (tokens, heads, _, bits, shift), words in zip(shapes, sizes, strict=True):
        head_stride = words + int(rng.integers(2))
        stride = heads * head_stride + int(rng.integers(2))
        tasks.append({
            "tokens": tokens, "heads": heads, "words": words, "source": place, "stride": stride,
            "head_stride": head_stride, "length_bits": bits, "shift": shift,
        })
        starts = place + np.add.outer(np.arange(tokens) * stride, np.arange(heads) * head_stride)
        rows = np.add.outer(starts.ravel(), np.arange(words))
        y = hadamard(vectors[rows].reshape(tokens * heads, -1), bits, shift)
        expected[rows] = y.reshape(*rows.shape, width)
        place = int(rows[-1, -1]) + 2
        written += rows.size
    vector = VectorMemory([pack(row.tolist(), 16) for row in vectors], Traffic(seed, chance))
    totals: dict[str, int] = {}
    dut = HadamardEngine(config)
    cycles = run_tasks(dut, tasks, [
        partial(vector.serve, port=dut.vector_read),
        partial(vector.accept, port=dut.vector_write),
        partial(count, events=dut.events, totals=totals),
        *(partial(watch_held, port=port) for port in (dut.vector_read.request, dut.vector_write)),
    ])
    assert vector.words == [pack(row.tolist(), 16) for row in expected]
    assert totals == {"hadamard_steps": written}
    return cycles


SHAPE = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.integers(1, 6),
                  st.integers(0, 9))


@settings(max_examples=15)
@given(
    shapes=st.lists(SHAPE, min_size=1, max_size=3), seed=st.integers(0, 999),
    chance=st.sampled_from([0.3, 0.7, 1.0]),
)
def test_matches_golden(
    shapes: list[tuple[int, int, int, int, int]], seed: int, chance: float
) -> None:
    simulate(SMALL, shapes, seed, chance)


@pytest.mark.parametrize("bits", [4, 5])
def test_wide_port(bits: int) -> None:
    simulate(load_config(port_bits=256, lanes=64), [(2, 1, 3, bits, 2)], 1, 0.7)


def test_longest_block() -> None:
    simulate(SMALL, [(1, 1, 2, LENGTH_BITS_MAX, 4)], 2, 0.8)


def test_a_word_takes_a_cycle() -> None:
    tokens, words = 4, 16
    (cycles,) = simulate(SMALL, [(tokens, 1, 2, 5, 3)], 0, 1)
    assert cycles <= tokens * words + 8 + 24


@pytest.mark.parametrize("port", ["vector_write", "request"])
def test_offers_are_held(tmp_path: Path, port: str) -> None:
    dut: Any = HadamardEngine(load_config(port_bits=64, lanes=16, vector_words=16))
    offered = dut.vector_read.request if port == "request" else getattr(dut, port)
    prove_engine(dut, offered, tmp_path)
