# amaranth: UnusedElaboratable=no
"""NORM instructions against the golden norm, with stalls on every port."""

from __future__ import annotations

from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import HardwareConfig
from hw.golden import residual
from hw.golden.norm import ROOT_BITS, normalize
from hw.units.divider import Divider
from hw.units.norm_engine import NormEngine
from hw.units.reciprocal_root import STEP_BITS, ReciprocalRoot
from hw.units.row_limits import norm_words_max, rope_words_max
from hw.units.square_root import SquareRoot
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
from tests.hw.streams import run


def parameters(
    rng: np.random.Generator, shape: dict[str, Any], columns: int, width: int
) -> tuple[dict[str, Any], bytes]:
    """Random arguments of `normalize` and their memory image."""
    shift = shape["shift"]
    weight, bias = np.zeros((2, shape["words"] * width), np.int16)
    weight[:columns] = rng.integers(-32768, 32768, columns)
    bias[:columns] = rng.integers(-32768, 32768, columns) >> shape["small_bias"]
    inverse, epsilon = round(2**31 / columns), int(rng.integers(1 << 40)) >> shape["epsilon"]
    header = bytes([shift, 0]) + columns.to_bytes(2, "little") + inverse.to_bytes(4, "little")
    header += epsilon.to_bytes(8, "little")
    words = np.stack([weight, bias]).reshape(2, -1, width).swapaxes(0, 1)
    arguments = {
        "weight": weight[:columns], "bias": bias[:columns], "shift": shift, "inverse": inverse,
        "epsilon": epsilon, "center": bool(shape["center"]),
    }
    return arguments, header.ljust(64, b"\xee") + words.astype("<i2").tobytes()


def row_values(rng: np.random.Generator, shape: dict[str, Any], rows: int) -> np.ndarray:
    """Random rows of very different sizes, some of them 0 or at the limit of their type."""
    bits = 31 if shape["wide"] else 15
    limit = (1 << bits) - 1
    x = rng.integers(-limit, limit + 1, (rows, shape["columns"]))
    x >>= rng.integers(0, bits, (rows, 1))
    x[rng.random(rows) < 0.1] = limit
    x[rng.random(rows) < 0.1] = -limit
    x[rng.random(rows) < 0.1] = 0
    return x.astype(np.int32 if shape["wide"] else np.int16)


def simulate(
    config: HardwareConfig, shapes: list[dict[str, Any]], seed: int, chances: tuple[float, float]
) -> list[int]:
    """Run instructions one after another and compare the vector memory; returns the cycles.

    shapes: tokens, heads, words, missing (elements of the last word that are absent), wide,
    center, in_place, shift, small_bias and epsilon (right shifts of random values).
    chances: of the aux port and of the vector memory to go on in a cycle.
    """
    rng = np.random.default_rng(seed)
    width = config.word_elements
    vectors = rng.integers(-32768, 32768, (1000, width)).astype(np.int16)
    expected = vectors.copy()
    image, tasks, place, written = b"", [], 3, 0
    for given_shape in shapes:
        shape = dict(given_shape)
        tokens, heads, words = shape["tokens"], shape["heads"], shape["words"]
        columns = shape["columns"] = max(1, words * width - shape["missing"])
        shape["in_place"] &= ~shape["wide"]
        image += b"\xee" * (-len(image) % 64)
        address = len(image) // 64
        arguments, lines = parameters(rng, shape, columns, width)
        image += lines

        def rows_at(
            base: int, length: int, tokens: int = tokens, heads: int = heads
        ) -> tuple[np.ndarray, dict[str, int]]:
            head_stride = length + int(rng.integers(3))
            stride = head_stride * heads + int(rng.integers(3))
            starts = base + np.add.outer(
                np.arange(tokens) * stride, np.arange(heads) * head_stride
            ).ravel()
            return starts, {"stride": stride, "head_stride": head_stride}

        length = words * (2 if shape["wide"] else 1)
        source, strides = rows_at(place, length)
        destination, destination_strides = source, strides
        if not shape["in_place"]:
            destination, destination_strides = rows_at(int(source[-1]) + length + 1, words)
        place = int(destination[-1]) + words + 2
        tasks.append({
            "address": address, "tokens": tokens, "heads": heads, "words": words,
            "source": int(source[0]), "destination": int(destination[0]), **strides,
            **{f"destination_{name}": value for name, value in destination_strides.items()},
            "wide": shape["wide"], "center": shape["center"],
        })
        x = row_values(rng, shape, len(source))
        filled = rng.integers(-9, 9, (len(x), words * width)).astype(x.dtype)
        filled[:, :columns] = x
        packed = residual.to_pairs(filled, width) if shape["wide"] else filled.reshape(
            len(x), words, width
        )
        y = np.zeros((len(x), words * width), np.int16)
        y[:, :columns] = normalize(x, **arguments)
        for row, start in enumerate(source):
            vectors[start:start + length] = expected[start:start + length] = packed[row]
        for row, start in enumerate(destination):
            expected[start:start + words] = y[row].reshape(words, width)
        written += words * len(x)

    memory = ExternalMemory(image, Traffic(seed, chances[0]))
    vector = VectorMemory([pack(row.tolist(), 16) for row in vectors], Traffic(seed, chances[1]))
    totals: dict[str, int] = {}
    dut = NormEngine(config)
    cycles = run_tasks(dut, tasks, [
        partial(memory.serve, command=dut.command, words=dut.words),
        partial(vector.serve, port=dut.vector_read),
        partial(vector.accept, port=dut.vector_write),
        partial(count, events=dut.events, totals=totals),
        *(partial(watch_held, port=port)
          for port in (dut.command, dut.vector_read.request, dut.vector_write)),
    ])
    assert vector.words == [pack(row.tolist(), 16) for row in expected]
    assert totals == {"norm_steps": written}
    assert len(memory.commands) == len(tasks)
    return cycles


ROWS: dict[str, Any] = {
    "tokens": 1, "heads": 1, "words": 4, "missing": 0, "wide": 0, "center": 0, "in_place": 0,
    "shift": 20, "small_bias": 4, "epsilon": 20,
}
SHAPE = st.fixed_dictionaries({
    "tokens": st.integers(1, 4), "heads": st.integers(1, 3), "words": st.integers(1, 6),
    "missing": st.integers(0, 3), "wide": st.integers(0, 1), "center": st.integers(0, 1),
    "in_place": st.integers(0, 1), "shift": st.integers(0, 63) | st.integers(14, 30),
    "small_bias": st.integers(0, 15), "epsilon": st.integers(0, 40),
})
CHANCE = st.sampled_from([0.3, 0.7, 1.0])


@settings(max_examples=15)
@given(
    shapes=st.lists(SHAPE, min_size=1, max_size=2), seed=st.integers(0, 999),
    chances=st.tuples(CHANCE, CHANCE),
)
def test_matches_golden(shapes, seed, chances):
    simulate(SMALL, shapes, seed, chances)


@pytest.mark.parametrize("port_bits", [128, 512])
def test_header_lines_of_wide_ports(port_bits):
    config = load_config(port_bits=port_bits, lanes=128, weight_ports=1)
    shape = ROWS | {"tokens": 2, "words": 2, "missing": 5, "center": 1}
    simulate(config, [shape, shape | {"wide": 1}], port_bits, (0.7, 0.7))


def test_one_element():
    simulate(SMALL, [ROWS | {"tokens": 8, "words": 1, "missing": 3, "center": 1, "wide": 1}], 3,
             (1, 1))


@settings(max_examples=6)
@given(shape=SHAPE, words=st.integers(1, 2), seed=st.integers(0, 999),
       chances=st.tuples(CHANCE, CHANCE))
def test_many_short_rows(shape, words, seed, chances):
    """More rows than are kept at a time, behind a row that they have to forget."""
    shape = shape | {"tokens": 7, "words": words}
    simulate(SMALL, [shape | {"tokens": 1, "in_place": 0}, shape], seed, chances)


@pytest.mark.parametrize("wide", [0, 1])
@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize("words", [1, 5, 16])
def test_cycles_of_a_row(words, center, wide):
    """A row costs its passes, or a root; a single one the latencies between its passes."""
    one = ROWS | {"words": words, "wide": wide, "center": center}
    rows = 8
    single, several = simulate(SMALL, [one, one | {"tokens": rows}], 0, (1, 1))
    row = max((1 + wide) * (3 + center) * words, ROOT_BITS // STEP_BITS + 2)
    assert several - single <= (rows - 1) * (row + 2 * center)
    assert single <= (1 + wide) * (3 + center) * words + 70


@settings(max_examples=10)
@given(st.lists(st.integers(0, 2**16 - 1) | st.integers(2**16 - 300, 2**16 - 1), max_size=20),
       st.lists(st.integers(0, 12), max_size=8), st.sampled_from([1, 2, 4]))
def test_square_root(radicands, stalls, step_bits):
    sent = [*radicands, 0, 1, 3, 4, 2**16 - 1, 255**2, 255**2 - 1]
    dut = SquareRoot(8, step_bits)
    assert run(dut, sent, len(sent), (), stalls) == [isqrt(value) for value in sent]


def test_steps_divide_the_bits():
    with pytest.raises(ValueError, match=r"^root_bits must be a multiple of 2, not 7$"):
        SquareRoot(7, step_bits=2)
    with pytest.raises(ValueError, match=r"^quotient_bits must be a multiple of 2, not 5$"):
        Divider(8, 4, 5, 2)


@pytest.mark.parametrize(("dividend_bits", "divisor_bits", "quotient_bits", "step_bits"), [
    (11, 5, 6, 1), (11, 5, 6, 2), (8, 4, 8, 4), (9, 4, 6, 3)])
def test_divider(dividend_bits, divisor_bits, quotient_bits, step_bits):
    rng = np.random.default_rng(step_bits)
    divisors = rng.integers(1, 1 << divisor_bits, 60)
    limits = np.minimum(divisors << quotient_bits, 1 << dividend_bits)
    dividends = np.where(rng.random(60) < 0.3, limits - 1, rng.integers(limits))
    dut = Divider(dividend_bits, divisor_bits, quotient_bits, step_bits)
    sent = [{"dividend": int(top), "divisor": int(bottom)}
            for top, bottom in zip(dividends, divisors, strict=True)]
    assert run(dut, sent, len(sent), (), (0, 3, 0)) == list(dividends // divisors)


@settings(max_examples=8)
@given(st.lists(st.integers(0, 57).flatmap(lambda bits: st.integers(0, 1 << bits)), max_size=8),
       st.sampled_from([(), (0, 0, 25)]), st.sampled_from([(), (40,), (0, 0, 0, 35)]))
def test_reciprocal_root(totals, gaps, stalls):
    """Roots overlap with divisions, whoever waits."""
    sent = [*totals, 0, 1, 2, 3, 2**32 - 1, 2**32, 2**58 - 1, 2**30, 2**31]
    expected = []
    for value in sent:
        total = max(value, 1)
        k = -((32 - total.bit_length()) // 2)
        root = isqrt((total >> 2 * k if k >= 0 else total << -2 * k) << 16)
        expected.append((2**40 // root, 16 + k))
    dut = ReciprocalRoot()
    received = run(dut, sent, len(sent), gaps, stalls)
    assert [(one.reciprocal, one.down) for one in received] == expected


def test_limits():
    assert norm_words_max(load_config("sim")) == 1024
    assert norm_words_max(load_config("tiny")) == 512
    assert norm_words_max(load_config(vector_words=100)) == 32
    assert rope_words_max(load_config("ecp5-85")) * 4 == 256


def test_lanes_are_one_module():
    text = convert(NormEngine(SMALL), "norm_engine")
    assert text.count("module norm_lane(") == 1
    assert text.count("  norm_lane ") == SMALL.word_elements


def test_offered_root_is_held(tmp_path: Path) -> None:
    dut = SquareRoot(4)
    prove_engine(dut, dut.o, tmp_path)


@pytest.mark.parametrize("port", ["vector_write", "command", "request"])
def test_offers_are_held(tmp_path: Path, port: str) -> None:
    dut = NormEngine(load_config(port_bits=64, lanes=16, vector_words=16))
    offered = dut.vector_read.request if port == "request" else getattr(dut, port)
    prove_engine(dut, offered, tmp_path)
