"""Function tables: stated error, exactness at zero, shifts of gated products."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.activation_table import FUNCTIONS, function_table, gated_table, int16_inputs, silu
from compiler.errors import CompileError
from hw.golden.activation import activate


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_worst_error_holds_for_every_input_and_is_small(name):
    table = function_table(FUNCTIONS[name], 8 / 32767, 8.5 / 32767)
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
