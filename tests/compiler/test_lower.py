"""Tiling, allocation and what the hardware cannot run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.errors import CompileError
from compiler.lower.allocate import Allocator, OutOfSpaceError
from compiler.lower.block import lower_block, lower_layer, lower_linears
from compiler.lower.linear import Lowering, permute_columns
from compiler.lower.matmul import column_tiles
from compiler.lower.tile import tile_graph
from hw.isa import Opcode
from hw.presets import load_hardware
from tests.compiler.random_linears import random_activations, random_linear, random_mlp

TINY = load_hardware("tiny")


def graph_of(kind, tokens=5, inputs=20, columns=40, group_lanes=1):
    rng = np.random.default_rng(0)
    linear = random_linear(rng, kind, inputs, columns, TINY, group_lanes=group_lanes)
    return lower_linears({"y": linear}, {"y": "x"}, {"x": random_activations(rng, tokens, inputs)})


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 20), st.integers(1, 4))
def test_column_tiles_cover_all_blocks_and_keep_to_groups(blocks, group_blocks, most, groups):
    group_blocks = min(group_blocks, blocks)
    tiles = column_tiles(blocks, group_blocks, most, groups)
    assert [at for first, last in tiles for at in range(first, last)] == list(range(blocks))
    for first, last in tiles:
        assert last - first <= most
        assert -(-(last - first) // group_blocks) <= groups
        if first // group_blocks != (last - 1) // group_blocks:
            assert first % group_blocks == 0


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_allocations_never_overlap(sizes, random):
    allocator, live = Allocator("store", 64), {}
    for size in sizes:
        try:
            start = allocator.allocate(size)
        except OutOfSpaceError:
            assert allocator.largest_gap() < size
            for known in list(live):
                if random.random() < 0.7:
                    allocator.free(known)
                    del live[known]
            continue
        assert 0 <= start <= 64 - size
        assert all(start + size <= other or other + length <= start
                   for other, length in live.items())
        live[start] = size


def test_freed_words_rest():
    allocator = Allocator("store", 10)
    first = allocator.allocate(4)
    allocator.free(first)
    assert allocator.allocate(4) == 4
    assert allocator.allocate(4) == 0


def test_search_of_the_next_part_overlaps_the_lookup():
    tasks = tile_graph(graph_of("stream", inputs=160), TINY).tasks
    kinds = [task.opcode for task in tasks]
    assert kinds.count(Opcode.SEARCH) == 4
    assert kinds[1:5] == [Opcode.SEARCH, Opcode.LUT, Opcode.SEARCH, Opcode.LUT]
    assert [task.fields["first"] for task in tasks if task.opcode == Opcode.LUT] == [1, 0, 0, 0]


def test_column_tiles_alternate_banks():
    config = dataclasses.replace(TINY, accumulator_words=5)
    tasks = tile_graph(graph_of("w4a8", columns=100), config).tasks
    assert [t.fields["bank"] for t in tasks if t.opcode == Opcode.DRAIN] == [0, 1, 0, 1]


def test_tokens_are_cut_evenly_and_share_constants():
    tiled = tile_graph(graph_of("w4a8", tokens=17), TINY)
    assert [(tile.first, tile.last) for tile in tiled.output_tiles] == [(0, 6), (6, 12), (12, 17)]
    regions = [task.region for task in tiled.tasks if task.opcode == Opcode.SIMD]
    assert len(regions) == 3
    assert len(set(regions)) == 1


def test_an_activation_table_works_in_place():
    rng = np.random.default_rng(0)
    layers = {"m": random_mlp(rng, ("stream",) * 3, 20, 40, TINY, 1)}
    tasks = tile_graph(lower_block(layers, {"m.mlp_input": random_activations(rng, 3, 20)}),
                       TINY).tasks
    fields = next(task.fields for task in tasks if task.opcode == Opcode.ACTIVATE)
    assert fields["source"] == fields["destination"] != fields["factor"]


@pytest.mark.parametrize(("kind", "changes", "message"), [
    ("stream", {"vector_length": 1}, r"^y\.lut: vectors of 2, hardware tiny has vector_length 1$"),
    ("stream", {"chain_length": 1}, r"^y\.lut: \d activation centroids, hardware tiny searches 2$"),
    ("stream", {"table_words": 2}, r"^y\.lut: the rows of one column group take \d words, the "),
    ("gather", {"table_words": 1, "port_bits": 64}, r"^y\.lut: the rows of one column group take "),
    ("rowgen", {"rowgen": False}, r"^y\.rowgen: hardware tiny has no row generator; use lut2d or "),
    ("w4a8", {"simd": False, "log2_softmax": False},
     r"^y\.simd: hardware tiny has no multiplier array; use lut2d or row"),
    ("w4a8", {"group_max": 8}, r"^y\.simd: weight groups of 16, hardware tiny takes multiples of "),
    ("w4a8", {"simd_depth": 2}, r"^x\.quantize: channel factors are for chunks of 4 inputs, hardw"),
    ("w4a8", {"vector_words": 3}, r"^hardware tiny: vector memory \(vector_words\) holds 3, too "),
    ("w4a8", {"operand_words": 2}, r"^hardware tiny: operand store \(operand_words\) holds 2, too"),
])
def test_hardware_that_cannot_run_a_layer(kind, changes, message):
    config = dataclasses.replace(TINY, **changes)
    with pytest.raises(CompileError, match=message) as caught:
        tile_graph(graph_of(kind), config)
    assert "\n" not in str(caught.value)


def test_metric_groups_and_wide_codebooks_that_the_hardware_lacks():
    rng = np.random.default_rng(0)
    linear = random_linear(rng, "stream", 20, 40, TINY)
    x = {"x": random_activations(rng, 2, 20)}
    l2 = dataclasses.replace(linear, input=dataclasses.replace(linear.input, l2=True))
    with pytest.raises(CompileError, match=r"^y\.lut: hardware tiny has no L2 search; use the che"):
        tile_graph(lower_linears({"y": l2}, {"y": "x"}, x),
                   dataclasses.replace(TINY, l2_search=False))
    odd = dataclasses.replace(linear, group_columns=20)
    with pytest.raises(CompileError, match=r"^y\.lut: groups of 20 columns are not a multiple of "):
        tile_graph(lower_linears({"y": odd}, {"y": "x"}, x), TINY)
    wide = random_linear(rng, "rowgen64", 20, 40, TINY)
    entries = wide.codebooks.shape[2]
    tables = rng.integers(0, 256, (10, 4, 2, entries), dtype=np.uint8)
    large = dataclasses.replace(
        linear, tables=tables, indices=wide.indices,
        input=dataclasses.replace(linear.input, l2=False))
    with pytest.raises(CompileError, match=rf"^y\.lut: {entries} weight centroids, hardware tiny "):
        tile_graph(lower_linears({"y": large}, {"y": "x"}, x),
                   dataclasses.replace(TINY, rowgen=False))


def test_inputs_of_another_width():
    rng = np.random.default_rng(0)
    linear = random_linear(rng, "w4a8", 20, 40, TINY)
    with pytest.raises(CompileError, match=r"^y: its input has 21 channels, not what it was "):
        lower_linears({"y": linear}, {"y": "x"}, {"x": random_activations(rng, 2, 21)})


def test_an_order_that_crosses_column_groups():
    rng = np.random.default_rng(0)
    linear = random_linear(rng, "rowgen", 20, 64, TINY)
    order = np.roll(np.arange(64), 1)
    with pytest.raises(CompileError, match=r"^gate: the next layer's channel order crosses its gr"):
        permute_columns(linear, order, "gate")


def test_misuse():
    lowering = Lowering({})
    with pytest.raises(ValueError, match=r"^unknown linear layer z$"):
        lower_layer(lowering, "m", {"z": None}, "silu")
    with pytest.raises(ValueError, match=r"^an MLP needs gate, up, down, not only gate$"):
        lower_layer(lowering, "m", {"gate": None}, "silu")
    rng = np.random.default_rng(0)
    linears = random_mlp(rng, ("w4a8",) * 3, 20, 40, TINY, 1)
    with pytest.raises(CompileError, match=r"^m: activation 'tan' is not one of silu, "):
        lower_block({"m": linears}, {"m.mlp_input": random_activations(rng, 2, 20)}, "tan")
