"""Programs of a model's passes as rows, from its structure: nothing is quantized or written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compiler.decoder.build import DecoderCompiler
from compiler.decoder.quantized import QuantizedDecoder, QuantizedLayer
from compiler.errors import CompileError
from compiler.image.access import memory_bytes, port_region, region_ports
from compiler.image.image import Section
from compiler.image.layout import align
from compiler.image.program import Task
from compiler.lower.allocate import OutOfSpaceError
from compiler.lower.attention import SHARED, Span
from compiler.lower.cache import CACHE, cache_sizes
from compiler.lower.passes import (
    COPIES,
    Addresses,
    LayerGroup,
    Linker,
    Program,
    copies,
    rotation_copies,
)
from compiler.lower.stages import Stage
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import LINE_BYTES, Opcode
from sim.estimate import rows as row_of
from sim.estimate.hazards import masks
from sim.estimate.packed import ADDRESS, Packed, Shapes
from sim.estimate.rows import pack_row

NO_LAYER = -1
"""Group of instructions that belong to no layer."""


@dataclass(frozen=True)
class PlannedPass:
    """A pass as the event model takes it.

    rows: instructions, LOOP among them, END behind. shapes, names: of every instruction but END its
    numbers in ``known``, -1 of a LOOP. place: port word of the program.
    """

    span: Span
    rows: Ints
    shapes: Ints
    names: Ints
    place: int
    known: Shapes


LOOPED = np.array([-1])
"""Number of a LOOP."""


def region_bytes(task: Task, config: HardwareConfig) -> int:
    """Whole lines of memory that the region of a task takes."""
    size = memory_bytes(task.opcode, task.fields, config)
    if task.opcode in (Opcode.LUT, Opcode.SIMD):
        region = align(port_region(task.opcode, task.fields, config), LINE_BYTES)
        size = max(size, region * region_ports(task.opcode, config))
    return align(size, LINE_BYTES)


class Planner(DecoderCompiler):
    """Lowers the passes of a generation, each when it is asked for.

    Raises CompileError in one line when the hardware cannot hold them.
    """

    KEPT_LAYERS = 1 << 10

    def __init__(self, decoder: QuantizedDecoder, prompt_tokens: int, new_tokens: int) -> None:
        super().__init__(decoder, [0] * prompt_tokens, new_tokens)
        self.kept: dict[tuple[int, Span], list[Stage]] = {}
        self.made: dict[tuple[int, int], tuple[Packed, Ints]] = {}
        self.places: dict[tuple[int, str], tuple[int, int]] = {}
        self.shapes = Shapes(self.config)
        self.groups = self.layer_groups()
        self.linker = Linker(self.addresses(), self.groups, self.config,
                             decoder.head_words * self.config.port_bytes)

    def trials(self, tokens: int) -> Iterator[Span]:
        """The compiler's, those that tend to need most room first."""
        prefill = len(self.prompt) - min(tokens, len(self.prompt))
        yield Span(prefill, len(self.prompt) - prefill)
        yield Span(len(self.prompt) + self.new_tokens - 2, 1)
        yield from super().trials(tokens)

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

    def stages(self, layer: QuantizedLayer, span: Span) -> list[Stage]:
        """Instructions of a layer, lowered once for layers that are one."""
        key = id(layer), span
        if key not in self.kept:
            try:
                self.kept[key] = self.emitter.stages(layer, span)
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
        shared_sizes: dict[str, int] = {}
        own: list[dict[str, int]] = []
        for group in self.groups:
            found: dict[str, int] = {}
            for tokens in (self.tokens_max, 1, *self.lengths(group.layer)):
                found |= self.sizes(task for stage in self.stages(group.layer, Span(0, tokens))
                                    for task in stage.tasks)
            shared_sizes |= {name: size for name, size in found.items() if name.startswith(SHARED)}
            own.append({name: size for name, size in found.items()
                        if not name.startswith((SHARED, CACHE)) and "@" not in name})
        shared_sizes |= {name: size for name, size in
                         self.sizes(self.emitter.head(1)).items()
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
        cache_offsets, size = placed(cache_sizes(decoder), 0)
        self.program_address = at + size * decoder.architecture.layers
        return Addresses(shared=shared, groups=groups, offsets=offsets,
                         cache=Section(at, size), cache_offsets=cache_offsets, tokens=tokens)

    def lines(self, region: str, number: int) -> tuple[int, int]:
        """Line of a region in layer 0, and lines from layer to layer; of layers of a group."""
        key = number, region
        if key not in self.places:
            at = self.linker.addresses
            if not region:
                found = 0, 0
            elif region.startswith(CACHE):
                found = at.cache.address + at.cache_offsets[region], at.cache.size
            elif number < 0 or region.startswith(SHARED) or "@" in region:
                found = at.shared_address(region, self.linker.row_bytes), 0
            else:
                section = at.groups[number]
                found = (section.address - self.groups[number].first * section.size
                         + at.offsets[number][region]), section.size
            self.places[key] = found[0] // LINE_BYTES, found[1] // LINE_BYTES
        return self.places[key]

    def packed(self, number: int, tasks: Sequence[Task]) -> tuple[Packed, Ints]:
        """Instructions of a group, -1 for those of no layer, and their lines as of `lines`."""
        key = number, id(tasks)
        if key not in self.made:
            packed = self.shapes.pack(tasks)
            lines = np.array([self.lines(region, number) for region in packed.regions], np.int64)
            self.made[key] = packed, lines.reshape(-1, 2)
        return self.made[key]

    def planned(self, span: Span, gives_token: bool) -> PlannedPass:
        """A pass through all layers, and the next token if it ``gives_token``.

        The program is that of `compiler.lower.passes.Linker`, on arrays.
        """
        parts: list[tuple[Packed, Ints, int]] = [
            (*self.packed(NO_LAYER, self.emitter.embed(span)), 0)]
        lengths = [len(parts[0][1])]
        for number, group in enumerate(self.groups):
            made = [self.packed(number, stage.tasks) for stage in self.stages(group.layer, span)
                    if stage.tasks]
            for layer in copies(group.first, group.last):
                parts += [(*part, layer) for part in made]
                lengths.append(sum(len(lines) for _, lines in made))
        if gives_token:
            parts += [(*self.packed(NO_LAYER, tasks), 0) for tasks in (
                self.emitter.head(span.tokens), [self.emitter.token_store(span)])]
        rows = np.concatenate([packed.rows for packed, _, _ in parts])
        lines = np.concatenate([lines[:, 0] + layer * lines[:, 1] for _, lines, layer in parts])
        places = np.concatenate([packed.places for packed, _, _ in parts])
        shapes = np.concatenate([packed.shapes for packed, _, _ in parts])
        places[:, ADDRESS] = lines
        rows[:, row_of.ADDRESS] += lines * (LINE_BYTES // self.config.port_bytes)
        rows[:, row_of.WAIT], rows[:, row_of.POST] = masks(
            rows[:, row_of.ENGINE].copy(), shapes, places, *self.shapes.templates())
        names = np.concatenate([packed.names for packed, _, _ in parts])
        return self.folded(span, rows, shapes, names, np.cumsum(lengths))

    def folded(
        self, span: Span, rows: Ints, shapes: Ints, names: Ints, ends: Ints
    ) -> PlannedPass:
        """A pass with the alike copies of long runs of layers in a loop.

        ends: of what comes before the layers, and of every copy of one.
        """
        kept: list[tuple[Ints, Ints, Ints]] = []

        def keep(first: int, last: int) -> None:
            kept.append((rows[first:last], shapes[first:last], names[first:last]))

        keep(0, ends[0])
        part = 0
        for group in self.groups:
            layers = group.last - group.first
            count = min(layers, COPIES)
            edges = ends[part:part + count + 1]
            part += count
            if layers < COPIES:
                keep(edges[0], edges[-1])
                continue
            alike = np.array_equal(
                rows[edges[1]:edges[2], row_of.WAIT:row_of.POST + 1],
                rows[edges[2]:edges[3], row_of.WAIT:row_of.POST + 1])
            if not alike:
                # Only runs of at most COPIES layers may stay unfolded.
                assert layers == COPIES, "the tokens of equal layers do not repeat"
                keep(edges[0], edges[-1])
                continue
            keep(edges[0], edges[1])
            loop = pack_row(Opcode.LOOP, {
                "count": layers - 2, "length": edges[1] - edges[0]}, self.config)
            kept.append((loop[None], LOOPED, LOOPED))
            keep(edges[1], edges[2])
            keep(edges[3], edges[4])
        keep(ends[part], len(rows))
        end = pack_row(Opcode.END, {}, self.config)
        return PlannedPass(
            span, np.concatenate([*(rows for rows, _, _ in kept), end[None]]),
            np.concatenate([shapes for _, shapes, _ in kept]),
            np.concatenate([names for _, _, names in kept]),
            self.program_address // self.config.port_bytes, self.shapes)


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
