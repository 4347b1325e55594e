"""Memory layouts against an independent reading of docs/architecture.md, and round trips."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.image import layout
from compiler.image.records import RecordFormat, pack_records, unpack_records
from compiler.image.weights import WeightFormat, pack_weights, unpack_weights
from hw.golden.dequant import dequantize32
from hw.isa import LINE_BYTES, LutMode
from hw.presets import load_hardware
from tests.hw import lut_records, simd_records

TINY, SIM = load_hardware("tiny"), load_hardware("sim")
NARROW, THREE = lut_records.MINI, lut_records.THREE

modes = st.sampled_from([LutMode.STREAM, LutMode.GATHER, LutMode.ROWGEN])


@settings(max_examples=30)
@given(st.integers(0, 2**32),
       st.sampled_from([TINY, SIM, NARROW, THREE, lut_records.SHARED, lut_records.SHARED_THREE]),
       modes, st.booleans(), st.sampled_from([1, 2, 4, 16]), st.integers(1, 3), st.integers(1, 3),
       st.integers(1, 3))
def test_records(seed, config, mode, int4, slices, groups, group_blocks, rounds):
    rng = np.random.default_rng(seed)
    if config.shared_ports and mode == LutMode.GATHER:
        mode = LutMode.ROWGEN
    if not config.wide_indices:
        slices = 1
    positions, entries = rounds * config.positions, config.row_entries * slices
    int4 = int4 and mode != LutMode.ROWGEN
    columns = groups * group_blocks * config.lanes
    if mode == LutMode.ROWGEN:
        shape = positions, groups, entries, config.vector_length
        rows = rng.integers(-128, 128, shape).astype(np.int8)
    else:
        shape = positions, int(rng.integers(1, 6)), groups, entries
        rows = rng.integers(0, 16 if int4 else 256, shape, dtype=np.uint8)
    indices = rng.integers(0, entries, (positions, columns), dtype=np.uint8)
    expected = lut_records.pack_records(
        config, mode, rows, indices, group_blocks * config.lanes, int4=int4)
    fields = {**expected.fields, "blocks_per_group": group_blocks}
    form = RecordFormat.of(fields, config)
    exact = dataclasses.replace(form, codes=1 if mode == LutMode.ROWGEN else shape[1])
    assert pack_records(exact, rows, indices) == expected.memory
    for name in ("table_words", "record_words", "rows_per_code", "bundle_words"):
        assert getattr(exact, name) == getattr(form, name) == fields[name]
    tables, back = unpack_records(form, expected.memory, rounds, fields["port_stride"])
    assert np.array_equal(tables[:, :rows.shape[1]], rows)
    assert np.array_equal(back, indices)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from([TINY, SIM]), st.booleans(), st.booleans(),
       st.integers(1, 3), st.integers(1, 3), st.integers(1, 2))
def test_weights(seed, config, int8, has_min, blocks, groups, group_rounds):
    rng = np.random.default_rng(seed)
    group, limit = group_rounds * config.word_elements, 128 if int8 else 8
    columns = blocks * config.lanes
    weights = rng.integers(-limit, limit, (columns, groups * group)).astype(np.int8)
    scales, minima = rng.integers(-32768, 32768, (2, groups, columns)).astype(np.int16)
    form = WeightFormat(config=config, blocks=blocks, groups=groups, group_rounds=group_rounds,
                        weight_bits=8 if int8 else 4, has_min=has_min)
    regions = simd_records.weight_regions(
        config, weights, scales, minima if has_min else None, group, int8)
    data = pack_weights(form, weights, scales, minima if has_min else None)
    assert data == b"".join(regions)
    assert len(data) == form.port_stride * LINE_BYTES * config.weight_ports
    back = unpack_weights(form, data, form.port_stride)
    for actual, given_ in zip(back, (weights, scales, minima * has_min), strict=True):
        assert np.array_equal(actual, given_)


def test_centroids_word_c_of_a_round_is_centroid_c_of_every_position():
    rng = np.random.default_rng(0)
    centroids = rng.integers(-99, 99, (TINY.positions + 1, 3, 2)).astype(np.int16)
    data = layout.pack_centroids(centroids, TINY)
    words = np.frombuffer(data, "<i2").reshape(2, TINY.act_codes_max, TINY.word_elements)
    assert words[0, 2].tolist() == centroids[:TINY.positions, 2].reshape(-1).tolist()
    assert words[0, 5].tolist() == words[0, 0].tolist()
    assert not words[1, :, 2:].any()
    back = layout.unpack_centroids(data, 2, TINY)
    assert np.array_equal(back[:TINY.positions + 1, :3], centroids)


def test_factors_low_nibble_first():
    alphas = np.array([4, 3, 2, 1], np.uint8)
    data = layout.pack_factors(alphas, TINY)
    assert data[:2] == bytes([0x34, 0x12])
    assert len(data) == LINE_BYTES
    assert layout.unpack_factors(data, 2, TINY).tolist() == [[4, 3], [2, 1]]


def test_parameters_are_four_words_for_each_vector_word():
    n = TINY.word_elements + 3
    zero = (np.arange(n) - 2**31).astype(np.int32)
    multiplier, bias = np.arange(n, dtype=np.int16) + 100, -np.arange(n, dtype=np.int16)
    data = layout.pack_parameters(zero, multiplier, bias, 2, TINY, shift1=3, shift2=40,
                                  bias_shift=7)
    header, rest = data[:LINE_BYTES], data[LINE_BYTES:]
    assert header == bytes([3, 40, 7]).ljust(LINE_BYTES, b"\0")
    words = [rest[i * TINY.port_bytes:(i + 1) * TINY.port_bytes] for i in range(8)]
    assert np.frombuffer(words[0] + words[1], "<i4").tolist() == zero[:8].tolist()
    assert np.frombuffer(words[3], "<i2").tolist() == multiplier[:8].tolist()
    assert np.frombuffer(words[6], "<i2").tolist() == [*bias[8:].tolist(), 0, 0, 0, 0, 0]
    back = layout.unpack_parameters(data, 2, TINY)
    assert (back.shift1, back.shift2, back.bias_shift) == (3, 40, 7)
    for actual, given_ in ((back.zero, zero), (back.multiplier, multiplier), (back.bias, bias)):
        assert actual[:n].tolist() == given_.tolist()
        assert not actual[n:].any()


def test_compact_parameters_share_zero_and_bias():
    n = 3 * TINY.word_elements
    zero, bias = np.full(n, -70000, np.int32), np.full(n, 5, np.int16)
    multiplier = np.arange(n, dtype=np.int16)
    data = layout.pack_parameters(zero, multiplier, bias, 3, TINY, shift1=3, shift2=40,
                                  compact=True)
    size = TINY.port_bytes
    assert len(data) == layout.align(LINE_BYTES + 6 * size, LINE_BYTES)
    assert np.frombuffer(data, "<i2", n, LINE_BYTES + 3 * size).tolist() == multiplier.tolist()
    back = layout.unpack_parameters(data, 3, TINY, compact=True)
    for actual, given_ in ((back.zero, zero), (back.multiplier, multiplier), (back.bias, bias)):
        assert actual.tolist() == given_.tolist()


def test_uniform_parameters_serve_every_word():
    data = layout.pack_uniform(77, TINY, shift1=1, shift2=2)
    assert len(data) == LINE_BYTES + 4 * TINY.port_bytes
    back = layout.unpack_parameters(data, 3, TINY, uniform=True)
    assert back.multiplier.tolist() == [77] * 3 * TINY.word_elements
    assert not back.zero.any()
    assert not back.bias.any()


@given(st.integers(-2**31, 2**31 - 1), st.integers(0, 32767), st.integers(-32767, 32767),
       st.integers(0, 63), st.integers(0, 63), st.integers(0, 2**24 - 1))
def test_filled_up_columns_never_have_the_largest_logit(total, multiplier, bias, s1, s2, scale):
    """Their sums are 0, and the lowest column wins a tie."""
    data = layout.pack_parameters(
        np.array([0]), np.array([multiplier]), np.array([bias]), 1, TINY, shift1=s1, shift2=s2,
        least=True)
    table = layout.unpack_parameters(data, 1, TINY)
    sums = np.zeros((1, TINY.word_elements), np.int64)
    sums[0, 0] = total
    y = dequantize32(sums, table.zero, table.multiplier, table.bias, s1, s2, np.array([scale]))
    assert int(y[0].argmax()) == 0


def test_norm_parameters():
    n = TINY.word_elements + 1
    weight, bias = np.arange(n, dtype=np.int16) + 5, -np.arange(n, dtype=np.int16)
    data = layout.pack_norm(weight, bias, 9, 2**31 // n, 2**39 + 1, n, 2, TINY)
    assert data[:16] == (bytes([9, 0]) + n.to_bytes(2, "little")
                         + (2**31 // n).to_bytes(4, "little") + (2**39 + 1).to_bytes(8, "little"))
    words = np.frombuffer(data[LINE_BYTES:LINE_BYTES + 4 * TINY.port_bytes], "<i2")
    assert words.reshape(4, -1)[:2].tolist() == [weight[:8].tolist(), bias[:8].tolist()]
    back = layout.unpack_norm(data, 2, TINY)
    assert (back.shift, back.inverse, back.epsilon, back.columns) == (9, 2**31 // n, 2**39 + 1, n)
    assert np.array_equal(back.weight[:n], weight)
    assert np.array_equal(back.bias[:n], bias)
    assert not back.weight[n:].any()


def test_rows_of_embeddings_and_rotations_follow_each_other():
    rows = np.arange(3 * 9, dtype=np.int16).reshape(3, 9)
    data = layout.pack_embedding(rows, 2, TINY)
    assert len(data) == 128
    assert np.frombuffer(data[2 * TINY.port_bytes:], "<i2")[:9].tolist() == rows[1].tolist()
    table = layout.unpack_rotations(layout.pack_rotations(rows, 2, TINY), 3, 2, TINY)
    assert np.array_equal(table[:, :9], rows)


def test_activations_and_function_tables_round_trip():
    rng = np.random.default_rng(1)
    x = rng.integers(-32767, 32768, (3, 11)).astype(np.int16)
    back = layout.unpack_activations(layout.pack_activations(x, 2, TINY), 3, 2, TINY)
    assert np.array_equal(back[:, :11], x)
    assert not back[:, 11:].any()
    base, delta = rng.integers(-32768, 32768, (2, 256)).astype(np.int16)
    data = layout.pack_function(base, delta, 21)
    assert data[:LINE_BYTES] == bytes([21]).ljust(LINE_BYTES, b"\0")
    first = np.frombuffer(data[LINE_BYTES:], "<i2")[:4]
    assert first.tolist() == [base[0], delta[0], base[1], delta[1]]
    *table, shift = layout.unpack_function(data)
    assert np.array_equal(table, [base, delta])
    assert shift == 21


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_bits_round_trip(bits):
    values = np.random.default_rng(2).integers(0, 1 << bits, (3, 16), dtype=np.uint8)
    assert np.array_equal(layout.unpack_bits(layout.pack_bits(values, bits), bits), values)


def test_regions_that_the_data_does_not_hold_are_refused():
    with pytest.raises(ValueError, match=r"^100 bytes do not hold 2 regions 64 bytes apart$"):
        layout.split_regions(bytes(100), 2, 1, 40)
