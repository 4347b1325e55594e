"""Rules that a graph obeys before it is lowered."""

from __future__ import annotations

from compiler.errors import VerifyError
from compiler.ir.graph import Graph, producers
from compiler.ir.matmul import LutMatmul, RowgenMatmul, SimdMatmul
from compiler.ir.ops import Dequantize, Quantize, Store


def verify_graph(graph: Graph) -> None:
    """Raise VerifyError unless the graph is well formed.

    Every tensor is made once, before its use, and used with the shape it was made with; every
    operation's own rules hold; constants hold values of their range; sums go to one Dequantize.
    """
    made_by = producers(graph)
    known = {name: (array.shape, array.dtype.name)
             for name, array in {**graph.constants, **graph.inputs}.items()}
    if twice := set(known) & set(made_by):
        raise VerifyError(f"{min(twice)}: is a constant or input and is made by an operation")
    names: set[str] = set()
    readers: dict[str, list[str]] = {}
    for op in graph.ops:
        if op.name in names:
            raise VerifyError(f"{op.name}: two operations have this name")
        names.add(op.name)
        for tensor in op.inputs:
            if tensor.name not in known:
                raise VerifyError(f"{op.name}: {tensor.name} is used before it is made")
            if known[tensor.name] != (tensor.shape, tensor.dtype):
                shape, dtype = known[tensor.name]
                raise VerifyError(f"{op.name}: {tensor.name} is {dtype} {list(shape)}, used as "
                                  f"{tensor.dtype} {list(tensor.shape)}")
            readers.setdefault(tensor.name, []).append(op.name)
        op.verify()
        for tensor in op.outputs:
            known[tensor.name] = tensor.shape, tensor.dtype
    tokens = {array.shape[0] for array in graph.inputs.values()}
    if len(tokens) > 1:
        raise VerifyError(f"inputs have different numbers of tokens: {sorted(tokens)}")
    for op in graph.ops:
        if isinstance(op, LutMatmul | RowgenMatmul | SimdMatmul):
            users = readers.get(op.out.name, [])
            consumers = [user for user in graph.ops if user.name in users]
            if len(consumers) != 1 or not isinstance(consumers[0], Dequantize):
                raise VerifyError(f"{op.name}: sums must go to exactly one Dequantize")
    _verify_constants(graph)
    if not any(isinstance(op, Store) for op in graph.ops):
        raise VerifyError("the graph stores nothing")


def _verify_constants(graph: Graph) -> None:
    """Ranges that the hardware relies on."""
    for op in graph.ops:
        if isinstance(op, LutMatmul):
            tables, indices = (graph.constants[t.name] for t in (op.tables, op.indices))
            if int(tables.max(initial=0)) >= 1 << op.entry_bits:
                raise VerifyError(f"{op.name}: table entries exceed {op.entry_bits} bits")
            if int(indices.max(initial=0)) >= tables.shape[3]:
                raise VerifyError(f"{op.name}: an index exceeds the {tables.shape[3]} entries")
        elif isinstance(op, RowgenMatmul):
            books, indices = (graph.constants[t.name] for t in (op.codebooks, op.indices))
            if int(indices.max(initial=0)) >= books.shape[2]:
                raise VerifyError(f"{op.name}: an index exceeds the {books.shape[2]} entries")
        elif isinstance(op, SimdMatmul):
            weights = graph.constants[op.weights.name]
            limit = 1 << (op.weight_bits - 1)
            if int(weights.min(initial=0)) < -limit or int(weights.max(initial=0)) >= limit:
                raise VerifyError(f"{op.name}: weights exceed int{op.weight_bits}")
            alphas = graph.constants[op.alphas.name].astype(int)
            by_group = alphas.reshape(op.scales.shape[0], -1)
            if (by_group[:, 1:] > by_group[:, :-1]).any():
                raise VerifyError(f"{op.name}: channel exponents rise within a weight group")
        elif isinstance(op, Quantize):
            if int(graph.constants[op.alphas.name].max(initial=0)) > 4:
                raise VerifyError(f"{op.name}: channel exponents exceed 4")
        elif isinstance(op, Dequantize) and int(
            graph.constants[op.multiplier.name].min(initial=0)
        ) < 0:
            raise VerifyError(f"{op.name}: a multiplier is negative")
