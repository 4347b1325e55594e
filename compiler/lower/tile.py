"""From a graph to instructions: tiles of tokens that the hardware's stores hold."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compiler.errors import CompileError
from compiler.image.access import operand_rows
from compiler.image.layout import (
    pack_activations,
    pack_factors,
    pack_function,
    pack_thresholds,
    pad_axis,
)
from compiler.image.program import Task
from compiler.ir.graph import Graph, producers
from compiler.ir.matmul import LutMatmul, RowgenMatmul, SimdMatmul
from compiler.ir.ops import Activate, Dequantize, Load, Op, Quantize, Search, Store
from compiler.lower.allocate import WHOLE, OutOfSpaceError, Share
from compiler.lower.context import Context, Operand
from compiler.lower.matmul import LinearEmitter
from hw.config import HardwareConfig
from hw.isa import Opcode

TRANSFER_WORDS_MAX = 65535


@dataclass(frozen=True, kw_only=True)
class TensorTile:
    """Tokens ``first..last-1`` of an activation tensor in memory: rows of ``words`` port words."""

    tensor: str
    region: str
    first: int
    last: int
    columns: int
    words: int


@dataclass(frozen=True, kw_only=True)
class Tiled:
    """Instructions without addresses and tokens, and every region they point to.

    constants, inputs: bytes by region; outputs: byte sizes by region; tiles: where the tokens of
    inputs and outputs are.
    """

    tasks: Sequence[Task]
    constants: Mapping[str, bytes]
    inputs: Mapping[str, bytes]
    outputs: Mapping[str, int]
    input_tiles: Sequence[TensorTile]
    output_tiles: Sequence[TensorTile]


def row_words(graph: Graph, config: HardwareConfig) -> dict[str, int]:
    """Vector words of a row of every int16 tensor: as many as its widest reader takes.

    A function's source, factor and result share one row length.
    """
    elements = config.word_elements
    words: dict[str, int] = {}

    def widen(name: str, least: int) -> None:
        words[name] = max(words.get(name, 0), least)

    for op in graph.ops:
        for tensor in op.outputs:
            if isinstance(op, Load | Dequantize | Activate):
                widen(tensor.name, -(-tensor.shape[1] // elements))
        if isinstance(op, Search):
            widen(op.source.name, -(-op.centroids.shape[0] // config.positions))
        elif isinstance(op, Quantize):
            widen(op.source.name, -(-op.out.shape[1] // elements))
    # Backwards, so that a chain of functions is equal after one pass.
    for op in reversed(graph.ops):
        if isinstance(op, Activate):
            names = [t.name for t in (op.source, op.factor, op.out) if t is not None]
            widest = max(words[name] for name in names)
            words.update(dict.fromkeys(names, widest))
    return words


def last_uses(graph: Graph) -> dict[int, list[str]]:
    """Tensors whose last reader is the operation of this index.

    A matrix operation runs where its sums are dequantized, and searches its codes there.
    """
    made = producers(graph)
    last: dict[str, int] = {}
    for index, op in enumerate(graph.ops):
        names = [tensor.name for tensor in op.inputs]
        if isinstance(op, Dequantize):
            matmul = made[op.sums.name]
            names += [tensor.name for tensor in matmul.inputs]
            if isinstance(matmul, LutMatmul):
                names.append(made[matmul.codes.name].inputs[0].name)
            if op.peaks is not None:
                names.append(made[op.peaks.name].outputs[0].name)
        last.update(dict.fromkeys(names, index))
        for tensor in op.outputs:
            last.setdefault(tensor.name, index)
    result: dict[int, list[str]] = {}
    for name, index in last.items():
        result.setdefault(index, []).append(name)
    return result


@dataclass(frozen=True)
class PreparedGraph:
    """A graph and what tiling asks of it, whatever the tokens of a tile.

    words: vector words of a row, by tensor; made: operation that makes a tensor; last: tensors
    that nothing reads behind an operation. inputs: prepared inputs that are made of a tensor;
    results: of linears, by name.
    """

    graph: Graph
    words: Mapping[str, int]
    made: Mapping[str, Op]
    last: Mapping[int, Sequence[str]]
    inputs: Mapping[str, Sequence[str]]
    results: Mapping[str, Dequantize]


def prepare_graph(graph: Graph, config: HardwareConfig) -> PreparedGraph:
    """What `Tiler` takes."""
    inputs: dict[str, list[str]] = {}
    for op in graph.ops:
        if isinstance(op, Quantize | Search):
            inputs.setdefault(op.source.name, []).append(op.out.name)
    return PreparedGraph(
        graph, row_words(graph, config), producers(graph), last_uses(graph), inputs,
        {op.out.name.removesuffix(".y"): op for op in graph.ops if isinstance(op, Dequantize)})


class Tiler:
    """One attempt to emit the whole graph with a fixed number of tokens a tile.

    share, reserved: of the stores, of vector memory (`compiler.lower.allocate.Allocator`).
    """

    def __init__(
        self, prepared: PreparedGraph, config: HardwareConfig, tokens: int,
        share: Share = WHOLE, reserved: int = 0,
    ) -> None:
        self.graph, self.config = prepared.graph, config
        self.made, self.last = prepared.made, prepared.last
        self.context = Context(self.graph, config, tokens, prepared.words, self.made,
                               share=share, reserved=reserved)
        self.inputs: dict[str, bytes] = {}
        self.outputs: dict[str, int] = {}
        self.input_tiles: list[TensorTile] = []
        self.output_tiles: list[TensorTile] = []

    def emit(self, first: int, last: int) -> None:
        """Emit all operations for tokens ``first..last-1``; raises OutOfSpaceError."""
        context, tokens = self.context, last - first
        for store in context.stores:
            store.reset()
        for index, op in enumerate(self.graph.ops):
            if isinstance(op, Load):
                self.emit_load(op, first, last)
            elif isinstance(op, Search):
                self.prepare_search(op)
            elif isinstance(op, Quantize):
                self.emit_quantize(op, tokens)
            elif isinstance(op, Dequantize):
                context.place(op.out.name)
                matmul = self.made[op.sums.name]
                assert isinstance(matmul, LutMatmul | RowgenMatmul | SimdMatmul)
                LinearEmitter(context, matmul, op).emit(tokens)
            elif isinstance(op, Activate):
                self.emit_activate(op, tokens, index)
            elif isinstance(op, Store):
                self.emit_store(op, first, last)
            for name in self.last.get(index, []):
                self.release(name)

    def release(self, name: str) -> None:
        """Free what a tensor holds on chip."""
        context = self.context
        if name in context.places:
            context.free(name)
        if name in context.operands:
            operand = context.operands.pop(name)
            if operand.start is not None:
                context.store.free(operand.start)
            if isinstance(self.made[name], Quantize):
                context.alphas.free(operand.alphas)
                context.scales.free(operand.scales)

    def tile(self, tensor: str, region: str, span: tuple[int, int], columns: int) -> TensorTile:
        """Where some tokens are in memory."""
        return TensorTile(tensor=tensor, region=region, first=span[0], last=span[1],
                          columns=columns, words=self.context.words[tensor])

    def transfer_words(self, name: str, tokens: int) -> int:
        """Words of a tile of a tensor; raises OutOfSpaceError when one instruction is too small."""
        words = self.context.words[name] * tokens
        if words > TRANSFER_WORDS_MAX:
            raise OutOfSpaceError("words of one transfer", words, TRANSFER_WORDS_MAX)
        return words

    def emit_load(self, op: Load, first: int, last: int) -> None:
        """LOAD; the image holds the channels in their order already."""
        context, name = self.context, op.out.name
        place = context.place(name)
        region = f"{name}[{first}:{last}]"
        x = op.evaluate([self.graph.inputs[op.source.name][first:last],
                         self.graph.constants[op.order.name]])[0]
        self.inputs[region] = pack_activations(x, place.stride, self.config)
        self.input_tiles.append(self.tile(name, region, (first, last), op.out.shape[1]))
        context.emit(Opcode.LOAD, op.name, region, destination=place.start,
                     words=self.transfer_words(name, last - first))

    def prepare_search(self, op: Search) -> None:
        """Room for the codes; the searches are emitted with the layer that reads them."""
        context = self.context
        rounds = -(-op.centroids.shape[0] // self.config.positions)
        start: int | None
        try:
            start = context.store.allocate(rounds * context.tokens)
        except OutOfSpaceError:
            start = None
        context.operands[op.out.name] = Operand(start, rounds, False)

    def emit_quantize(self, op: Quantize, tokens: int) -> None:
        """QUANTIZE of a whole tensor."""
        context, config = self.context, self.config
        alphas = self.graph.constants[op.alphas.name]
        chunk = op.out.shape[1] // len(alphas)
        if chunk != config.simd_depth:
            raise CompileError(f"{op.name}: channel factors are for chunks of {chunk} inputs, "
                               f"hardware {config.name} takes {config.simd_depth}")
        rounds = -(-op.out.shape[1] // config.word_elements)
        int4 = op.bits == 4
        operand = Operand(context.store.allocate(rounds * operand_rows(context.tokens, int4)),
                          rounds, True, context.alphas.allocate(rounds),
                          context.scales.allocate(context.tokens))
        context.operands[op.out.name] = operand
        place = context.places[op.source.name]
        padded = pad_axis(alphas, 0, rounds * config.chunks_per_word)
        pack = functools.partial(pack_factors, padded, config)
        if op.thresholds is not None:
            limits = pad_axis(self.graph.constants[op.thresholds.name], 0,
                              rounds * config.word_elements)
            pack = functools.partial(pack_thresholds, padded, limits, config)
        region = context.constant(f"{op.name}.factors", pack)
        lists = op.lists and tokens == 1
        if lists:
            context.listed = op.out.name
        assert operand.start is not None
        context.emit(
            Opcode.QUANTIZE, op.name, region, rounds=rounds, tokens=tokens, heads=1,
            source=place.start, stride=place.stride, head_stride=0, operands=operand.start,
            alphas=operand.alphas, scales=operand.scales, int4=int(int4),
            thresholds=int(op.thresholds is not None), lists=int(lists))

    def emit_activate(
        self, op: Activate, tokens: int, index: int, words: tuple[int, int] | None = None
    ) -> None:
        """ACTIVATE, in place when nothing reads the source later.

        words: of the rows, if not all; those behind follow, and the tensors are there until then.
        """
        context, constants = self.context, self.graph.constants
        base, delta = constants[op.base.name], constants[op.delta.name]
        source = context.places[op.source.name]
        first, last = words or (0, source.stride)
        filled = source.stride * self.config.word_elements > op.out.shape[1]
        if op.factor is None and filled and int(base[len(base) // 2]):
            raise CompileError(f"{op.name}: the function is not 0 at 0, which filled-up channels "
                               "rely on; use a width that fills whole words")
        if op.out.name in context.places:
            place = context.places[op.out.name]
        elif op.source.name in self.last.get(index, []):
            place = context.places[op.out.name] = source
        else:
            place = context.place(op.out.name)
        if place == source and last == source.stride:
            del context.places[op.source.name]
        factor = source.start if op.factor is None else context.places[op.factor.name].start
        region = context.constant(f"{op.name}.table", functools.partial(
            pack_function, base, delta, op.shift))
        context.emit(
            Opcode.ACTIVATE, op.name, region, tokens=tokens, words=last - first,
            source=source.start + first, factor=factor + first, destination=place.start + first,
            stride=place.stride, gated=int(op.factor is not None))

    def emit_store(self, op: Store, first: int, last: int) -> None:
        """STORE of a whole tile."""
        context, source = self.context, op.source.name
        words = self.transfer_words(source, last - first)
        region = f"{op.out.name}[{first}:{last}]"
        self.outputs[region] = words * self.config.port_bytes
        tile = self.tile(source, region, (first, last), op.out.shape[1])
        self.output_tiles.append(TensorTile(**{**tile.__dict__, "tensor": op.out.name}))
        context.emit(Opcode.STORE, op.name, region, source=context.places[source].start,
                     words=words)


def token_count(graph: Graph) -> int:
    """Tokens of the graph."""
    return len(next(iter(graph.inputs.values())))


def emit_graph(graph: Graph, config: HardwareConfig) -> Tiler:
    """All instructions, with as few tiles of tokens as the hardware's stores allow.

    Constants are not packed yet. Raises CompileError in one line when the hardware cannot hold or
    run an operation.
    """
    total, prepared = token_count(graph), prepare_graph(graph, config)
    parts = -(-total // config.tokens_max)
    while True:
        size = -(-total // parts)
        tiler = Tiler(prepared, config, size)
        try:
            for span in np.array_split(np.arange(total), parts):
                tiler.emit(int(span[0]), int(span[-1]) + 1)
            return tiler
        except OutOfSpaceError as error:
            if size == 1:
                raise CompileError(
                    f"hardware {config.name}: {error.store} holds {error.size}, too few even for "
                    f"one token ({error.needed} more are needed); use larger hardware") from None
            while -(-total // parts) == size:
                parts += 1


def tile_graph(graph: Graph, config: HardwareConfig) -> Tiled:
    """Instructions of `emit_graph` with the bytes that they need."""
    tiler = emit_graph(graph, config)
    context = tiler.context
    return Tiled(
        tasks=context.tasks,
        constants={name: make() for name, make in context.constants.items()},
        inputs=tiler.inputs, outputs=tiler.outputs,
        input_tiles=tiler.input_tiles, output_tiles=tiler.output_tiles,
    )


