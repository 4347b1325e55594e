"""QUANTIZE instructions against the golden quantizer, with stalls on every port."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.golden.quantize import quantize
from hw.golden.sparsity import drop_positions
from hw.units.divider import Divider
from hw.units.quantize_engine import QuantizeEngine
from hw.units.quantize_lanes import QuantizeLanes
from tests.hw.engine_models import prove_engine, serve_reads, take_writes
from tests.hw.engines import (
    ExternalMemory,
    OperandStore,
    Traffic,
    VectorMemory,
    count,
    load_config,
    pack,
    record,
    run_tasks,
    watch_held,
)
from tests.hw.formal import prove_held
from tests.hw.streams import run


async def take_listed(ctx: Any, port: Any, words: list[tuple[int, int]]) -> None:
    """Collect the rounds that are put on the position lists."""
    while True:
        *_, valid, number, word = await ctx.tick().sample(port.valid, port.round, port.word)
        if valid:
            words.append((number, word))


def check(
    sizes: list[tuple[int, int, int, int]], chances: tuple[float, float, float], seed: int,
    sparse: bool = False, ordered: bool = False, **changes: Any,
) -> list[int]:
    """Run tasks of (rounds, tokens, heads, int4), one after the other; returns their cycles.

    sparse: with thresholds; single rows of int8 are listed. ordered: tokens by a random order.
    """
    small = {"port_bits": 64, "lanes": 16, "weight_ports": 1, "operand_words": 512}
    config = load_config(**small | changes)
    rng = np.random.default_rng(seed)
    width, chunks = config.word_elements, config.chunks_per_word
    vectors = rng.integers(-32767, 32768, (300, width)).astype("<i2")
    vectors >>= rng.integers(0, 16, (300, 1))
    vectors[rng.random(300) < 0.1] = 32767
    vectors[rng.random(300) < 0.1] = -32767
    if seed % 3 == 0:
        vectors[3:9] = 0
    image = b"\xee" * 64
    dirty = rng.integers(0, 256, (config.operand_words, width))
    expected = [pack(word, 8) for word in dirty]
    alpha_table: dict[int, int] = {}
    scale_table: dict[int, int] = {}
    listed: list[tuple[int, int]] = []
    order = np.random.default_rng([seed, 1]).integers(0, 9, 256)
    tasks, operands = [], 5
    for n, (rounds, tokens, heads, int4) in enumerate(sizes):
        rows = tokens * heads
        image += b"\xee" * (-len(image) % 64)
        # Heads lie beside each other, or above if tokens lie beside each other.
        stride, head_stride = (rounds * heads + n, rounds) if n == 0 else (rounds, rounds * tokens)
        source, alphas, scales = 3 + n, 4095 - rounds - n, 7 + 100 * n
        tasks.append({
            "address": len(image) // 64, "rounds": rounds, "tokens": tokens, "heads": heads,
            "source": source, "stride": stride, "head_stride": head_stride,
            "operands": operands, "alphas": alphas, "scales": scales, "int4": int4,
            "thresholds": int(sparse), "lists": int(sparse and rows == 1 and not int4),
            "ordered": int(ordered), "order": 3 * n,
        })
        factors = rng.integers(0, 5, rounds * chunks)
        packed = pack(factors, 4)
        size = -(-rounds * chunks * 4 // config.port_bits) * config.port_bytes
        image += packed.to_bytes(size, "little")
        places = order[3 * n:3 * n + tokens] if ordered else np.arange(tokens)
        starts = source + stride * places[:, None] + head_stride * np.arange(heads)
        x = vectors[starts.reshape(-1, 1) + np.arange(rounds)].reshape(rows, -1)
        q, peaks = quantize(
            x, factors.astype(np.uint8), 4 if int4 else 8
        )
        if sparse:
            thresholds = np.abs(vectors[rng.integers(0, 300, rounds)]).reshape(-1)
            image += thresholds.astype("<i2").tobytes()
            q = drop_positions(q, x, thresholds, config.vector_length)
        for r in range(rounds):
            alpha_table[alphas + r] = pack(factors[r * chunks:(r + 1) * chunks], 3)
        for row in range(rows):
            scale_table[scales + row] = int(peaks[row])
        words = q.reshape(rows, rounds, width)
        if tasks[-1]["lists"]:
            listed += [(r, pack(word, 8)) for r, word in enumerate(words[0])]
        if int4:
            filled = np.zeros((rows + rows % 2, rounds, width), np.int8)
            filled[:rows] = words
            words = (filled[0::2] & 15) | (filled[1::2] << 4)
        for row, row_words in enumerate(words):
            for r, word in enumerate(row_words):
                expected[operands + r * len(words) + row] = pack(word, 8)
        operands += rounds * len(words) + 3

    dut = QuantizeEngine(config)
    memory = ExternalMemory(image, Traffic(seed, chances[0]))
    vector = VectorMemory([pack(word, 16) for word in vectors], Traffic(seed + 1, chances[1]))
    store = OperandStore([pack(word, 8) for word in dirty], Traffic(seed + 2, chances[2]))
    totals: dict[str, int] = {}
    alpha_writes: dict[int, int] = {}
    scale_writes: dict[int, int] = {}
    got_listed: list[tuple[int, int]] = []
    cycles = run_tasks(dut, tasks, [
        partial(serve_reads, en=dut.order.en, key=dut.order.address, data=dut.order.data,
                content=lambda key: int(order[key]), traffic=Traffic(seed, 1.0)),
        partial(take_listed, port=dut.list_write, words=got_listed),
        partial(memory.serve, command=dut.command, words=dut.words),
        partial(vector.serve, port=dut.vector),
        partial(store.accept, port=dut.operand),
        partial(record, port=dut.alpha_write, table=alpha_writes),
        partial(take_writes, port=dut.scale_write, table=scale_writes,
                traffic=Traffic(seed + 3, chances[2])),
        partial(count, events=dut.events, totals=totals),
        *(partial(watch_held, port=port)
          for port in (dut.command, dut.vector.request, dut.operand, dut.scale_write)),
    ])
    assert scale_writes == scale_table
    assert alpha_writes == alpha_table
    assert store.words == expected
    assert got_listed == listed
    assert totals == {"quantize_steps": sum(r * t * h for r, t, h, _ in sizes)}
    return cycles


CHANCE = st.sampled_from([0.2, 0.6, 1.0])
SIZE = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 1))


@given(
    sizes=st.lists(SIZE, min_size=1, max_size=2),
    chances=st.tuples(CHANCE, CHANCE, CHANCE),
    simd_depth=st.sampled_from([2, 4]),
    sparse=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=20)
def test_quantize_equals_golden(
    sizes: list[tuple[int, int, int, int]], chances: tuple[float, float, float], simd_depth: int,
    sparse: bool, seed: int,
) -> None:
    check(sizes, chances, seed, sparse, simd_depth=simd_depth)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6), st.just(1), st.integers(0, 1)),
                   min_size=1, max_size=2),
    chances=st.tuples(CHANCE, CHANCE, CHANCE), seed=st.integers(0, 1000),
)
@settings(max_examples=10)
def test_rows_in_the_order_of_their_tokens(
    sizes: list[tuple[int, int, int, int]], chances: tuple[float, float, float], seed: int,
) -> None:
    check(sizes, chances, seed, ordered=True)


def test_order_costs_few_cycles() -> None:
    (plain,) = check([(5, 6, 1, 0)], (1.0, 1.0, 1.0), 2)
    (found,) = check([(5, 6, 1, 0)], (1.0, 1.0, 1.0), 2, ordered=True)
    assert found - plain <= 6 * 4


@pytest.mark.parametrize("int4", [0, 1])
def test_factors_fill_more_than_one_word(int4: int) -> None:
    tokens, rounds = 2, 75
    (cycles,) = check([(rounds, tokens, 1, int4)], (1.0, 1.0, 1.0), 5)
    assert cycles <= tokens * (2 * rounds + 40) + 20


@given(st.data())
@settings(max_examples=10)
def test_divider(draw: Any) -> None:
    quotient_bits, divisor_bits = draw.draw(st.sampled_from([(15, 19), (1, 1), (8, 4)]))
    dividend_bits = quotient_bits + draw.draw(st.integers(0, divisor_bits))
    sent, expected = [], []
    for _ in range(12):
        divisor = draw.draw(st.integers(1, (1 << divisor_bits) - 1))
        top = min((divisor << quotient_bits) - 1, (1 << dividend_bits) - 1)
        dividend = draw.draw(st.one_of(st.integers(0, top), st.just(top)))
        sent.append({"dividend": dividend, "divisor": divisor})
        expected.append(dividend // divisor)
    stalls = draw.draw(st.lists(st.integers(0, 20), max_size=6))
    dut = Divider(dividend_bits, divisor_bits, quotient_bits)
    assert run(dut, sent, len(sent), (), stalls) == expected


def test_offered_quotient_is_held(tmp_path: Path) -> None:
    prove_held(Divider(8, 5, 4), tmp_path)


def test_offered_word_is_held(tmp_path: Path) -> None:
    prove_held(QuantizeLanes(load_config(port_bits=64, lanes=16)), tmp_path)


@pytest.mark.parametrize("port", ["command", "request", "operand", "scale_write"])
def test_offers_are_held(port: str, tmp_path: Path) -> None:
    dut = QuantizeEngine(load_config(port_bits=64, lanes=16, operand_words=16))
    prove_engine(dut, dut.vector.request if port == "request" else getattr(dut, port), tmp_path)
