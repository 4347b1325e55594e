"""GPU baselines: provenance, what bounds a token, and the published latencies they stand for."""

from __future__ import annotations

import pytest

from compiler.frontends.shapes import SHAPES
from hw.errors import ConfigError
from hw.presets import find, load_yaml, names
from sim.energy_table import PROVENANCES
from sim.gpu import REPORTED, TUNED, decode, load_gpu, prefill, stacks
from sim.shape_counts import cache_bytes, decode_bytes, layer_weights, prefill_operations

MODEL = SHAPES["qwen3-1.7b"]


def test_counts_of_a_published_shape():
    assert layer_weights(MODEL) == 28 * 2048 * (2 * 2048 + 2 * 1024 + 3 * 6144)
    assert cache_bytes(MODEL, 10, 8) == 2 * 28 * 1024 * 10
    assert decode_bytes(MODEL, 16, 0) / 1e9 == pytest.approx(3.44, rel=0.01)
    assert prefill_operations(MODEL, 1) == pytest.approx(3.44e9, rel=0.01)


@pytest.mark.parametrize("name", names("gpus"))
def test_every_value_says_where_it_comes_from(name):
    for stack in stacks(name):
        for value in load_gpu(name, stack).values.values():
            assert value.provenance in PROVENANCES
            assert len(value.source) > 10
            assert value.bounds.lower <= value.bounds.value <= value.bounds.upper


@pytest.mark.parametrize("name", names("gpus"))
def test_a_token_takes_what_bounds_it(name):
    gpu = load_gpu(name)
    model, keys = SHAPES["qwen3-4b"], 16384
    large = decode(gpu, model, 16, keys)
    assert large.limit == "memory"
    share = gpu["bandwidth"].value * gpu["bandwidth_share"].value
    assert large.seconds.value == pytest.approx(decode_bytes(model, 16, keys) / share)
    assert decode(gpu, SHAPES["smollm2-135m"], 4, 0).limit == "floor"
    assert prefill(gpu, MODEL, 16, 4096).limit == "operations"
    watts = large.joules.value / large.seconds.value
    assert gpu["idle"].value < watts <= gpu["board"].value
    assert large.joules.lower < large.joules.value < large.joules.upper


@pytest.mark.parametrize(("name", "bits"), [
    ("a100", 16), ("a100", 8), ("a100", 4), ("mi210", 16), ("mi210", 8)])
def test_the_reported_stack_is_that_of_the_published_latencies(name, bits):
    row = f"{name} {'bf16' if bits == 16 else f'int{bits}'}"
    record = load_yaml(find("published", "lut-llm"))["latencies"]
    short, long = (record["rows"][row][record["columns"].index([32, out])] for out in (16, 256))
    found = decode(load_gpu(name, REPORTED), MODEL, bits, 128)
    assert found.seconds.value * 1e3 == pytest.approx((long - short) / 240, rel=0.05)
    tuned = decode(load_gpu(name, TUNED), MODEL, bits, 128)
    assert tuned.seconds.value < found.seconds.value
    assert tuned.joules.value < found.joules.value


def test_unknown_stack_and_width():
    with pytest.raises(ConfigError, match="no stack 'reported'; known: tuned"):
        load_gpu("h100", REPORTED)
    with pytest.raises(ValueError, match="weight_bits must be 16, 8 or 4, not 3"):
        decode(load_gpu("h100"), MODEL, 3, 1)
