"""Function tables: stated error, exactness at zero, shifts of gated products."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.activation_table import (
    FACTORS,
    FUNCTIONS,
    function_of,
    function_table,
    gated_table,
    int16_inputs,
    pade_silu,
    silu,
)
from compiler.errors import CompileError
from hw.errors import ConfigError
from hw.golden.activation import activate


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_worst_error_holds_for_every_input_and_is_small(name):
    peak = np.abs(FUNCTIONS[name](np.linspace(-8, 8, 1001))).max()
    table = function_table(FUNCTIONS[name], 8 / 32767, 1.1 * peak / 32767)
    x = int16_inputs()
    y = activate(x, table.base, table.delta, None, 0) * table.out_scale
    error = np.abs(y - FUNCTIONS[name](x * table.in_scale)).max()
    assert error == pytest.approx(table.worst_error)
    assert table.worst_error < 4 * table.out_scale


def test_zero_stays_zero():
    table = function_table(silu, 16 / 32767, 16 / 32767)
    assert activate(np.zeros(1, np.int16), table.base, table.delta, None, 0).tolist() == [0]


def test_gated_product_needs_only_a_shift():
    gate_scale, up_scale, h_scale = 9 / 32767, 5 / 32767, 20 / 32767
    table, shift = gated_table(silu, gate_scale, up_scale, h_scale)
    assert table.out_scale * up_scale == pytest.approx(h_scale * 2.0**-shift)
    rng = np.random.default_rng(0)
    g, u = rng.integers(-32767, 32768, (2, 1000)).astype(np.int16)
    h = activate(g, table.base, table.delta, u, shift)
    expected = np.clip(silu(g * gate_scale) * (u * up_scale) / h_scale, -32767, 32767)
    assert np.abs(h - expected).max() <= table.worst_error * 5 / h_scale + 1


def test_scales_that_no_table_fits():
    with pytest.raises(CompileError, match=r"^no activation table between input scale 1, factor"):
        gated_table(silu, 1.0, 1.0, 1.0)
    with pytest.raises(CompileError, match=r"values or slopes do not fit 16 bits at input scale"):
        function_table(silu, 1.0, 0.5)


def test_drelu_is_a_relu_of_both():
    assert FACTORS["drelu"] is FUNCTIONS["relu"]


@pytest.mark.parametrize(("text", "name"), [
    ("x * sigmoid(x)", "silu"), ("x / (1 + exp(-x))", "silu"), ("max(x, 0) ** 2", "relu2"),
    ("where(x > 0, x, exp(min(x, 0)) - 1)", "elu"), ("0.5 * x * (1 + erf(x / sqrt(2)))", "gelu"),
    ("x * tanh(log(1 + exp(x)))", "mish"),
])
def test_expressions_equal_the_named_functions(text, name):
    x = np.linspace(-12, 12, 1001)
    np.testing.assert_allclose(function_of(text)(x), FUNCTIONS[name](x), atol=1e-12)


def test_pade_is_near_silu():
    x = np.linspace(-30, 30, 4001)
    assert np.abs(pade_silu(x) - silu(x)).max() < 0.01


@pytest.mark.parametrize(("text", "message"), [
    ("swish", "activation 'swish' is not one of silu, gelu, gelu_tanh,"),
    ("x + y", "activation 'x + y': unknown name 'y'; known are x, pi, e, exp,"),
    ("__import__('os')", "unknown function '__import__'; known are exp, log,"),
    ("x.real", "'x.real' is not allowed; use numbers, x,"),
    ("exp(x, x)", "exp takes 1 values, not 2"),
    ("x +", "activation 'x +' is not an expression of x"),
    ("x + 'a'", "'a' is not a number"),
    ("x + " * 130 + "x", "has at most 500 characters, not 521"),
])
def test_wrong_expressions(text, message):
    with pytest.raises(ConfigError) as error:
        function_of(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_large_powers_end_at_once():
    assert not np.isfinite(function_of("9 ** 9 ** 9 * x")(np.ones(2))).any()
