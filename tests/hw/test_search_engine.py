"""SEARCH instructions against the golden search, with stalls on every port."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.golden.search import search
from hw.units.search_engine import SearchEngine
from hw.verilog import convert
from tests.hw.engine_models import prove_engine
from tests.hw.engines import (
    ExternalMemory,
    OperandStore,
    Traffic,
    VectorMemory,
    count,
    load_config,
    pack,
    run_tasks,
    watch_held,
)


def check(
    sizes: list[tuple[int, int]], l2: int, chances: tuple[float, float, float], seed: int,
    **changes: Any,
) -> list[int]:
    """Run a task for each (rounds, tokens), one after the other; returns the cycles of each."""
    config = load_config(**{"port_bits": 64, "lanes": 16, **changes})
    rng = np.random.default_rng(seed)
    v, codes, width = config.vector_length, config.act_codes_max, config.word_elements
    vectors = rng.choice([-32767, -9, 2, 7, 32767], (200, width)).astype("<i2")
    image = b"\xee" * 64
    expected = [0] * config.operand_words
    tasks, operands = [], 5
    for n, (rounds, tokens) in enumerate(sizes):
        image += b"\xee" * (-len(image) % 64)
        stride, source = rounds + n, 3 + n
        tasks.append({
            "address": len(image) // 64, "rounds": rounds, "tokens": tokens, "source": source,
            "stride": stride, "operands": operands, "l2": l2,
        })
        centroids = rng.choice([-32767, -5, 0, 9, 32767], (rounds, codes, width)).astype("<i2")
        image += centroids.tobytes()
        for r in range(rounds):
            x = vectors[source + r + stride * np.arange(tokens)]
            book = centroids[r].reshape(codes, -1, v).swapaxes(0, 1)
            found = search(x.reshape(tokens, -1, v), np.ascontiguousarray(book), bool(l2))
            for t in range(tokens):
                expected[operands + r * tokens + t] = pack(found[t], 8 * v)
        operands += rounds * tokens + 3

    dut = SearchEngine(config)
    memory = ExternalMemory(image, Traffic(seed, chances[0]))
    vector = VectorMemory([pack(word, 16) for word in vectors], Traffic(seed + 1, chances[1]))
    store = OperandStore([0] * config.operand_words, Traffic(seed + 2, chances[2]))
    totals: dict[str, int] = {}
    cycles = run_tasks(dut, tasks, [
        partial(memory.serve, command=dut.command, words=dut.words),
        partial(vector.serve, port=dut.vector),
        partial(store.accept, port=dut.operand),
        partial(count, events=dut.events, totals=totals),
        *(partial(watch_held, port=port)
          for port in (dut.command, dut.vector.request, dut.operand)),
    ])
    assert store.words == expected
    assert store.writes == sum(rounds * tokens for rounds, tokens in sizes)
    assert totals == {
        "search_steps": store.writes,
        "centroid_words": codes * sum(rounds for rounds, _ in sizes),
    }
    return cycles


CHANCE = st.sampled_from([0.2, 0.6, 1.0])


@given(
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 7)), min_size=1, max_size=2),
    l2=st.integers(0, 1),
    chances=st.tuples(CHANCE, CHANCE, CHANCE),
    shape=st.sampled_from([(1, 2), (2, 3), (2, 1)]),
    vector_length=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=15)
def test_search_equals_golden(
    sizes: list[tuple[int, int]], l2: int, chances: tuple[float, float, float],
    shape: tuple[int, int], vector_length: int, seed: int,
) -> None:
    check(sizes, l2, chances, seed, chains=shape[0], chain_length=shape[1],
          vector_length=vector_length, weight_ports=1)


@pytest.mark.parametrize("tokens", [1, 30])
def test_loading_and_search_overlap(tokens: int) -> None:
    rounds, codes = 4, 8
    (cycles,) = check([(rounds, tokens)], 0, (1.0, 1.0, 1.0), 1)
    assert cycles <= codes + rounds * (max(codes, tokens) + 6) + 10


def test_repeated_blocks_become_one_module_each() -> None:
    config = load_config()
    text = convert(SearchEngine(config), "search_engine")
    for name in ("centroid_search", "argmin_tree", "distance_chain", "distance_unit"):
        assert len([line for line in text.splitlines() if line.startswith(f"module {name}(")]) == 1
    instances = [line for line in text.splitlines() if line.startswith("  centroid_search ")]
    assert len(instances) == config.positions


@pytest.mark.parametrize("port", ["command", "request", "operand"])
def test_offers_are_held(port: str, tmp_path: Path) -> None:
    dut = SearchEngine(load_config(
        port_bits=64, lanes=16, weight_ports=1, chains=2, chain_length=1, l2_search=False,
        operand_words=16,
    ))
    prove_engine(dut, dut.vector.request if port == "request" else getattr(dut, port), tmp_path)
