"""Lowering of a gated MLP block: ``down(function(gate(x)) * up(x))``."""

from __future__ import annotations

import numpy as np

from compiler.activation_table import FUNCTIONS, gated_table
from compiler.errors import CompileError
from compiler.ir.ops import Activate, Tensor
from compiler.lower.linear import Lowering, channel_order, columns_of, input_count, permute_columns
from compiler.quant.quantized import QuantizedLinear


def lower_mlp(
    lowering: Lowering, name: str, gate: QuantizedLinear, up: QuantizedLinear,
    down: QuantizedLinear, source: str, function: str = "silu",
) -> Tensor:
    """A gated MLP whose layers may have different schemes; the output is ``{name}.down``.

    The columns of gate and up are put into the channel order that down wants. Raises CompileError
    for an unknown function, different widths, or an order that column groups do not allow.
    """
    if function not in FUNCTIONS:
        raise CompileError(f"{name}: activation {function!r} is not one of {', '.join(FUNCTIONS)}")
    width = columns_of(gate)
    if columns_of(up) != width:
        raise CompileError(f"{name}: gate has {width} outputs, up {columns_of(up)}")
    input_count(down, width, f"{name}.down")
    builder = lowering.builder
    order = channel_order(down, width)
    outputs: list[Tensor] = []
    for part, linear in (("gate", gate), ("up", up)):
        x = lowering.load(source, linear, f"{name}.{part}")
        ordered = permute_columns(linear, order, f"{name}.{part}")
        outputs.append(lowering.linear(f"{name}.{part}", ordered, x))
    g, u = outputs
    table, shift = gated_table(FUNCTIONS[function], gate.y_scale, up.y_scale, down.input.x_scale)
    builder.function_errors[f"{name}.{function}"] = table.worst_error
    h = builder.add(Activate(
        name=f"{name}.{function}", source=g, factor=u, shift=shift,
        base=builder.constant(f"{name}.{function}.base", table.base.astype(np.int16)),
        delta=builder.constant(f"{name}.{function}.delta", table.delta.astype(np.int16)),
        out=Tensor(f"{name}.h", g.shape),
    ), down.input.x_scale)
    return lowering.store(f"{name}.down", lowering.linear(f"{name}.down", down, h))
