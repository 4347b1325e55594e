"""A graph: operations in order, constants and inputs; and a builder for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from compiler.errors import VerifyError
from compiler.ir.ops import Cost, Op, Store, Tensor
from hw.fixed import Ints


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Operations in program order.

    constants: arrays that do not depend on the tokens; inputs: int16 [T, D] activations; both by
    tensor name. scales: float step of int16 tensors, where known. function_errors: worst absolute
    error of each activation function's table over all int16 inputs, by operation.
    """

    ops: Sequence[Op]
    constants: Mapping[str, Ints]
    inputs: Mapping[str, Ints]
    scales: Mapping[str, float]
    function_errors: Mapping[str, float] = field(default_factory=dict)

    @property
    def outputs(self) -> list[Tensor]:
        """Tensors that the graph stores."""
        return [op.out for op in self.ops if isinstance(op, Store)]

    def evaluate(self) -> dict[str, Ints]:
        """Every tensor by name, computed by the golden functions."""
        values: dict[str, Ints] = {**self.constants, **self.inputs}
        for op in self.ops:
            results = op.evaluate([values[tensor.name] for tensor in op.inputs])
            for tensor, result in zip(op.outputs, results, strict=True):
                values[tensor.name] = result
        return values

    def cost(self) -> Cost:
        """Work of all operations."""
        return sum((op.cost() for op in self.ops), Cost())


@dataclass
class GraphBuilder:
    """Collects operations; names are unique."""

    ops: list[Op] = field(default_factory=list)
    constants: dict[str, Ints] = field(default_factory=dict)
    inputs: dict[str, Ints] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    function_errors: dict[str, float] = field(default_factory=dict)

    def constant(self, name: str, value: Ints) -> Tensor:
        """Add a constant."""
        if name in self.constants:
            raise ValueError(f"constant {name} exists")
        self.constants[name] = value
        return Tensor(name, value.shape, value.dtype.name)

    def input(self, name: str, value: Ints, scale: float) -> Tensor:
        """Add activations, int16 [T, D], in steps of ``scale``."""
        if name in self.inputs:
            raise ValueError(f"input {name} exists")
        self.inputs[name] = value
        self.scales[name] = scale
        return Tensor(name, value.shape, value.dtype.name)

    def add(self, op: Op, scale: float | None = None) -> Tensor:
        """Append an operation; returns its (first) output, int16 steps of ``scale``."""
        self.ops.append(op)
        if scale is not None:
            self.scales[op.outputs[0].name] = scale
        return op.outputs[0]

    def graph(self) -> Graph:
        """The finished graph."""
        return Graph(ops=tuple(self.ops), constants=self.constants, inputs=self.inputs,
                     scales=self.scales, function_errors=self.function_errors)


def producers(graph: Graph) -> dict[str, Op]:
    """Operation that makes each tensor; raises VerifyError when two do."""
    result: dict[str, Op] = {}
    for op in graph.ops:
        for tensor in op.outputs:
            if tensor.name in result:
                raise VerifyError(f"{op.name}: {tensor.name} is already made by "
                                  f"{result[tensor.name].name}")
            result[tensor.name] = op
    return result
