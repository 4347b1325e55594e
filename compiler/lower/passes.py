"""A pass: some consecutive tokens through all layers, and the next token after the last one.

Equal neighbouring layers become a loop: the program is emitted and its tokens assigned with a few
copies of the layer, and the copies whose masks have become periodic are folded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from compiler.decoder.quantized import QuantizedDecoder, QuantizedLayer
from compiler.image.image import Section
from compiler.image.layout import align, pack_norm
from compiler.image.program import Task
from compiler.ir.graph import Graph
from compiler.ir.matmul import SimdMatmul
from compiler.ir.ops import Dequantize, Quantize, Tensor
from compiler.lower.attention import SHARED, Span
from compiler.lower.cache import CACHE
from compiler.lower.context import Place
from compiler.lower.halves import Halves
from compiler.lower.layer import ArgmaxEmitter
from compiler.lower.linear import Lowering
from compiler.lower.stages import LayerStages, Stage
from compiler.lower.tile import Tiler, prepare_graph
from compiler.lower.tokens import assign_tokens
from compiler.quant.quantized import QuantizedLinear, SearchInput
from hw.config import HardwareConfig
from hw.isa import LINE_BYTES, Base, Opcode

COPIES = 4
"""Copies of a layer that stand for a longer run: the first, two that must be alike, the last."""


LayerTasks = tuple[list[Task], dict[str, Callable[[], bytes]]]
"""Instructions of a layer, and what its own constant regions hold."""


@dataclass(frozen=True)
class LayerGroup:
    """Layers ``first..last-1`` whose instructions differ in addresses only; one stands for all."""

    first: int
    last: int
    layer: QuantizedLayer


@dataclass(frozen=True)
class Program:
    """Instructions with tokens; ``ops`` names the operation of each."""

    tasks: Sequence[Task]
    addresses: Mapping[str, int]

    @property
    def ops(self) -> list[str]:
        """Operation of every stored instruction."""
        return [task.op for task in self.tasks]


def copies(first: int, last: int) -> list[int]:
    """Layers of a run that stand for all of it when tokens are assigned."""
    count = min(last - first, COPIES)
    return [first, *range(first + 1, first + count - 1), last - 1][:count]


def input_words(linear: QuantizedLinear, config: HardwareConfig) -> int:
    """Vector words that a linear reads of each token."""
    if isinstance(linear.input, SearchInput):
        return -(-len(linear.input.centroids) // config.positions)
    return -(-len(linear.input.order) // config.word_elements)


def residual_words(decoder: QuantizedDecoder, layer: QuantizedLayer) -> int:
    """Words of a token's normalized residual: as many as its widest reader takes."""
    config = decoder.hardware
    readers = [linear for name, linear in layer.linears.items() if name not in ("o", "down")]
    return max(-(-decoder.architecture.width // config.word_elements),
               *(input_words(linear, config) for linear in [*readers, decoder.head]))


def head_graph(decoder: QuantizedDecoder) -> Graph:
    """The output head for one token."""
    lowering = Lowering({})
    lowering.linear("head", decoder.head, Tensor("head_input", (1, decoder.architecture.width)))
    return lowering.builder.graph()


class PassGraphs:
    """Graphs of a decoder's head and layers for emitters of any number of tokens.

    words: of a row of the normalized residual. kept: layers whose graphs, which hold the weights,
    and instructions are kept for the next time.
    """

    def __init__(self, decoder: QuantizedDecoder, words: int, kept: int) -> None:
        self.decoder, self.words, self.kept = decoder, words, kept
        self.head = prepare_graph(head_graph(decoder), decoder.hardware)
        self.made: dict[int, LayerStages] = {}

    def layer(self, layer: QuantizedLayer) -> LayerStages:
        """A layer's emitter."""
        if id(layer) not in self.made:
            while len(self.made) >= self.kept:
                del self.made[next(iter(self.made))]
            self.made[id(layer)] = LayerStages(self.decoder, layer, self.words)
        return self.made[id(layer)]


class PassEmitter:
    """Emits passes as ``halves`` says; regions are named, not yet placed.

    words: of a row of the normalized residual. shared: what the shared regions hold, filled while
    emitting.
    """

    def __init__(
        self, decoder: QuantizedDecoder, halves: Halves, graphs: PassGraphs, token_lines: int
    ) -> None:
        self.decoder, self.halves = decoder, halves
        self.config = decoder.hardware
        self.token_lines = token_lines
        self.graphs, self.residual = graphs, Place(0, 2 * graphs.words)
        self.shared: dict[str, Callable[[], bytes]] = {}
        self.heads: dict[int, tuple[list[Task], int]] = {}

    def embed(self, span: Span) -> list[Task]:
        """Embedding rows of the tokens into the residual."""
        words = self.residual.stride // 2
        common = {"tokens": span.tokens, "words": words, "destination": self.residual.start,
                  "stride": self.residual.stride}
        tasks = [Task(opcode=Opcode.GATHER, op="embedding", region=f"{SHARED}embedding", fields={
            **common, "ids": self.token_lines + span.position, "add": 0, "direct": 0,
            "shift": self.decoder.embedding_shift})]
        if self.decoder.position_embedding is not None:
            tasks.append(Task(
                opcode=Opcode.GATHER, op="positions", region=f"{SHARED}positions", fields={
                    **common, "ids": span.position, "add": 1, "direct": 1,
                    "shift": self.decoder.position_shift}))
        return tasks

    def stages(self, layer: QuantizedLayer, span: Span) -> list[Stage]:
        """Stages of a layer."""
        return self.graphs.layer(layer).emit(self.halves, span)

    def layer(self, layer: QuantizedLayer, span: Span) -> LayerTasks:
        """Instructions of a layer, and what its own constant regions hold."""
        tasks: list[Task] = []
        constants: dict[str, Callable[[], bytes]] = {}
        for stage in self.stages(layer, span):
            tasks += stage.tasks
            for name, make in stage.constants.items():
                (self.shared if name.startswith(SHARED) else constants).setdefault(name, make)
        return tasks, constants

    def check(self, layer: QuantizedLayer, span: Span) -> None:
        """Raise OutOfSpaceError when the stores are too small for a layer."""
        self.graphs.layer(layer).emit(self.halves, span, dry=True)

    def next_token(self, span: Span) -> list[Task]:
        """Final norm, head and the largest logit's token for the last token of a pass."""
        return [*self.head(span.tokens), self.token_store(span)]

    def token_store(self, span: Span) -> Task:
        """STORE of the result of `head` as the token behind a pass."""
        return Task(opcode=Opcode.STORE, op="next_token", region=f"tokens@{span.end}",
                    fields={"source": self.heads[span.tokens][1], "words": 1})

    def head(self, tokens: int) -> list[Task]:
        """Final norm, head and the largest logit for the last token of a pass of so many."""
        if tokens not in self.heads:
            self.heads[tokens] = self.emit_head(tokens)
        return self.heads[tokens][0]

    def emit_head(self, tokens: int) -> tuple[list[Task], int]:
        """Instructions of `head`, and the word of its result."""
        decoder, config, head = self.decoder, self.config, self.graphs.head
        words = self.graphs.words
        tiler = Tiler(head, config, 1, reserved=self.residual.stride * self.halves.tokens_max)
        context = tiler.context
        context.words = {**context.words, "head_input": words}
        place = context.place("head_input")
        parameters = decoder.final_norm
        last = self.residual.start + (tokens - 1) * self.residual.stride
        self.shared[f"{SHARED}final_norm"] = lambda: pack_norm(
            parameters.weight, parameters.bias, parameters.shift, parameters.inverse,
            parameters.epsilon, len(parameters.weight), words, config)
        context.emit(
            Opcode.NORM, "final_norm", f"{SHARED}final_norm", tokens=1, heads=1, words=words,
            source=last, stride=self.residual.stride, head_stride=0, destination=place.start,
            destination_stride=words, destination_head_stride=0, wide=1,
            center=int(parameters.center))
        quantize = next(op for op in head.graph.ops if isinstance(op, Quantize))
        matmul = next(op for op in head.graph.ops if isinstance(op, SimdMatmul))
        dequantize = next(op for op in head.graph.ops if isinstance(op, Dequantize))
        tiler.emit_quantize(quantize, 1)
        context.places["next_token"] = result = Place(context.vector.allocate(1), 1)
        ArgmaxEmitter(context, matmul, dequantize).emit(1)
        for name, make in context.constants.items():
            self.shared[SHARED + name.removeprefix(SHARED)] = make
        return [dataclasses.replace(task, region=SHARED + task.region)
                if task.region in context.constants and not task.region.startswith(SHARED)
                else task for task in context.tasks], result.start

    def transfer(self, opcode: Opcode, span: Span) -> Task:
        """LOAD or STORE of the residual from or to the scratch region."""
        field = "destination" if opcode == Opcode.LOAD else "source"
        return Task(opcode=opcode, op=f"residual.{opcode.name.lower()}", region="scratch", fields={
            field: self.residual.start, "words": span.tokens * self.residual.stride})


@dataclass(frozen=True)
class Addresses:
    """Where regions lie: shared ones, and by layer with one stride for a group's constants.

    shared: byte addresses by name. groups: for each, byte address of its first layer and bytes
    from layer to layer. offsets: of a region within its layer, by group. cache: address, stride
    and offsets of the key-value cache. tokens: byte address of the token slots.
    """

    shared: Mapping[str, int]
    groups: Sequence[Section]
    offsets: Sequence[Mapping[str, int]]
    cache: Section
    cache_offsets: Mapping[str, int]
    tokens: int

    def shared_address(self, region: str, row_bytes: int) -> int:
        """Address of a region that belongs to no layer; ``name@n`` is its row n."""
        name, _, row = region.partition("@")
        if name == "tokens":
            return self.tokens + int(row) * LINE_BYTES
        if name == f"{SHARED}rotations":
            # Rows need not fill lines: copy c of the table starts with row c.
            copies = LINE_BYTES // _common(LINE_BYTES, row_bytes)
            copy = int(row) % copies
            return self.shared[f"{name}.{copy}"] + (int(row) - copy) * row_bytes
        return self.shared[name]


def _common(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a


def rotation_copies(row_bytes: int) -> int:
    """Copies of the rotation table, so that every row starts a line in one of them."""
    return LINE_BYTES // _common(LINE_BYTES, row_bytes)


class Linker:
    """Places the tasks of a pass and folds equal layers into loops."""

    def __init__(
        self, addresses: Addresses, groups: Sequence[LayerGroup], config: HardwareConfig,
        row_bytes: int,
    ) -> None:
        self.addresses, self.groups, self.config = addresses, groups, config
        self.row_bytes = row_bytes

    def link(
        self, prefix: Sequence[Task], layers: Sequence[tuple[int, int, Sequence[Task]]],
        suffix: Sequence[Task],
    ) -> Program:
        """A program of shared tasks around runs of layers (first, last, tasks of one layer)."""
        placed: list[Task] = []
        self.resolved: dict[str, int] = {}
        spans: list[tuple[int, int, int, int, int]] = []
        placed += [self.place(task, None) for task in prefix]
        for first, last, tasks in layers:
            indices, start = copies(first, last), len(placed)
            for index in indices:
                placed += [self.place(task, index) for task in tasks]
            spans.append((start, len(tasks), len(indices), first, last))
        placed += [self.place(task, None) for task in suffix]
        assigned = assign_tokens(placed, self.resolved, self.config)
        return Program(self.fold(assigned, spans), self.resolved)

    def place(self, task: Task, layer: int | None) -> Task:
        """The task with its own region name for this layer; remembers the address."""
        op = task.op if layer is None else f"layers.{layer}.{task.op}"
        if not task.region:
            return dataclasses.replace(task, op=op)
        name = task.region
        if name.startswith(CACHE):
            assert layer is not None
            own = f"{layer}/{name}"
            address = (self.addresses.cache.address + layer * self.addresses.cache.size
                       + self.addresses.cache_offsets[name])
        elif layer is None or name.startswith(SHARED) or "@" in name or name == "scratch":
            own, address = name, self.addresses.shared_address(name, self.row_bytes)
        else:
            own = f"{layer}/{name}"
            group = next(i for i, g in enumerate(self.groups) if g.first <= layer < g.last)
            section = self.addresses.groups[group]
            address = (section.address + (layer - self.groups[group].first) * section.size
                       + self.addresses.offsets[group][name])
        self.resolved[own] = address
        return dataclasses.replace(task, region=own, op=op)

    def fold(
        self, tasks: Sequence[Task], spans: Sequence[tuple[int, int, int, int, int]]
    ) -> list[Task]:
        """Replace the alike copies of a long run by a loop."""
        result: list[Task] = []
        at = 0
        for start, length, count, first, last in spans:
            result += tasks[at:start]
            at = start + count * length
            copies = [tasks[start + i * length:start + (i + 1) * length] for i in range(count)]
            alike = count == COPIES and last - first >= COPIES and all(
                (a.wait, a.post) == (b.wait, b.post)
                for a, b in zip(copies[1], copies[2], strict=True))
            if not alike:
                # Only runs of at most COPIES layers may stay unfolded.
                assert last - first <= COPIES, "the tokens of equal layers do not repeat"
                result += [task for copy in copies for task in copy]
                continue
            group = next(i for i, g in enumerate(self.groups) if g.first <= first < g.last)
            result += copies[0]
            result.append(Task(
                opcode=Opcode.LOOP, op=f"layers.{first + 1}-{last - 2}", region="", fields={
                    "count": last - first - 2, "length": length,
                    "first_stride": self.addresses.groups[group].size // LINE_BYTES,
                    "second_stride": self.addresses.cache.size // LINE_BYTES}))
            result += [dataclasses.replace(task, base=self.base(task)) for task in copies[1]]
            result += copies[3]
        return result + list(tasks[at:])

    def base(self, task: Task) -> Base:
        """Stride that a looped task's address follows."""
        _, slash, name = task.region.partition("/")
        if not slash or not task.region[0].isdigit():
            return Base.ABSOLUTE
        return Base.SECOND if name.startswith(CACHE) else Base.FIRST


def region_sizes(constants: Mapping[str, Callable[[], bytes]]) -> dict[str, int]:
    """Bytes of every region, in order; whole lines."""
    return {name: align(len(make()), LINE_BYTES) for name, make in constants.items()}
