"""How far a compiled block is from float: relative errors of golden results."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler.activation_table import FUNCTIONS
from compiler.ir.graph import Graph
from compiler.lower.linear import Floats, channel_order
from compiler.model import Model
from compiler.quant.quantized import QuantizedLinear
from hw.fixed import Ints


def relative_error(actual: Floats, reference: Floats) -> float:
    """``|actual - reference| / |reference|`` in the Euclidean norm."""
    size = float(np.linalg.norm(reference.astype(np.float64)))
    return float(np.linalg.norm((actual - reference).astype(np.float64))) / (size or 1.0)


def float_linear(model: Model, name: str, x: Floats) -> Floats:
    """The float layer ``layers.{i}.{linear}``."""
    y: Floats = x @ model.tensor(f"{name}.weight").T
    if model.has(f"{name}.bias"):
        y = y + model.tensor(f"{name}.bias")
    return y


def unordered(values: Ints, order: Ints, scale: float) -> Floats:
    """Float values of int16 steps whose channel ``order[i]`` is at place i."""
    result = np.zeros((len(values), int(order.max()) + 1), np.float32)
    result[:, order[order >= 0]] = values[:, order >= 0] * scale
    return result


def layer_errors(
    model: Model, layer: str, linears: Mapping[str, QuantizedLinear],
    activations: Mapping[str, Floats], graph: Graph, values: Mapping[str, Ints],
) -> dict[str, float]:
    """Relative error of every linear of a layer against the float layer on the float input.

    ``{layer}.down`` is measured on the input it really gets; ``{layer}.mlp`` is the whole block
    from its float input to its output. values: the graph's tensors.
    """
    errors: dict[str, float] = {}
    reference: dict[str, Floats] = {}
    for name in linears:
        full = f"{layer}.{name}"
        tensor = values[f"{full}.y"]
        order = np.arange(tensor.shape[1])
        if name in ("gate", "up"):
            order = channel_order(linears["down"], activations["down"].shape[1])
        actual = unordered(tensor, order, graph.scales[f"{full}.y"])
        x = activations[name]
        if name == "down":
            hidden = channel_order(linears["down"], x.shape[1])
            x = unordered(values[f"{layer}.h"], hidden, graph.scales[f"{layer}.h"])
        reference[name] = float_linear(model, full, x)
        errors[full] = relative_error(actual, reference[name])
        if name == "down":
            function = FUNCTIONS[model.architecture.activation]
            exact = function(reference["gate"].astype(np.float64)) * reference["up"]
            whole = float_linear(model, full, exact.astype(np.float32))
            errors[f"{layer}.mlp"] = relative_error(actual, whole)
    return errors
