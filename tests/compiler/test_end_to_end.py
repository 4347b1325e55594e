"""Random layers: the image run on golden equals the graph's evaluation and direct golden calls."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.build import compile_graph
from compiler.lower.block import lower_block, lower_linears
from hw.presets import load_hardware
from sim.functional import run_image
from tests.compiler.random_linears import (
    KINDS,
    direct,
    random_activations,
    random_linear,
    random_mlp,
)

TINY, SIM = load_hardware("tiny"), load_hardware("sim")
CRAMPED = dataclasses.replace(TINY, operand_words=32, vector_words=320, accumulator_words=8)


def outputs_of(build):
    memory = run_image(build.image.data, build.hardware, build.image.program_address).memory
    return build.outputs(memory)


def check_linear(kind, config, rng, tokens, inputs, columns, group_lanes):
    linear = random_linear(rng, kind, inputs, columns, config, group_lanes=group_lanes)
    x = random_activations(rng, tokens, inputs)
    graph = lower_linears({"y": linear}, {"y": "x"}, {"x": x})
    expected = direct(linear, x.astype(np.int16))
    assert np.array_equal(graph.evaluate()["y"], expected)
    assert np.array_equal(outputs_of(compile_graph(graph, config))["y"], expected)
    assert columns < 16 or len(np.unique(expected)) > 1


@settings(max_examples=6)
@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_one_linear(kind, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    tokens, inputs = data.draw(st.integers(1, 17)), data.draw(st.integers(1, 130))
    check_linear(kind, TINY, rng, tokens, inputs, data.draw(st.integers(1, 150)),
                 data.draw(st.integers(0, 2)))


@settings(max_examples=2)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 300), st.integers(1, 500))
@pytest.mark.parametrize("kind", KINDS)
def test_one_linear_on_the_simulation_hardware(kind, seed, tokens, inputs, columns):
    check_linear(kind, SIM, np.random.default_rng(seed), tokens, inputs, columns, 1)


@settings(max_examples=4)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(120, 200), st.integers(1, 150))
@pytest.mark.parametrize("kind", ["stream", "gather", "rowgen", "w4a8", "w4a4"])
def test_small_stores_tile_tokens_columns_and_inputs(kind, seed, tokens, inputs, columns):
    check_linear(kind, CRAMPED, np.random.default_rng(seed), tokens, inputs, columns, 1)


@settings(max_examples=10)
@given(st.data())
def test_mlp_of_any_schemes(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    kinds = tuple(data.draw(st.sampled_from(KINDS)) for _ in range(3))
    tokens, width = data.draw(st.integers(1, 11)), data.draw(st.integers(1, 70))
    hidden = data.draw(st.integers(1, 100))
    layers = {"layers.0": random_mlp(rng, kinds, width, hidden, TINY, data.draw(st.integers(0, 1)))}
    x = random_activations(rng, tokens, width)
    graph = lower_block(layers, {"layers.0.mlp_input": x})
    values = graph.evaluate()
    assert np.array_equal(outputs_of(compile_graph(graph, TINY))["layers.0.down"],
                          values["layers.0.down"])


def test_columns_follow_the_order_that_down_wants():
    rng = np.random.default_rng(3)
    linears = random_mlp(rng, ("w4a8", "rowgen", "w4a8"), 40, 100, TINY, 0)
    order = linears["down"].input.order
    assert not np.array_equal(order, np.arange(len(order)))
    x = random_activations(rng, 3, 40)
    values = lower_block({"m": linears}, {"m.mlp_input": x}).evaluate()
    places = order[:values["m.gate.y"].shape[1]]
    for name in ("gate", "up"):
        expected, actual = direct(linears[name], x.astype(np.int16)), values[f"m.{name}.y"]
        assert np.array_equal(actual[:, places >= 0], expected[:, places[places >= 0]])
        assert not actual[:, places < 0].any()
    hidden = np.zeros((3, 100), np.int16)
    hidden[:, places[places >= 0]] = values["m.h"][:, places >= 0]
    assert np.array_equal(values["m.down"], direct(linears["down"], hidden))


def test_layers_with_one_input_share_its_preparation():
    rng = np.random.default_rng(4)
    q = random_linear(rng, "stream", 24, 40, TINY)
    k = random_linear(rng, "gather", 24, 20, TINY, shared=q.input)
    v = random_linear(rng, "w4a8", 24, 20, TINY)
    o = random_linear(rng, "w4a8", 24, 20, TINY, shared=v.input)
    sources = {"x": random_activations(rng, 5, 24), "a": random_activations(rng, 5, 24)}
    graph = lower_linears({"q": q, "k": k, "v": v, "o": o},
                          {"q": "x", "k": "x", "v": "x", "o": "a"}, sources)
    kinds = [type(op).__name__ for op in graph.ops]
    assert (kinds.count("Search"), kinds.count("Quantize")) == (1, 2)
    outputs = outputs_of(compile_graph(graph, TINY))
    for name, linear, source in (("q", q, "x"), ("k", k, "x"), ("v", v, "x"), ("o", o, "a")):
        assert np.array_equal(outputs[name], direct(linear, sources[source].astype(np.int16)))
