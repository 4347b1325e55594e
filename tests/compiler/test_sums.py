"""Narrow accumulators: linears that fit them, the proof that sums fit, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from compiler.build import compile_graph
from compiler.decoder.scaling import mix_shift, value_group
from compiler.errors import CompileError, VerifyError
from compiler.fit_sums import check_scores, fit_sums, lowered
from compiler.image.layout import DrainParameters
from compiler.image.sums import SumCheck
from compiler.image.verify import verify_image
from compiler.ir.matmul import CENTROID_SUM_MAX, rowgen_bounds, simd_bounds
from compiler.lower.block import lower_linears
from compiler.quant.quantized import IntegerInput, Lut2dLinear, RowgenLinear, SimdLinear
from hw.config import SUM_BITS_MAX, SUM_BITS_MIN, HardwareConfig
from hw.golden.lookup import ROW_OFFSET, rowgen_sums
from hw.golden.multiplier import group_sums
from hw.golden.softmax import LOG2_BITS, NUMERATOR_MAX
from hw.presets import load_hardware
from sim.functional import run_image
from tests.compiler.random_linears import KINDS, direct, random_activations, random_linear

TINY = load_hardware("tiny")


def narrow(bits: int) -> HardwareConfig:
    """The tiny hardware with sums of so many bits."""
    return dataclasses.replace(TINY, sum_bits=bits)


def worst_input(linear, rng, tokens, inputs):
    """Activations that bring the sums of some columns near their bounds, in int16 steps."""
    if isinstance(linear, Lut2dLinear):
        return random_activations(rng, tokens, inputs)
    order = linear.input.order
    columns = rng.integers(len(linear.dequantization.zero), size=tokens)
    if isinstance(linear, RowgenLinear):
        positions = np.arange(len(linear.codebooks))[:, None]
        groups = columns // linear.group_columns
        chosen = linear.codebooks[positions, groups, linear.indices[:, columns]]
        weights = chosen.transpose(1, 0, 2).reshape(tokens, -1)
        weights = np.pad(weights, ((0, 0), (0, len(order) - weights.shape[1])))
    else:
        scales = np.repeat(linear.scales[:, columns].T.astype(np.int64), linear.group, axis=1)
        weights = linear.weights[columns] * scales
        if linear.minima is not None:
            weights = weights + np.repeat(linear.minima[:, columns].T, linear.group, axis=1)
    x = np.zeros((tokens, inputs), np.float32)
    x[:, order[order >= 0]] = np.where(weights[:, order >= 0] < 0, -32767, 32767)
    return x * rng.choice((-1, 1), (tokens, 1))


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), bits=st.integers(SUM_BITS_MIN, SUM_BITS_MAX),
       inputs=st.integers(1, 260), columns=st.integers(1, 90), group_lanes=st.integers(0, 2))
@pytest.mark.parametrize("kind", KINDS)
def test_no_accepted_linear_overflows(kind, seed, bits, inputs, columns, group_lanes):
    rng, config = np.random.default_rng(seed), narrow(bits)
    linear = random_linear(rng, kind, inputs, columns, config, group_lanes=group_lanes)
    if isinstance(linear, SimdLinear):
        # Room for what narrower sums take from the shifts.
        linear = dataclasses.replace(linear, dequantization=dataclasses.replace(
            linear.dequantization, shift1=12, shift2=16))
    try:
        fitting = fit_sums(linear, config, "y")
    except CompileError:
        assert kind.startswith("rowgen")
        assume(False)
    x = worst_input(fitting, rng, 5, inputs)
    build = compile_graph(lower_linears({"y": fitting}, {"y": "x"}, {"x": x}), config)
    memory = run_image(build.image.data, config, build.image.program_address).memory
    assert np.array_equal(build.outputs(memory)["y"], direct(fitting, x.astype(np.int16)))


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), bits=st.integers(SUM_BITS_MIN, SUM_BITS_MAX - 1))
@pytest.mark.parametrize("kind", ["w8a8", "w4a8", "w4a4"])
def test_sums_of_fewer_bits_are_the_same_but_for_rounding(kind, seed, bits):
    rng = np.random.default_rng(seed)
    linear = random_linear(rng, kind, 100, 40, TINY)
    groups = len(linear.scales)
    fitting = fit_sums(linear, narrow(bits), "y")
    assert simd_bounds(fitting.weights, fitting.input.alphas, fitting.scales, fitting.minima,
                       fitting.group, fitting.shift, fitting.input.bits).max() < 1 << (bits - 1)
    x = rng.integers(-127, 128, (3, len(linear.input.order))).astype(np.int8)
    minima = np.zeros_like(linear.scales) if linear.minima is None else linear.minima
    one, other = (
        group_sums(x, made.weights, made.input.alphas, made.scales, minima, made.group, made.shift)
        for made in (linear, fitting))
    more = fitting.shift - linear.shift
    assert np.abs(one - (other << more)).max() <= groups * (1 << more)
    before, behind = linear.dequantization, fitting.dequantization
    assert before.shift1 + before.shift2 - behind.shift1 - behind.shift2 == more


def test_wide_sums_leave_a_linear_alone():
    linear = random_linear(np.random.default_rng(0), "w4a8", 64, 32, TINY)
    assert fit_sums(linear, TINY, "y") is linear


def test_heads_too_long_for_their_scores_are_refused():
    assert check_scores(32, narrow(21), "x") == 32 * 127**2
    with pytest.raises(CompileError, match=(
            r"^layers.0.scores: sums reach 1032256, more than the 20-bit accumulator of hardware "
            r"tiny holds \(sum_bits\); use a wider one$")):
        check_scores(64, narrow(20), "layers.0.scores")


def test_rows_that_do_not_fit_are_refused():
    linear = random_linear(np.random.default_rng(1), "rowgen", 260, 32, TINY)
    with pytest.raises(CompileError, match=(
            r"^y: sums reach \d+, more than the 20-bit accumulator of hardware tiny holds "
            r"\(sum_bits\); use a wider one, or simd for this linear$")):
        fit_sums(linear, narrow(20), "y")


def test_tables_that_do_not_fit_are_refused():
    linear = random_linear(np.random.default_rng(1), "stream", 64, 32, TINY)
    far = dataclasses.replace(linear, dequantization=dataclasses.replace(
        linear.dequantization, zero=np.full(32, 1 << 20, np.int32)))
    with pytest.raises(CompileError, match=r"^y: sums reach 1\d+, more than the 20-bit"):
        fit_sums(far, narrow(20), "y")


def test_too_many_groups_are_refused():
    """Rounding alone adds 1 for each group."""
    groups = 1 << 19
    linear = SimdLinear(
        input=IntegerInput(x_scale=1.0, alphas=np.zeros(2 * groups, np.uint8),
                           order=np.arange(8 * groups), bits=8),
        weights=np.ones((1, 8 * groups), np.int8), weight_bits=4,
        scales=np.ones((groups, 1), np.int16), minima=None, group=8, shift=0, y_scale=1.0,
        dequantization=random_linear(np.random.default_rng(0), "w4a8", 8, 1, TINY).dequantization)
    with pytest.raises(CompileError, match=r"use a wider one or longer weight groups$"):
        fit_sums(linear, narrow(20), "y")


def test_an_output_step_too_fine_for_narrow_sums_is_refused():
    steps = random_linear(np.random.default_rng(0), "w4a8", 8, 4, TINY).dequantization
    steps = dataclasses.replace(steps, shift1=2, shift2=3)
    assert dataclasses.astuple(lowered(steps, 4, "y"))[3:5] == (0, 1)
    with pytest.raises(CompileError, match=r"^y: its output step is too fine for narrower sums"):
        lowered(steps, 6, "y")


@pytest.mark.parametrize("kind", ["rowgen", "w4a8"])
def test_an_image_for_wider_sums_is_refused(kind):
    rng = np.random.default_rng(3)
    linear = random_linear(rng, kind, 260, 32, TINY)
    x = random_activations(rng, 3, 260)
    build = compile_graph(lower_linears({"y": linear}, {"y": "x"}, {"x": x}), TINY)
    image = dataclasses.replace(build.image, digest=narrow(20).digest())
    with pytest.raises(VerifyError, match=(
            r"^instruction \d+ \(DRAIN\): sums reach \d+, more than the 20-bit accumulator ")):
        verify_image(image, narrow(20))


def drained(check: SumCheck, zero: int, multiplier: int) -> None:
    columns = np.full(TINY.lanes, 1, np.int32)
    check.drain("here", ("drain", zero, multiplier), DrainParameters(
        zero=columns * zero, multiplier=columns * multiplier, bias=columns, shift1=0, shift2=0,
        bias_shift=0), {"tokens": 2, "heads": 1, "blocks": 1, "accumulator": 4, "bank": 1})


def test_ranges_of_instructions_add_up():
    check = SumCheck(narrow(20))
    fields = {"tokens": 2, "blocks": 1, "accumulator": 4, "bank": 1}
    rows = np.array([0]), np.array([300_000])
    check.add("one", rows, fields | {"first": 1})
    drained(check, 0, 1)
    check.add("one", rows, fields | {"first": 0})
    drained(check, -300_000, 1)
    drained(check, 0, 0)
    with pytest.raises(VerifyError, match=r"^here: sums reach 600000, more than the 20-bit"):
        drained(check, 0, 1)
    check.add("one", rows, fields | {"first": 1})
    drained(check, 0, 1)
    with pytest.raises(VerifyError, match=r"^here: sums reach 524289, more than the 20-bit"):
        drained(check, -524_289, 1)


@pytest.mark.parametrize("begin", range(TINY.lanes // TINY.word_elements))
def test_drains_prove_the_columns_that_they_take(begin):
    """Of two blocks only the last columns reach beyond the accumulator."""
    check = SumCheck(narrow(20))
    high = np.where(np.arange(2 * TINY.lanes) < 7 * TINY.word_elements, 0, 600_000)
    check.add("wide", (0 * high, high),
              {"tokens": 1, "blocks": 2, "accumulator": 0, "bank": 0, "first": 1})

    def drain(count: int) -> None:
        part = np.ones(count * TINY.word_elements, np.int32)
        check.drain("here", ("drain", count), DrainParameters(
            zero=0 * part, multiplier=part, bias=part, shift1=0, shift2=0, bias_shift=0),
            {"tokens": 1, "heads": 1, "blocks": 2, "accumulator": 0, "bank": 0, "begin": begin})

    drain(7 - begin)
    with pytest.raises(VerifyError, match=r"^here: sums reach 600000, more than the 20-bit"):
        drain(8 - begin)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), length=st.sampled_from([1, 2, 4]))
def test_bounds_of_computed_rows_are_reached(seed, length):
    rng = np.random.default_rng(seed)
    most = min(CENTROID_SUM_MAX // length, 127)
    books = rng.integers(-most, most + 1, (6, 2, 16, length)).astype(np.int8)
    indices = rng.integers(0, 16, (6, 20)).astype(np.uint8)
    bounds = rowgen_bounds(books, indices, 16)
    for column in (0, 19):
        chosen = books[np.arange(6), column // 16, indices[:, column]]
        x = np.where(chosen < 0, -127, 127).astype(np.int8)[None]
        sums = rowgen_sums(x, books, indices, 16) - 6 * ROW_OFFSET
        assert sums[0, column] == bounds[column]


def test_a_column_of_zeros_has_a_bound_of_zero():
    weights = np.array([[0, 0, 0, 0], [0, 1, 0, 0]], np.int8)
    scales = np.array([[7, 7], [7, 7]], np.int16)
    assert simd_bounds(weights, np.zeros(2, np.uint8), scales, None, 2, 3, 8).tolist() == [0, 113]


@given(capacity=st.integers(1, 1 << 17), log2=st.booleans(),
       bits=st.integers(SUM_BITS_MIN, SUM_BITS_MAX))
def test_mixtures_are_shifted_as_little_as_they_can(capacity, log2, bits):
    config = narrow(bits)
    shift = mix_shift(capacity, log2, config)
    weight = 1 << LOG2_BITS if log2 else NUMERATOR_MAX

    def most(shift: int) -> int:
        part = value_group(config) * 127 * weight
        return -(-capacity // value_group(config)) * ((part >> shift) + 1)

    assert most(shift) <= config.sum_max
    assert shift == 0 or most(shift - 1) > config.sum_max
