"""Lowering of the linear parts of a decoder layer: projections q, k, v, o and the MLP."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.ir.graph import Graph
from compiler.ir.verify import verify_graph
from compiler.lower.linear import Floats, Lowering, lower_linear
from compiler.lower.mlp import lower_mlp
from compiler.model import INPUT_OF
from compiler.quant.quantized import QuantizedLinear

PROJECTIONS = ("q", "k", "v", "o")
MLP = ("gate", "up", "down")


def lower_layer(
    lowering: Lowering, layer: str, linears: Mapping[str, QuantizedLinear], function: str
) -> None:
    """Lower the linears of one layer, named q, k, v, o, gate, up, down; an MLP is whole or absent.

    Sources of the activations are called ``{layer}.{INPUT_OF[linear]}``.
    """
    if unknown := set(linears) - set(INPUT_OF):
        raise ValueError(f"unknown linear layer {min(unknown)}")
    for name in PROJECTIONS:
        if name in linears:
            lower_linear(lowering, f"{layer}.{name}", linears[name], f"{layer}.{INPUT_OF[name]}")
    given = [name for name in MLP if name in linears]
    if given and len(given) < len(MLP):
        raise ValueError(f"an MLP needs {', '.join(MLP)}, not only {', '.join(given)}")
    if given:
        lower_mlp(lowering, layer, linears["gate"], linears["up"], linears["down"],
                  f"{layer}.{INPUT_OF['gate']}", function)


def lower_linears(
    linears: Mapping[str, QuantizedLinear], inputs: Mapping[str, str],
    sources: Mapping[str, Floats],
) -> Graph:
    """Graph of independent linear layers; ``inputs`` names the source of each layer."""
    lowering = Lowering(sources)
    for name, linear in linears.items():
        lower_linear(lowering, name, linear, inputs[name])
    graph = lowering.builder.graph()
    verify_graph(graph)
    return graph


def lower_block(
    layers: Mapping[str, Mapping[str, QuantizedLinear]], sources: Mapping[str, Floats],
    function: str = "silu",
) -> Graph:
    """Graph of the linears of several decoder layers; raises CompileError or VerifyError."""
    lowering = Lowering(sources)
    for layer, linears in layers.items():
        lower_layer(lowering, layer, linears, function)
    graph = lowering.builder.graph()
    verify_graph(graph)
    return graph
