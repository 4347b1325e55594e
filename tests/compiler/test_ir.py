"""Operations and graphs: rules, costs, builder."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler.errors import VerifyError
from compiler.ir.graph import Graph, GraphBuilder
from compiler.ir.matmul import LutMatmul, SimdMatmul, simd_bound
from compiler.ir.ops import Cost, Load, Store, Tensor
from compiler.ir.verify import verify_graph
from compiler.lower.block import lower_linears
from hw.golden.multiplier import group_sums
from hw.presets import load_hardware
from tests.compiler.random_linears import random_activations, random_linear

TINY = load_hardware("tiny")


def graph_of(kind="stream") -> Graph:
    rng = np.random.default_rng(0)
    linear = random_linear(rng, kind, 20, 40, TINY)
    return lower_linears({"y": linear}, {"y": "x"}, {"x": random_activations(rng, 3, 20)})


def replaced(graph: Graph, index: int, **changes: object) -> Graph:
    ops = list(graph.ops)
    ops[index] = dataclasses.replace(ops[index], **changes)
    return dataclasses.replace(graph, ops=ops)


def index_of(graph: Graph, kind: type) -> int:
    return next(i for i, op in enumerate(graph.ops) if isinstance(op, kind))


def with_constant(graph: Graph, name: str, change) -> Graph:
    value = graph.constants[name].copy()
    change(value)
    return dataclasses.replace(graph, constants={**graph.constants, name: value})


def test_lowered_graphs_are_well_formed():
    for kind in ("stream", "rowgen", "w4a4"):
        verify_graph(graph_of(kind))


def test_use_before_it_is_made():
    graph = graph_of()
    graph = dataclasses.replace(graph, ops=graph.ops[1:])
    with pytest.raises(VerifyError, match=r"^x\.search: x is used before it is made$"):
        verify_graph(graph)


def test_shape_at_use():
    graph = graph_of()
    wrong = replaced(graph, index_of(graph, Store), source=Tensor("y.y", (3, 41)))
    with pytest.raises(VerifyError, match=r"y\.y is int16 \[3, 40\], used as int16 \[3, 41\]$"):
        verify_graph(wrong)


def test_tensor_made_twice():
    graph = graph_of()
    with pytest.raises(VerifyError, match=r"^x\.load: x is already made by x\.load$"):
        verify_graph(dataclasses.replace(graph, ops=[graph.ops[0], *graph.ops]))


def test_table_entries_and_indices_stay_in_range():
    graph = graph_of("stream4")
    with pytest.raises(VerifyError, match=r"^y\.lut: table entries exceed 4 bits$"):
        verify_graph(with_constant(graph, "y.tables", lambda t: t.fill(16)))
    with pytest.raises(VerifyError, match=r"^y\.lut: an index exceeds the \d+ entries$"):
        verify_graph(with_constant(graph, "y.indices", lambda t: t.fill(200)))


def test_rising_channel_exponents():
    graph = graph_of("w4a8")

    def rise(alphas: np.ndarray) -> None:
        alphas[:2] = 0, 4

    with pytest.raises(VerifyError, match=r"^y\.simd: channel exponents rise within a weight"):
        verify_graph(with_constant(graph, "x.quantize.alphas", rise))


def test_sums_beyond_the_accumulator():
    graph = graph_of("w4a8")
    wrong = replaced(graph, index_of(graph, SimdMatmul), bound=2**31)
    with pytest.raises(VerifyError, match=r"^y\.simd: sums reach 2147483648, more than the 32-bit"):
        verify_graph(wrong)


def test_sums_go_to_one_dequantize():
    graph = graph_of()
    at = index_of(graph, LutMatmul)
    again = dataclasses.replace(
        graph.ops[at + 1], name="again", out=dataclasses.replace(graph.ops[at + 1].out, name="z"))
    with pytest.raises(VerifyError, match=r"^y\.lut: sums must go to exactly one Dequantize$"):
        verify_graph(dataclasses.replace(graph, ops=[*graph.ops, again]))


def test_nothing_stored():
    graph = graph_of()
    with pytest.raises(VerifyError, match=r"^the graph stores nothing$"):
        verify_graph(dataclasses.replace(graph, ops=graph.ops[:-1]))


def test_load_orders_channels():
    builder = GraphBuilder()
    x = builder.input("given", np.array([[1, 2, 3]], np.int16), 1.0)
    order = builder.constant("order", np.array([2, -1, 0], np.int64))
    load = Load(name="load", source=x, order=order, out=Tensor("x", (1, 3)))
    builder.add(load)
    assert builder.graph().evaluate()["x"].tolist() == [[3, 0, 1]]


def test_cost_adds_up():
    graph = graph_of()
    lut = graph.ops[index_of(graph, LutMatmul)]
    assert lut.cost().lookups == 3 * 10 * 40
    assert graph.cost().lookups == lut.cost().lookups
    assert Cost(lookups=1) + Cost(lookups=2, products=3) == Cost(lookups=3, products=3)


def test_simd_bound_is_reached_by_the_worst_input():
    weights = np.array([[7, -8, 7, -8]], np.int8)
    alphas = np.array([4, 1], np.uint8)
    scales, minima = np.array([[300]], np.int16), np.array([[-20]], np.int16)
    bound = simd_bound(weights, alphas, scales, minima, 4, 0, 8)
    worst = np.where(weights.astype(int) * 300 - 20 > 0, 127, -127).astype(np.int8)
    sums = group_sums(worst, weights, alphas, scales, minima, 4, 0)
    assert bound - 1 == int(sums[0, 0])
