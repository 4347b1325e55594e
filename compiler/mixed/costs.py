"""What one linear costs in a pass: the counters of its own instructions and of its input's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from compiler.errors import CompileError
from compiler.image.program import Task
from compiler.ir.matmul import LutMatmul, RowgenMatmul, SimdMatmul
from compiler.ir.ops import Dequantize, Quantize, Search, Tensor
from compiler.lower.allocate import OutOfSpaceError
from compiler.lower.context import Place
from compiler.lower.layer import PIECES, ResidualEmitter
from compiler.lower.linear import Lowering
from compiler.lower.matmul import LinearEmitter
from compiler.lower.tile import Tiler, prepare_graph
from compiler.mixed.counters import Timing, instruction_counters
from compiler.quant.quantized import QuantizedLinear, SearchInput
from hw.config import HardwareConfig
from hw.isa import Opcode

PREPARATIONS = (Opcode.SEARCH, Opcode.QUANTIZE)
CYCLES = "cycles"
RESIDUAL_WRITERS = ("o", "down")


@dataclass(frozen=True, kw_only=True)
class LinearCost:
    """Counters of a linear in one pass.

    own: of its products and its drain. preparation: of its input's codes or integers, which
    linears of one input share where their schemes agree.
    """

    own: Mapping[str, int]
    preparation: Mapping[str, int]


def linear_tasks(
    linear: QuantizedLinear, name: str, config: HardwareConfig, tokens: int, tokens_max: int
) -> list[Task]:
    """Instructions of a linear and of its input's preparation for ``tokens`` tokens.

    name: of the linear in its layer. tokens_max: tokens that tiles are made for, as in
    `compiler.lower.layer`. Raises OutOfSpaceError when the stores are too small for them.
    """
    source = linear.input
    if isinstance(source, SearchInput):
        inputs = source.centroids.shape[0] * source.centroids.shape[2]
    else:
        inputs = int((source.order >= 0).sum())
    lowering = Lowering({})
    lowering.linear("linear", linear, Tensor("x", (tokens_max, inputs)))
    tiler = Tiler(prepare_graph(lowering.builder.graph(), config), config, tokens_max)
    context = tiler.context
    context.place("x")
    (op,) = (op for op in tiler.graph.ops if isinstance(op, Dequantize))
    matmul = tiler.made[op.sums.name]
    assert isinstance(matmul, LutMatmul | RowgenMatmul | SimdMatmul)
    if isinstance(matmul, LutMatmul):
        search = tiler.made[matmul.codes.name]
        assert isinstance(search, Search)
        tiler.prepare_search(search)
    else:
        quantize = tiler.made[matmul.x.name]
        assert isinstance(quantize, Quantize)
        tiler.emit_quantize(quantize, tokens)
    wide = name in RESIDUAL_WRITERS
    if wide:
        words = context.words[op.out.name]
        context.places["residual"] = Place(context.vector.allocate(2 * words * tokens_max),
                                           2 * words)
    else:
        context.place(op.out.name)
    emitter = ResidualEmitter if wide else LinearEmitter
    emitter(context, matmul, op, PIECES.get(name, 1)).emit(tokens)
    return context.tasks


def linear_cost(
    linear: QuantizedLinear, name: str, config: HardwareConfig, tokens: int, *,
    tokens_max: int | None = None, timing: Timing | None = None,
) -> LinearCost:
    """Cost of a linear in a pass of ``tokens`` tokens that is not cut into halves.

    name: of the linear in its layer. tokens_max: tokens of the largest pass; as many as the
    hardware holds if it is None. Raises CompileError when the hardware cannot hold the linear.
    """
    most = max(tokens, config.tokens_max if tokens_max is None else tokens_max)
    while True:
        try:
            tasks = linear_tasks(linear, name, config, tokens, most)
            break
        except OutOfSpaceError as error:
            if most <= tokens:
                raise CompileError(
                    f"hardware {config.name}: {error.store} holds {error.size}, too few for "
                    f"{tokens} tokens of a linear; cost fewer tokens") from None
            most -= 1
    own: Counter[str] = Counter()
    preparation: Counter[str] = Counter()
    for task in tasks:
        counters = instruction_counters(task.opcode, task.fields, config, timing or Timing())
        (preparation if task.opcode in PREPARATIONS else own).update(counters)
    return LinearCost(own=dict(own), preparation=dict(preparation))


def read_bytes(counters: Mapping[str, float], config: HardwareConfig) -> float:
    """Bytes read from external memory."""
    words = sum(value for name, value in counters.items() if name.startswith("read_words_"))
    return words * config.port_bytes
