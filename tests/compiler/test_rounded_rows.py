"""Computed rows of fewer bits: what is made good, and the shift that is chosen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.build import compile_graph
from compiler.decoder.golden_linear import PreparedLinear
from compiler.errors import CompileError, VerifyError
from compiler.frontends.shapes import SHAPES
from compiler.image.bounds import InstructionCheck
from compiler.image.disasm import disasm
from compiler.image.program import decode_program
from compiler.image.verify import verify_image
from compiler.lower.block import lower_linears
from compiler.quant.quantized import IntegerInput, RowgenLinear
from compiler.quant.scales import dequantization
from compiler.quant.scheme import load_scheme
from compiler.rounded_rows import (
    RoundedRowgenLinear,
    computed_sums,
    fitted,
    least_shift,
    round_rows,
    rounded,
)
from compiler.structure import drawn, structural_decoder
from hw.fixed import round_shift
from hw.golden.lookup import ROW_OFFSET, row_offset, rowgen_sums, rows
from hw.isa import Opcode
from hw.presets import load_hardware
from sim.functional import run_image
from tests.compiler.random_linears import direct, random_activations, random_linear

TINY = load_hardware("tiny")
NARROW = dataclasses.replace(TINY, name="tiny-narrow", row_bits=8)


def plain_sums(x, codebooks, indices, group_columns, row_bits, row_shift):
    """The definition, row by row."""
    sums = np.zeros((len(x), indices.shape[1]), np.int64)
    groups = np.arange(indices.shape[1]) // group_columns
    for t in range(len(x)):
        for p in range(x.shape[1]):
            made = np.stack([rows(x[t, p], book, row_bits, row_shift) for book in codebooks[p]])
            sums[t] += made[groups, indices[p]]
    return sums


@pytest.mark.parametrize("tokens", [1, 3, 33, 70])
@pytest.mark.parametrize(("row_bits", "row_shift"), [(16, 0), (12, 3), (8, 0), (8, 5), (8, 8)])
def test_sums_of_rounded_rows(tokens, row_bits, row_shift):
    rng = np.random.default_rng(tokens)
    x = rng.integers(-127, 128, (tokens, 40, 2)).astype(np.int8)
    books = rng.integers(-128, 128, (40, 3, 16, 2)).astype(np.int8)
    indices = rng.integers(0, 16, (40, 70)).astype(np.uint8)
    made = rowgen_sums(x, books, indices, 32, row_bits, row_shift)
    assert (made == plain_sums(x, books, indices, 32, row_bits, row_shift)).all()


@pytest.mark.parametrize("row_bits", [8, 10, 12])
def test_least_shift(row_bits):
    for largest in (1, 100, 127, 128, 2047, 15240, 32258):
        shift = least_shift(largest, row_bits)
        assert round_shift(np.array([largest]), shift)[0] < row_offset(row_bits)
        assert not shift or round_shift(np.array([largest]), shift - 1)[0] >= row_offset(row_bits)


def rowgen_linear(rng, inputs=256, columns=64, spread=20.0):
    """A linear with normal codebooks and a real dequantization, on inputs of step 1."""
    positions = inputs // 2
    books = np.clip(np.round(rng.normal(0, spread, (positions, 1, 16, 2))), -127, 127)
    source = IntegerInput(x_scale=1.0, alphas=np.zeros(inputs // TINY.simd_depth, np.uint8),
                          order=np.arange(inputs), bits=8)
    steps = dequantization(
        rng.uniform(0.5, 1, columns) * 1e-6, np.full(columns, -positions * ROW_OFFSET), None, 1.0,
        inputs * 127 * 127, token_scale=True, name="layer")
    return RowgenLinear(
        input=source, codebooks=books.astype(np.int8),
        indices=rng.integers(0, 16, (positions, columns)).astype(np.uint8),
        group_columns=columns, y_scale=1.0, dequantization=steps)


def relative_errors(linear, made, x):
    """Error of each token's outputs over their size."""
    exact = PreparedLinear(linear)(x, True).astype(np.float64)
    gaps = PreparedLinear(made)(x, True) - exact
    return np.linalg.norm(gaps, axis=1) / np.linalg.norm(exact, axis=1)


@pytest.mark.parametrize("shift", range(1, 8))
def test_a_shift_loses_nothing_in_the_dequantizer(shift):
    """Codebooks of multiples of 2**shift: rows are exact, and so is every output."""
    rng = np.random.default_rng(shift)
    linear = rowgen_linear(rng, spread=60.0)
    x = rng.integers(-30000, 30001, (20, 256)).astype(np.int16)
    coarse = dataclasses.replace(linear, codebooks=linear.codebooks >> shift << shift)
    made = rounded(coarse, 16 - shift, shift)
    exact = PreparedLinear(coarse)(x, True)
    assert exact.any()
    assert (PreparedLinear(made)(x, True) == exact).all()


def test_error_of_8_bits():
    rng = np.random.default_rng(2)
    linear = rowgen_linear(rng)
    x = (rng.standard_t(5, (400, 256)) * 900).clip(-32767, 32767).astype(np.int16)
    made = round_rows(linear, x[:200].astype(np.float32), NARROW)
    assert isinstance(made, RoundedRowgenLinear)
    errors = relative_errors(linear, made, x[200:])
    assert errors.mean() < 0.03
    for shift in (made.row_shift - 1, made.row_shift + 1):
        assert relative_errors(linear, rounded(linear, 8, shift), x[200:]).mean() > errors.mean()
    finer = round_rows(linear, x[:200].astype(np.float32),
                       dataclasses.replace(NARROW, row_bits=12))
    assert relative_errors(linear, finer, x[200:]).mean() < errors.mean() / 4


def test_mean_error_is_made_good():
    """Half rounds upward, which many positions add up."""
    rng = np.random.default_rng(3)
    linear = rowgen_linear(rng)
    codes = rng.integers(-8, 9, (300, 256)).astype(np.int8)
    made = fitted(linear, codes, 8)
    raw = rounded(linear, 8, made.row_shift)
    assert made.row_shift
    exact = computed_sums(linear, codes) + linear.dequantization.zero

    def mean_gap(item):
        sums = computed_sums(item, codes) + item.dequantization.zero
        return abs((sums * 2.0**item.row_shift - exact).mean())

    assert mean_gap(raw) > 30
    # The zero is a whole number of steps.
    assert mean_gap(made) <= 2**made.row_shift / 2


def test_massive_activation_is_not_saturated():
    """One token in 300 whose outputs come from few large products decides for itself."""
    rng = np.random.default_rng(4)
    linear = rowgen_linear(rng)
    x = (rng.standard_t(5, (301, 256)) * 900).clip(-32767, 32767).astype(np.int16)
    x[150] = rng.integers(-20, 21, 256)
    x[150, 100] = 32767
    made = round_rows(linear, x.astype(np.float32), NARROW)
    assert relative_errors(linear, made, x)[150] < 0.05


def test_exact_hardware_keeps_the_linear():
    linear = rowgen_linear(np.random.default_rng(5))
    assert round_rows(linear, np.ones((4, 256), np.float32), TINY) is linear


@pytest.mark.parametrize("row_bits", [8, 10, 12])
@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), tokens=st.integers(1, 6))
def test_programs_compute_rounded_rows(row_bits, seed, tokens):
    """Lowered linears, among them ones with filled-up positions, against the definition."""
    rng = np.random.default_rng(seed)
    hardware = dataclasses.replace(TINY, row_bits=row_bits)
    inputs, columns = (int(n) for n in rng.integers(1, 90, 2))
    kind = str(rng.choice(["rowgen", "rowgen64"]))
    linear = random_linear(rng, kind, inputs, columns, hardware, group_lanes=int(rng.integers(3)))
    x = random_activations(rng, tokens, inputs)
    graph = lower_linears({"a": linear}, {"a": "x"}, {"x": x})
    build = compile_graph(graph, hardware)
    run = run_image(build.image.data, hardware, build.image.program_address)
    assert (build.outputs(run.memory)["a"] == direct(linear, x.astype(np.int16))).all()
    assert (PreparedLinear(linear)(x.astype(np.int16), False)
            == direct(linear, x.astype(np.int16))).all()


def small_build(shift=5):
    rng = np.random.default_rng(6)
    linear = random_linear(rng, "rowgen", 40, 40, NARROW)
    linear = dataclasses.replace(linear, row_shift=shift)
    graph = lower_linears({"a": linear}, {"a": "x"}, {"x": random_activations(rng, 2, 40)})
    return graph, compile_graph(graph, NARROW)


def test_disassembly_shows_the_shift():
    text = disasm(small_build()[1])
    assert " row_shift=5" in text
    assert "row_shift" not in disasm(small_build(0)[1])


def test_rounded_rows_need_their_hardware():
    graph, build = small_build()
    with pytest.raises(CompileError, match=r"^a\.rowgen: rows of 8 bits, hardware tiny computes "
                                           r"rows of 16$"):
        compile_graph(graph, TINY)
    with pytest.raises(VerifyError, match="is for hardware"):
        verify_image(build.image, TINY)


@pytest.mark.parametrize(("hardware", "mode", "shift", "most"), [
    (TINY, "rowgen", 1, 0), (NARROW, "rowgen", 9, 8), (NARROW, "stream", 1, 0),
    (dataclasses.replace(TINY, row_bits=12), "rowgen", 5, 4)])
def test_wrong_shifts_are_found(hardware, mode, shift, most):
    rng = np.random.default_rng(7)
    linear = random_linear(rng, mode, 40, 40, hardware)
    graph = lower_linears({"a": linear}, {"a": "x"}, {"x": random_activations(rng, 2, 40)})
    build = compile_graph(graph, hardware)
    fields, *_ = [fields for opcode, fields in decode_program(build.image.section("program"))
                 if opcode == Opcode.LUT]
    size = len(build.image.data)
    InstructionCheck(0, Opcode.LUT, fields, hardware).check(size, [])
    with pytest.raises(VerifyError, match=rf"row_shift is {shift}, at most {most} here"):
        InstructionCheck(0, Opcode.LUT, {**fields, "row_shift": shift}, hardware).check(size, [])


@pytest.mark.parametrize("row_bits", [8, 16])
def test_structure_has_the_hardware_s_rows(row_bits):
    hardware = dataclasses.replace(TINY, row_bits=row_bits)
    decoder = structural_decoder(SHAPES["tiny"], load_scheme("rowgen-2bit"), hardware, 8,
                                 drawn(1))
    linear = decoder.layer(0).linears["q"]
    assert isinstance(linear, RoundedRowgenLinear) == (row_bits == 8)
    if isinstance(linear, RoundedRowgenLinear):
        assert linear.row_shift == 7
