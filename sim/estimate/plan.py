"""Programs of a model's passes as rows, from its structure: nothing is quantized or written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compiler.decoder.build import DecoderCompiler
from compiler.decoder.quantized import QuantizedDecoder, QuantizedLayer
from compiler.errors import CompileError
from compiler.image.access import memory_bytes, port_region
from compiler.image.image import Section
from compiler.image.layout import align
from compiler.image.program import Task
from compiler.lower.allocate import OutOfSpaceError
from compiler.lower.attention import CACHE, SHARED, Span, cache_regions
from compiler.lower.passes import Addresses, LayerGroup, Linker, Program, rotation_copies
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import LINE_BYTES, Opcode
from sim.estimate.rows import pack_row


@dataclass(frozen=True)
class PlannedPass:
    """A pass as the event model takes it.

    rows: instructions, LOOP among them; tasks, ops: without END; place: port word of the program.
    """

    span: Span
    rows: Ints
    tasks: Sequence[Task]
    ops: Sequence[str]
    place: int


def region_bytes(task: Task, config: HardwareConfig) -> int:
    """Whole lines of memory that the region of a task takes."""
    size = memory_bytes(task.opcode, task.fields, config)
    if task.opcode in (Opcode.LUT, Opcode.SIMD):
        region = align(port_region(task.opcode, task.fields, config), LINE_BYTES)
        size = max(size, region * config.weight_ports)
    return align(size, LINE_BYTES)


class Planner(DecoderCompiler):
    """Lowers the passes of a generation, each when it is asked for.

    Raises CompileError in one line when the hardware cannot hold them.
    """

    def __init__(self, decoder: QuantizedDecoder, prompt_tokens: int, new_tokens: int) -> None:
        super().__init__(decoder, [0] * prompt_tokens, new_tokens)
        self.kept: dict[tuple[int, Span], list[Task]] = {}
        self.groups = self.layer_groups()
        self.linker = Linker(self.addresses(), self.groups, self.config,
                             decoder.head_words * self.config.port_bytes)

    def trials(self, tokens: int) -> list[Span]:
        """The compiler's, those that tend to need most room first."""
        last = Span(len(self.prompt) + self.new_tokens - 2, 1)
        prefill = len(self.prompt) - min(tokens, len(self.prompt))
        return [Span(prefill, len(self.prompt) - prefill), last, *super().trials(tokens)]

    def layer_groups(self) -> list[LayerGroup]:
        """Runs of layers that are one in structure."""
        groups: list[LayerGroup] = []
        for index in range(self.decoder.architecture.layers):
            layer = self.decoder.layer(index)
            if groups and groups[-1].layer is layer:
                groups[-1] = dataclasses.replace(groups[-1], last=index + 1)
            else:
                groups.append(LayerGroup(index, index + 1, layer))
        return groups

    def layer_tasks(self, layer: QuantizedLayer, span: Span) -> list[Task]:
        """Instructions of a layer, lowered once for layers that are one."""
        key = id(layer), span
        if key not in self.kept:
            try:
                self.kept[key] = self.emitter.layer(layer, span)[0]
            except OutOfSpaceError as error:
                raise CompileError(
                    f"hardware {self.config.name}: {error.store} holds {error.size}, too few for "
                    f"{span.tokens} tokens from position {span.position} ({error.needed} more are "
                    "needed); use larger hardware or a shorter context") from None
        return self.kept[key]

    def sizes(self, tasks: Iterable[Task]) -> dict[str, int]:
        """Bytes of the regions that tasks name."""
        result: dict[str, int] = {}
        for task in tasks:
            if task.region:
                size = region_bytes(task, self.config)
                result[task.region] = max(result.get(task.region, 0), size)
        return result

    def addresses(self) -> Addresses:
        """Places of all regions, one behind the other."""
        decoder, config = self.decoder, self.config
        widest = Span(0, self.tokens_max)
        shared_sizes: dict[str, int] = {}
        own: list[dict[str, int]] = []
        for group in self.groups:
            found: dict[str, int] = {}
            for span in (widest, Span(0, 1)):
                found |= self.sizes(self.layer_tasks(group.layer, span))
            shared_sizes |= {name: size for name, size in found.items() if name.startswith(SHARED)}
            own.append({name: size for name, size in found.items()
                        if not name.startswith((SHARED, CACHE)) and "@" not in name})
        shared_sizes |= {name: size for name, size in
                         self.sizes(self.emitter.next_token(Span(0, 1))).items()
                         if name.startswith(SHARED)}
        row_bytes = decoder.head_words * config.port_bytes
        embedding = decoder.architecture.vocabulary * self.words * config.port_bytes
        shared_sizes |= dict.fromkeys(
            (f"{SHARED}embedding", f"{SHARED}positions"), align(embedding, LINE_BYTES))
        shared_sizes |= {f"{SHARED}rotations.{copy}": align(decoder.capacity * row_bytes,
                                                            LINE_BYTES)
                         for copy in range(rotation_copies(row_bytes))}
        tokens = self.token_lines * LINE_BYTES
        at = tokens + (decoder.capacity + 1) * LINE_BYTES
        shared, at = placed(shared_sizes, at)
        offsets, groups = [], []
        for group, sizes in zip(self.groups, own, strict=True):
            places, size = placed(sizes, 0)
            offsets.append(places)
            groups.append(Section(at, size))
            at += size * (group.last - group.first)
        cache_sizes = {name: form.port_stride * config.weight_ports * LINE_BYTES
                       for name, form in cache_regions(decoder).items()}
        cache_offsets, size = placed(cache_sizes, 0)
        self.program_address = at + size * decoder.architecture.layers
        return Addresses(shared=shared, groups=groups, offsets=offsets,
                         cache=Section(at, size), cache_offsets=cache_offsets, tokens=tokens)

    def planned(self, span: Span, gives_token: bool) -> PlannedPass:
        """A pass through all layers, and the next token if it ``gives_token``."""
        runs = [(group.first, group.last, self.layer_tasks(group.layer, span))
                for group in self.groups]
        program = self.linker.link(self.emitter.embed(span), runs,
                                   self.emitter.next_token(span) if gives_token else [])
        return PlannedPass(span, program_rows(program, self.config), program.tasks, program.ops,
                           self.program_address // self.config.port_bytes)


def placed(sizes: Mapping[str, int], start: int) -> tuple[dict[str, int], int]:
    """Places of regions from ``start`` on, and the end."""
    places, at = {}, start
    for name, size in sizes.items():
        places[name] = at
        at += size
    return places, at


def program_rows(program: Program, config: HardwareConfig) -> Ints:
    """Rows of a linked program, END behind."""
    rows = []
    for task in program.tasks:
        fields = {**task.fields, "wait": task.wait, "post": task.post}
        if task.region:
            fields["address"] = program.addresses[task.region] // LINE_BYTES
        rows.append(pack_row(task.opcode, fields, config))
    return np.stack([*rows, pack_row(Opcode.END, {}, config)])
