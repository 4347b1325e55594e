"""Attention, norms and head on golden: what the instructions compute and what they touch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.image import layout
from compiler.image.access import Space, accesses
from compiler.image.cache import append_addresses, append_extent
from compiler.image.weights import WeightFormat, pack_weights, unpack_weights
from hw.fixed import saturate16
from hw.golden import residual
from hw.golden.cache import cache_quantize
from hw.golden.hadamard import hadamard
from hw.golden.norm import normalize
from hw.golden.rope import rotate
from hw.golden.softmax import log2_weights, softmax
from hw.isa import FIELDS, LINE_BYTES, DrainMode, Opcode, SimdMode
from hw.presets import load_hardware
from sim.functional import Machine, data_mask

TINY, SIM = load_hardware("tiny"), load_hardware("sim")
N = TINY.word_elements
CACHE = 1 << 13
"""Byte address of the cache in these tests; the tables lie below."""

configs = st.sampled_from([TINY, SIM])
seeds = st.integers(0, 2**32)


def machine_of(rng, config=TINY, memory_bytes=1 << 16):
    """Random stores; the memory is zero."""
    machine = Machine(np.zeros(memory_bytes, np.uint8), config)
    machine.vector[:] = rng.integers(-32767, 32768, machine.vector.shape)
    machine.operand[:] = rng.integers(0, 256, machine.operand.shape)
    machine.accumulator[:] = rng.integers(-2**20, 2**20, machine.accumulator.shape)
    machine.scales[:] = rng.integers(1, 2**15, machine.scales.shape)
    return machine


def put(machine, address, data):
    machine.memory[address:address + len(data)] = np.frombuffer(data, np.uint8)


def fields_of(opcode, **values):
    """All fields, 0 where not given."""
    return {**dict.fromkeys(FIELDS[opcode], 0), "wait": 0, "post": 0, "base": 0, **values}


def stores_of(machine):
    return {
        Space.VECTOR: machine.vector, Space.OPERAND: machine.operand,
        Space.SCALES: machine.scales,
        Space.ACCUMULATOR: machine.accumulator.reshape(-1, machine.config.lanes),
        Space.MEMORY: machine.memory.reshape(-1, LINE_BYTES),
    }


def run(machine, opcode, fields):
    """Run one instruction; it writes only what it declares, and its beats say what it wrote."""
    before = {space: store.copy() for space, store in stores_of(machine).items()}
    machine.clear()
    machine.step(opcode, fields)
    touched = accesses(opcode, fields, machine.config)
    for space, store in stores_of(machine).items():
        written = np.zeros(len(store), bool)
        for access in touched:
            if access.space == space and access.write:
                written[access.words()] = True
        assert np.array_equal(store[~written], before[space][~written])
    for tap, parts in machine.parts.items():
        beats = machine.collected(tap)
        for k in range(len(beats)):
            address, data = int(beats.address[k]), beats.data[k]
            mask = data_mask(beats.mask[k:k + 1])[0] if beats.mask is not None else np.uint8(255)
            assert not (data & ~mask).any()
            if tap == "store":
                part = before[Space.MEMORY].reshape(-1)[address:address + len(data)]
            elif tap in ("search", "quantize", "softmax"):
                part = before[Space.OPERAND][address]
            else:
                part = before[Space.VECTOR].view(np.uint8)[address]
            part[:] = (part & ~mask) | data
        assert len(parts) <= 1
    for space in (Space.VECTOR, Space.OPERAND, Space.MEMORY):
        assert np.array_equal(before[space], stores_of(machine)[space])


def forget_undeclared(machine, opcode, fields, rng):
    """Garbage in every vector word that the instruction does not say it reads."""
    read = np.zeros(len(machine.vector), bool)
    for access in accesses(opcode, fields, machine.config):
        if access.space == Space.VECTOR and not access.write:
            read[access.words()] = True
    machine.vector[~read] = rng.integers(-999, 999, machine.vector[~read].shape)


@settings(max_examples=20)
@given(seeds, configs, st.booleans(), st.integers(1, 3), st.integers(1, 2), st.data())
def test_appended_rows_are_the_weights_of_a_simd(seed, config, transpose, words, rounds, data):
    rng = np.random.default_rng(seed)
    machine = machine_of(rng, config, 1 << 18)
    group = rounds * config.word_elements
    if transpose:
        form = WeightFormat(config=config, blocks=1, groups=3, group_rounds=rounds,
                            weight_bits=8, has_min=False)
        limit, part_words = group, min(words, config.lanes // config.word_elements)
        unit = form.group_bytes
    else:
        form = WeightFormat(config=config, blocks=3, groups=words, group_rounds=rounds,
                            weight_bits=8, has_min=False)
        limit, part_words = config.lanes, words * rounds
        unit = form.group_bytes * form.groups
    heads = data.draw(st.integers(1, 3))
    columns, inputs = form.blocks * config.lanes, form.groups * group
    expected = np.zeros((heads, columns, inputs), np.int8)
    ones = np.ones((form.groups, columns), np.int16)
    cache_stride = form.port_stride * config.weight_ports
    for head in range(heads):
        put(machine, CACHE + head * cache_stride * LINE_BYTES,
            pack_weights(form, expected[head], ones, None))
    elements = part_words * config.word_elements
    for part in range(3):
        slot = data.draw(st.integers(0, limit - 1))
        tokens = data.draw(st.integers(1, min(limit - slot, config.tokens_max)))
        fields = fields_of(
            Opcode.APPEND, address=CACHE // LINE_BYTES, port_stride=form.port_stride,
            offset=part * unit // config.port_bytes, tokens=tokens, words=part_words, source=7,
            heads=heads, stride=heads * part_words + 1, head_stride=part_words, slot=slot,
            cache_stride=cache_stride, group_rounds=rounds,
            group_words=form.group_bytes // config.port_bytes, transpose=int(transpose))
        forget_undeclared(machine, Opcode.APPEND, fields, rng)
        x = machine.vector[7 + np.arange(tokens)[:, None] * (heads * part_words + 1)
                           + np.arange(heads * part_words)].reshape(tokens, heads, -1)
        run(machine, Opcode.APPEND, fields)
        if transpose:
            at = part * group + slot
            expected[:, :elements, at:at + tokens] = cache_quantize(x, 8).transpose(1, 2, 0)
        else:
            at = part * config.lanes + slot
            expected[:, at:at + tokens] = cache_quantize(x, 8).swapaxes(0, 1)
        extent, address = append_extent(fields, config), append_addresses(fields, config)
        base = CACHE + extent.first_port * form.port_stride * LINE_BYTES
        last = CACHE + extent.last_port * form.port_stride * LINE_BYTES + extent.last
        assert base + extent.first <= address[0].min()
        assert address[0].max() < last
    for head in range(heads):
        region = machine.memory[CACHE + head * cache_stride * LINE_BYTES:]
        weights, scales, _ = unpack_weights(form, region, form.port_stride)
        assert np.array_equal(weights, expected[head])
        assert (scales == 1).all()


@settings(max_examples=10)
@given(seeds, st.booleans(), st.integers(1, 2), st.integers(1, 3))
def test_volatile_simd_reads_what_is_there_now(seed, log2, tokens, groups):
    rng = np.random.default_rng(seed)
    machine = machine_of(rng)
    form = WeightFormat(config=TINY, blocks=2, groups=groups, group_rounds=2, weight_bits=8,
                        has_min=False)
    mode = SimdMode.W8L4 if log2 else SimdMode.W8A8
    fields = fields_of(
        Opcode.SIMD, address=CACHE // LINE_BYTES, port_stride=form.port_stride, mode=mode,
        rounds=2 * groups, tokens=tokens, blocks=2, group_rounds=2, shift=3, operands=5,
        accumulator=1, first=1, plain=1, volatile=1)
    machine.alphas[:] = 3
    operand = machine.operand[5 + np.arange(2 * groups * tokens)]
    if log2:
        operand &= 15
        machine.operand[5 + np.arange(len(operand))] = operand
    x = operand.reshape(2 * groups, tokens, -1).transpose(1, 0, 2).reshape(tokens, -1)
    values = log2_weights(x) if log2 else x.view(np.int8).astype(np.int64)
    for _ in range(2):
        weights = rng.integers(-127, 128, (2 * TINY.lanes, 2 * groups * N)).astype(np.int8)
        put(machine, CACHE, pack_weights(
            form, weights, np.ones((groups, 2 * TINY.lanes), np.int16), None))
        run(machine, Opcode.SIMD, fields)
        parts = values.reshape(tokens, groups, -1), weights.reshape(-1, groups, 2 * N)
        dots = np.einsum("tgi,mgi->tgm", *[part.astype(np.int64) for part in parts])
        expected = ((dots + 4) >> 3).sum(axis=1)
        sums = machine.accumulator[0, 1:1 + 2 * tokens].reshape(tokens, -1)
        assert np.array_equal(sums, expected)


def drain_fields(**values):
    return fields_of(Opcode.DRAIN, **{
        "tokens": 1, "heads": 1, "blocks": 2, "words": 5, "accumulator": 3, "destination": 100,
        "stride": 40, "head_stride": 12, "token_scale": 1, "scales": 9, **values})


@settings(max_examples=15)
@given(seeds, st.integers(1, 2), st.integers(1, 3), st.booleans(), st.booleans(), st.booleans())
def test_drain_rows_of_heads(seed, tokens, heads, uniform, compact, wide):
    rng = np.random.default_rng(seed)
    machine = machine_of(rng)
    count = N if uniform else 5 * N
    shared = N if compact else count
    zero, multiplier, bias = (rng.integers(-999, 999, shared), rng.integers(0, 999, count),
                              rng.integers(-99, 99, shared))
    put(machine, 0, layout.pack_parameters(zero, multiplier, bias, count // N, TINY, shift1=8,
                                           shift2=11, bias_shift=4, compact=compact))
    fields = drain_fields(tokens=tokens, heads=heads, uniform=int(uniform), compact=int(compact),
                          mode=int(DrainMode.RESIDUAL if wide else DrainMode.VECTOR))
    rows = tokens * heads
    step = 2 if wide else 1
    address = np.array([100 + t * 40 + h * 12 for t in range(tokens) for h in range(heads)])
    address = address[:, None] + np.arange(5 * step)
    old = machine.vector[address]
    sums = machine.accumulator[0, 3:3 + 2 * rows].reshape(rows, -1)[:, :5 * N].astype(np.int64)
    zero, multiplier, bias = (np.resize(part, 5 * N) for part in (zero, multiplier, bias))
    stage = ((sums + zero) * multiplier + 128) >> 8
    scale = machine.scales[9:9 + rows, None].copy()
    y = ((stage * scale + 1024) >> 11) + (bias << 4)
    y = np.clip(y, -(2**31 - 1), 2**31 - 1)
    run(machine, Opcode.DRAIN, fields)
    if wide:
        total = residual.from_pairs(old).astype(np.int64) + y
        assert np.array_equal(residual.from_pairs(machine.vector[address]),
                              np.clip(total, -(2**31 - 1), 2**31 - 1))
        assert machine.collected("drain").address[:4].tolist() == (
            [100, 101, 112, 113] if heads > 1 else [100, 101, 140, 141] if tokens > 1 else
            [100, 101, 102, 103])
    else:
        assert np.array_equal(machine.vector[address].reshape(rows, -1), saturate16(y))


def test_the_largest_logit_of_several_drains():
    machine = machine_of(np.random.default_rng(0))
    ones = np.ones(5 * N, np.int32)
    put(machine, 0, layout.pack_parameters(0 * ones, ones, 0 * ones, 5, TINY, shift1=0, shift2=0))
    fields = drain_fields(mode=int(DrainMode.ARGMAX), token_scale=0)
    machine.accumulator[0, 3:5] = -5000
    for fresh, column, place, value, expected in (
        (1, 0, 4, -70, (4, -70)), (0, 64, 2, -70, (4, -70)), (0, 128, 39, 70000, (167, 70000)),
        (1, 0, 0, -9, (0, -9)),
    ):
        sums = machine.accumulator[0, 3:5].reshape(-1)
        sums[:] = -5000
        sums[place] = value
        run(machine, Opcode.DRAIN, {**fields, "fresh": fresh, "column": column})
        word = machine.vector[100]
        assert word[:4].view("<i4").tolist() == list(expected)
        assert not word[4:].any()


@settings(max_examples=15)
@given(seeds, st.integers(1, 3), st.integers(1, 3), st.booleans(), st.booleans(), st.booleans())
def test_norm_of_heads(seed, tokens, heads, wide, center, in_place):
    rng = np.random.default_rng(seed)
    machine, columns, words = machine_of(rng), 2 * N - 3, 2
    weight, bias = (rng.integers(-999, 999, columns).astype(np.int16) for _ in range(2))
    inverse = round(2**31 / columns)
    put(machine, 64, layout.pack_norm(weight, bias, 16, inverse, 1000, columns, words, TINY))
    in_place = in_place and not wide
    fields = fields_of(
        Opcode.NORM, address=1, tokens=tokens, heads=heads, words=words, source=10, stride=30,
        head_stride=5, destination=10 if in_place else 300, destination_stride=30,
        destination_head_stride=5, wide=int(wide), center=int(center))
    forget_undeclared(machine, Opcode.NORM, fields, rng)
    rows = np.array([t * 30 + h * 5 for t in range(tokens) for h in range(heads)])[:, None]
    raw = machine.vector[10 + rows + np.arange(words * (1 + wide))]
    x = residual.from_pairs(raw) if wide else raw.reshape(len(rows), -1)
    if wide:
        # The magnitude -2**31 never occurs.
        x = np.maximum(x, -(2**31 - 1))
    run(machine, Opcode.NORM, fields)
    y = machine.vector[fields["destination"] + rows + np.arange(words)].reshape(len(rows), -1)
    assert np.array_equal(
        y[:, :columns],
        normalize(x[:, :columns], weight, bias, 16, inverse, 1000, center))
    assert not y[:, columns:].any()


@settings(max_examples=10)
@given(seeds, st.integers(1, 3), st.integers(1, 3))
def test_rope_turns_all_heads_of_a_token_alike(seed, tokens, heads):
    rng = np.random.default_rng(seed)
    machine = machine_of(rng)
    table = rng.integers(-2**14, 2**14, (tokens, 2 * N)).astype(np.int16)
    put(machine, 64, layout.pack_rotations(table, 2, TINY))
    fields = fields_of(Opcode.ROPE, address=1, tokens=tokens, heads=heads, words=2, source=10,
                       stride=20, head_stride=3)
    address = [10 + t * 20 + h * 3 + w for t in range(tokens) for h in range(heads)
               for w in range(2)]
    x = machine.vector[address].reshape(tokens * heads, -1)
    run(machine, Opcode.ROPE, fields)
    expected = np.concatenate([
        rotate(x[t * heads:(t + 1) * heads], np.tile(table[t], (heads, 1)))
        for t in range(tokens)])
    assert np.array_equal(machine.vector[address].reshape(tokens * heads, -1), expected)
    assert machine.collected("rope").address.tolist() == address


@settings(max_examples=10)
@given(seeds, st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(0, 4))
def test_hadamard_rotates_every_block(seed, tokens, heads, length_bits, shift):
    rng = np.random.default_rng(seed)
    machine, words = machine_of(rng), 8
    fields = fields_of(Opcode.HADAMARD, tokens=tokens, heads=heads, words=words, source=10,
                       stride=40, head_stride=9, length_bits=length_bits, shift=shift)
    forget_undeclared(machine, Opcode.HADAMARD, fields, rng)
    address = [10 + t * 40 + h * 9 + w for t in range(tokens) for h in range(heads)
               for w in range(words)]
    x = machine.vector[address].reshape(tokens * heads, -1)
    run(machine, Opcode.HADAMARD, fields)
    assert np.array_equal(machine.vector[address].reshape(tokens * heads, -1),
                          hadamard(x, length_bits, shift))
    assert machine.collected("hadamard").address.tolist() == address


@settings(max_examples=10)
@given(seeds, st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 3))
def test_softmax_rows(seed, tokens, heads, log2, more):
    rng = np.random.default_rng(seed)
    machine, words, rows = machine_of(rng), 3, tokens * heads
    position = int(rng.integers(0, words * N - tokens + 1))
    fields = fields_of(
        Opcode.SOFTMAX, tokens=tokens, heads=heads, words=words, source=50, stride=4, operands=20,
        rounds=words + more, scales=30, position=position, window=5, slope=1 << 14, fraction=8,
        log2=int(log2))
    forget_undeclared(machine, Opcode.SOFTMAX, fields, rng)
    scores = machine.vector[50 + np.arange(rows)[:, None] * 4 + np.arange(words)]
    expected, reciprocals = softmax(
        scores.reshape(rows, -1), position + np.arange(rows) // heads, 5, 1 << 14, 8, log2)
    run(machine, Opcode.SOFTMAX, fields)
    written = machine.operand[20:20 + rows * (words + more)]
    by_row = written.reshape(words + more, rows, -1).transpose(1, 0, 2).reshape(rows, -1)
    assert np.array_equal(by_row[:, :words * N], expected)
    assert (by_row[:, words * N:] == (15 if log2 else 0)).all()
    assert np.array_equal(machine.scales[30:30 + rows], reciprocals)


@settings(max_examples=10)
@given(seeds, st.integers(1, 4), st.booleans(), st.booleans())
def test_gather_of_tokens_and_positions(seed, tokens, direct, add):
    rng = np.random.default_rng(seed)
    machine = machine_of(rng)
    table = rng.integers(-32767, 32768, (20, 3 * N)).astype(np.int16)
    put(machine, 4096, layout.pack_embedding(table, 3, TINY))
    ids = rng.integers(0, 20, 5)
    for line, token in enumerate(ids):
        put(machine, line * LINE_BYTES, np.array([token, 77], "<u4").tobytes())
    fields = fields_of(
        Opcode.GATHER, address=4096 // LINE_BYTES, ids=1, tokens=tokens, words=3, destination=9,
        stride=8, shift=12, add=int(add), direct=int(direct))
    address = 9 + np.arange(tokens)[:, None] * 8 + np.arange(6)
    old = residual.from_pairs(machine.vector[address]).astype(np.int64)
    run(machine, Opcode.GATHER, fields)
    chosen = table[1:1 + tokens] if direct else table[ids[1:1 + tokens]]
    expected = (chosen.astype(np.int64) << 12) + (old if add else 0)
    assert np.array_equal(residual.from_pairs(machine.vector[address]),
                          np.clip(expected, -(2**31 - 1), 2**31 - 1))


@settings(max_examples=10)
@given(seeds, st.integers(1, 2), st.integers(1, 3), st.booleans())
def test_quantize_rows_of_heads(seed, tokens, heads, int4):
    rng = np.random.default_rng(seed)
    machine = machine_of(rng)
    put(machine, 64, layout.pack_factors(np.zeros(2 * TINY.chunks_per_word, np.uint8), TINY))
    common = {"address": 1, "rounds": 2, "operands": 30, "alphas": 4, "scales": 5,
              "int4": int(int4)}
    fields = fields_of(Opcode.QUANTIZE, **common, tokens=tokens, heads=heads, source=10,
                       stride=20, head_stride=3)
    run(machine, Opcode.QUANTIZE, fields)
    words, scales = machine.operand.copy(), machine.scales.copy()
    rows = [10 + t * 20 + h * 3 for t in range(tokens) for h in range(heads)]
    machine.vector[500:500 + 2 * len(rows)] = machine.vector[
        [row + w for row in rows for w in range(2)]]
    run(machine, Opcode.QUANTIZE, fields_of(
        Opcode.QUANTIZE, **common, tokens=len(rows), heads=1, source=500, stride=2))
    assert np.array_equal(machine.operand, words)
    assert np.array_equal(machine.scales, scales)


@pytest.mark.parametrize("opcode", [Opcode.GATHER, Opcode.APPEND])
def test_beyond_the_memory(opcode):
    machine = machine_of(np.random.default_rng(0), TINY, 4096)
    fields = fields_of(
        opcode, address=63, tokens=1, heads=1, words=8, group_rounds=8, direct=1, ids=3)
    with pytest.raises(ValueError, match=r"beyond the 4096 bytes of the image$"):
        machine.step(opcode, fields)
