"""Layers of one form: their instructions take the same room, whatever their numbers are."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

import numpy as np

from compiler.decoder.quantized import QuantizedLayer
from compiler.model import INPUT_OF
from compiler.quant.quantized import IntegerInput, QuantizedLinear, SearchInput, same_skip

VALUES = frozenset(("dequantization", "shift", "row_shift"))
"""Fields of a linear that set no size."""


def form_of(layer: QuantizedLayer) -> Hashable:
    """Equal for layers whose instructions take the same room: types, shapes, shared inputs."""
    linears = layer.linears
    return layer.token_rule is None, tuple(
        (name, sizes(linear), sizes(linear.input),
         next(other for other in linears if INPUT_OF[other] == INPUT_OF[name]
              and alike(linears[other].input, linear.input)))
        for name, linear in linears.items())


def sizes(value: QuantizedLinear | IntegerInput | SearchInput) -> Hashable:
    """Type of a value, shapes of its arrays, its whole numbers."""
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)
              if field.name not in VALUES}
    return (type(value).__name__, *(
        (name, part.shape if isinstance(part, np.ndarray) else part)
        for name, part in fields.items() if isinstance(part, np.ndarray | int | None)))


def alike(a: IntegerInput | SearchInput, b: IntegerInput | SearchInput) -> bool:
    """Whether two linears of one source share its preparation (`compiler.lower.linear`)."""
    if a is b:
        return True
    if isinstance(a, SearchInput) or isinstance(b, SearchInput):
        return (isinstance(a, SearchInput) and isinstance(b, SearchInput) and a.l2 == b.l2
                and np.array_equal(a.centroids, b.centroids))
    return (a.bits == b.bits and np.array_equal(a.alphas, b.alphas)
            and same_skip(a.skip, b.skip))
