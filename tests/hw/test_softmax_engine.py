"""SOFTMAX instructions against the golden softmax, with stalls on every port."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.golden.importance import first_attention
from hw.golden.softmax import LOG2_ZERO, softmax
from hw.units.softmax_engine import SoftmaxEngine
from tests.hw.engine_models import prove_engine, take_writes
from tests.hw.engines import (
    OperandStore,
    Traffic,
    VectorMemory,
    count,
    load_config,
    pack,
    run_tasks,
    watch_held,
)

Task = dict[str, int]
POISON = 0x7FFF
"""Scores that no row sees: larger than all others."""


async def watch_requests(ctx: Any, port: Any, addresses: list[int]) -> None:
    """Collect the addresses that are read."""
    while True:
        *_, valid, ready, address = await ctx.tick().sample(port.valid, port.ready, port.payload)
        if valid and ready:
            addresses.append(address)


async def watch_adds(ctx: Any, port: Any, adds: list[tuple[int, int, int]]) -> None:
    """Collect entry, fresh and value of what is added to the importance."""
    while True:
        *_, valid, entry, fresh, value = await ctx.tick().sample(
            port.valid, port.entry, port.fresh, port.value)
        if valid:
            adds.append((entry, fresh, value))


def check(
    tasks: list[Task], chances: tuple[float, float, float], seed: int, **changes: Any
) -> list[int]:
    """Run tasks one after the other; returns their cycles."""
    small = {"port_bits": 64, "lanes": 16, "weight_ports": 1, "operand_words": 512}
    config = load_config(**small | changes)
    rng = np.random.default_rng(seed)
    width = config.word_elements
    vectors = rng.integers(-32767, 32767, (256, width)).astype("<i2")
    vectors >>= rng.integers(0, 12, (256, 1))
    dirty = rng.integers(0, 256, (config.operand_words, width))
    expected = [pack(word, 8) for word in dirty]
    scale_table: dict[int, int] = {}
    instructions, operands, source = [], 5, 3
    steps, reads = 0, 0
    expected_adds: list[tuple[int, int, int]] = []
    adds: list[tuple[int, int, int]] = []
    for n, task in enumerate(tasks):
        rows, words, rounds = task["tokens"] * task["heads"], task["words"], task["rounds"]
        stride, scales = words + n, (250, 7)[n % 2]
        flags = {"importance": int((seed + n) % 3 > 0), "fresh": (seed + n) % 2, "entry": 9 * n}
        flags |= task
        instructions.append(flags | {
            "source": source, "stride": stride, "operands": operands, "scales": scales,
        })
        places = source + stride * np.arange(rows)[:, None] + np.arange(words)
        positions = task["position"] + np.arange(rows) // task["heads"]
        scores = vectors[places].reshape(rows, -1)
        scores[np.arange(scores.shape[1]) > positions[:, None]] = POISON
        vectors[places] = scores.reshape(rows, words, width)
        weights, reciprocals = softmax(
            scores, positions, task["window"], task["slope"], task["fraction"],
            bool(task["log2"]),
        )
        if flags["importance"]:
            attention = first_attention(weights, reciprocals, bool(task["log2"]))
            expected_adds += [
                (9 * n + row // task["heads"], int(flags["fresh"] and row % task["heads"] == 0),
                 int(attention[row])) for row in range(rows)]
        filled = np.full((rows, rounds * width), LOG2_ZERO if task["log2"] else 0)
        filled[:, :words * width] = weights
        for row in range(rows):
            scale_table[(scales + row) % 256] = int(reciprocals[row])
            for r, word in enumerate(filled[row].reshape(rounds, width)):
                expected[operands + r * rows + row] = pack(word, 8)
        operands += rounds * rows + 2
        source += rows * stride + 1
        steps += rounds * rows
        first = np.maximum(positions - task["window"] + 1, 0) * (task["window"] > 0) // width
        final = np.minimum(positions // width, words - 1)
        reads += 2 * int((final - first + 1).sum())

    dut = SoftmaxEngine(config)
    vector = VectorMemory([pack(word, 16) for word in vectors], Traffic(seed, chances[0]))
    store = OperandStore([pack(word, 8) for word in dirty], Traffic(seed + 1, chances[1]))
    scale_writes: dict[int, int] = {}
    totals: dict[str, int] = {}
    addresses: list[int] = []
    cycles = run_tasks(dut, instructions, [
        partial(vector.serve, port=dut.vector),
        partial(store.accept, port=dut.operand),
        partial(take_writes, port=dut.scale_write, table=scale_writes,
                traffic=Traffic(seed + 2, chances[2])),
        partial(watch_requests, port=dut.vector.request, addresses=addresses),
        partial(count, events=dut.events, totals=totals),
        partial(watch_adds, port=dut.add, adds=adds),
        *(partial(watch_held, port=port)
          for port in (dut.vector.request, dut.operand, dut.scale_write)),
    ])
    assert adds == expected_adds
    assert scale_writes == scale_table
    assert store.words == expected
    assert store.writes == steps
    assert len(addresses) == reads
    assert totals == {"softmax_steps": steps}
    return cycles


@st.composite
def task_of(draw: Any, elements: int) -> Task:
    """A legal task; its rows lie within few words, whose last may be beyond all that is seen."""
    words, tokens = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    last = words * elements - tokens
    longest = 1 << draw(st.integers(1, 24))
    return {
        "tokens": tokens,
        "heads": draw(st.integers(1, 3)),
        "words": words,
        "rounds": words + draw(st.integers(0, 3)),
        "position": draw(st.integers(0, last)),
        "window": draw(st.one_of(st.just(0), st.integers(1, words * elements + 3))),
        "slope": draw(st.one_of(st.just(0), st.integers(0, longest - 1))),
        "fraction": draw(st.integers(0, 8)),
        "log2": draw(st.integers(0, 1)),
    }


CHANCE = st.sampled_from([0.2, 0.6, 1.0])


@given(
    tasks=st.lists(task_of(4), min_size=1, max_size=2),
    chances=st.tuples(CHANCE, CHANCE, CHANCE),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25)
def test_softmax_equals_golden(
    tasks: list[Task], chances: tuple[float, float, float], seed: int
) -> None:
    check(tasks, chances, seed)


@given(task=task_of(16), seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_wide_words(task: Task, seed: int) -> None:
    check([task], (1.0, 1.0, 1.0), seed, port_bits=256, lanes=64, weight_ports=4)


@given(task=task_of(8), seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_without_log2(task: Task, seed: int) -> None:
    check([task | {"log2": 0}], (1.0, 1.0, 1.0), seed, port_bits=128, lanes=32,
          log2_softmax=False)


def row_task(**changes: int) -> Task:
    """One row of two words and more if asked."""
    return {
        "tokens": 1, "heads": 1, "words": 2, "rounds": 2, "position": 7, "window": 0,
        "slope": 0, "fraction": 5, "log2": 0, "importance": 0,
    } | changes


@pytest.mark.parametrize("slope", [1, 12345, (1 << 24) - 1])
def test_longest_distance(slope: int) -> None:
    """A row whose position lies behind its scores sees all of them, as golden says."""
    last = (1 << 20) - 2
    check([
        row_task(position=last, tokens=2, slope=slope),
        row_task(position=last, tokens=2, slope=slope, window=last - 2),
    ], (1.0, 1.0, 1.0), slope)


def test_words_before_the_window_are_not_read() -> None:
    (cycles,) = check(
        [row_task(words=60, rounds=60, position=236, slope=99999, window=9)], (1.0, 1.0, 1.0), 3
    )
    assert cycles <= 60 + 3 + 52


def test_cost_of_a_row() -> None:
    """Short rows of a decode step: the division of a row runs beside the next row."""
    (one,) = check([row_task()], (1.0, 1.0, 1.0), 1)
    (eight,) = check([row_task(heads=8)], (1.0, 1.0, 1.0), 1)
    assert one <= 52, one
    assert eight - one <= 7 * 30, eight


@pytest.mark.parametrize("port", ["request", "operand", "scale_write"])
def test_offers_are_held(port: str, tmp_path: Path) -> None:
    dut = SoftmaxEngine(load_config(port_bits=64, lanes=16, operand_words=16))
    prove_engine(dut, dut.vector.request if port == "request" else getattr(dut, port), tmp_path)
