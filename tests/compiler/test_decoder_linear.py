"""Prepared linears: whatever way they compute, the golden functions' bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.decoder.golden_linear import PreparedLinear
from hw.golden import lookup
from hw.golden.multiplier import group_sums
from hw.presets import load_hardware
from tests.compiler.random_linears import KINDS, direct, random_linear

HARDWARE = load_hardware("tiny")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6)
@given(seed=st.integers(0, 2**32 - 1), tokens=st.integers(1, 9))
def test_prepared_equals_direct(kind, seed, tokens):
    rng = np.random.default_rng(seed)
    inputs, columns = (int(n) for n in rng.integers(1, 90, 2))
    linear = random_linear(rng, kind, inputs, columns, HARDWARE, group_lanes=int(rng.integers(3)))
    if not kind.startswith(("stream", "gather")):
        order = linear.input.order
    else:
        order = np.arange(inputs)
    x = rng.integers(-32767, 32768, (tokens, inputs)).astype(np.int16)
    placed = np.where(order >= 0, x[:, order], 0).astype(np.int16)
    assert (PreparedLinear(linear)(placed, False) == direct(linear, x)).all()


def plain_group_sums(x, weights, alphas, scales, minima, group, shift):
    """The definition, element by element."""
    factors = np.repeat(1 << alphas.astype(np.int64), x.shape[1] // len(alphas))
    shifted = (x * factors).reshape(len(x), -1, group)
    grouped = weights.astype(np.int64).reshape(len(weights), -1, group)
    dots = np.einsum("tgi,mgi->tgm", shifted, grouped)
    terms = dots * scales + shifted.sum(axis=2)[..., None] * minima
    return ((terms + ((1 << shift) >> 1)) >> shift).sum(axis=1)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), tokens=st.sampled_from([1, 3, 4, 7, 33]),
       shift=st.integers(0, 12))
def test_group_sums(seed, tokens, shift):
    rng = np.random.default_rng(seed)
    group, groups, columns = 8 << int(rng.integers(4)), int(rng.integers(1, 4)), 37
    x = rng.integers(-127, 128, (tokens, group * groups)).astype(np.int8)
    weights = rng.integers(-128, 128, (columns, group * groups)).astype(np.int8)
    chunks = rng.integers(0, 5, (groups, group // 4))
    alphas = np.sort(chunks, axis=1)[:, ::-1].astype(np.uint8).reshape(-1)
    scales, minima = rng.integers(-32768, 32768, (2, groups, columns)).astype(np.int16)
    arguments = x, weights, alphas, scales, minima, group, shift
    assert (group_sums(*arguments) == plain_group_sums(*arguments)).all()


def test_table_sums_of_many_tokens(monkeypatch):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 8, (75, 11)).astype(np.uint8)
    tables = rng.integers(0, 256, (11, 8, 3, 16)).astype(np.uint8)
    indices = rng.integers(0, 16, (11, 90)).astype(np.uint8)
    slow = lookup.table_sums(codes, tables, indices, 32)
    monkeypatch.setattr(lookup, "PARALLEL_WORK", 1)
    assert (lookup.table_sums(codes, tables, indices, 32) == slow).all()
