"""Builds of whole decoders: the memory image, written layer by layer, and its passes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compiler.build import FORMAT, IMAGE_FILE, METADATA_FILE, load_metadata
from compiler.decoder.pass_size import largest_pass
from compiler.decoder.quantized import QuantizedDecoder, QuantizedLayer
from compiler.errors import CompileError, ImageError
from compiler.image.image import Section, header_bytes, map_image, write_atomically
from compiler.image.layout import align, pack_embedding, pack_rotations
from compiler.image.program import encode_program
from compiler.image.verify import verify_programs
from compiler.image.writer import ImageWriter
from compiler.lower.allocate import OutOfSpaceError
from compiler.lower.attention import SHARED, Span
from compiler.lower.cache import empty_cache
from compiler.lower.halves import Halves
from compiler.lower.passes import (
    Addresses,
    LayerGroup,
    LayerTasks,
    Linker,
    PassEmitter,
    PassGraphs,
    Program,
    residual_words,
    rotation_copies,
)
from hw.isa import INSTRUCTION_BYTES, LINE_BYTES, Opcode
from hw.units.row_limits import norm_words_max, rope_words_max

SECTIONS = ("outputs", "activations", "constants", "layers", "cache", "program")
EMBEDDING_ROWS = 4096
"""Embedding rows that are packed at once."""

READ_AHEAD = 8 * LINE_BYTES
"""Room behind the last program: instruction fetch reads lines ahead of the END it finds."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Pass:
    """A program: tokens of a span through all layers, or one layer of that (``layer``)."""

    name: str
    span: Span
    layer: int | None
    program: Program
    gives_token: bool


def embedding_parts(decoder: QuantizedDecoder, words: int) -> Iterator[bytes]:
    """The embedding table, some rows at a time."""
    vocabulary = decoder.architecture.vocabulary
    for first in range(0, vocabulary, EMBEDDING_ROWS):
        ids = np.arange(first, min(first + EMBEDDING_ROWS, vocabulary))
        yield pack_embedding(decoder.embedding(ids), words, decoder.hardware)


def spans_of(prompt: int, new_tokens: int, tokens_max: int) -> list[Span]:
    """Prefill in parts of at most ``tokens_max`` tokens, then one token at a time."""
    parts = [Span(at, min(tokens_max, prompt - at)) for at in range(0, prompt, tokens_max)]
    return parts + [Span(prompt + i, 1) for i in range(new_tokens - 1)]


class DecoderCompiler:
    """Compiles a quantized decoder for a prompt and a number of new tokens.

    Raises CompileError in one line when the hardware cannot hold it.
    """

    KEPT_LAYERS = 1
    """Layers whose weights are held beside the one under way."""

    def __init__(
        self, decoder: QuantizedDecoder, prompt: Sequence[int], new_tokens: int, *,
        split_layers: bool = False, progress: Say = lambda text: None,
    ) -> None:
        self.decoder, self.prompt, self.new_tokens = decoder, list(prompt), new_tokens
        self.split_layers, self.progress = split_layers, progress
        self.config = decoder.hardware
        total = len(self.prompt) + new_tokens - 1
        if not self.prompt or new_tokens < 1:
            raise CompileError("a generation needs a prompt and at least one new token")
        if total > decoder.capacity:
            raise CompileError(f"{total} positions exceed the key-value capacity of "
                               f"{decoder.capacity}; give a larger --capacity")
        self.words = max(residual_words(decoder, decoder.layer(i)) for i in decoder.forms)
        for what, words, most in (
            ("the residual", self.words, norm_words_max(self.config)),
            ("a head", decoder.head_words, rope_words_max(self.config)),
        ):
            if words > most:
                raise CompileError(f"{what} has {words} words of {self.config.port_bits} bits, "
                                   f"hardware {self.config.name} normalizes and rotates rows of "
                                   f"{most}; use larger hardware")
        self.graphs = PassGraphs(decoder, self.words, self.KEPT_LAYERS)
        self.token_lines = header_bytes(len(SECTIONS)) // LINE_BYTES
        self.halves = largest_pass(decoder, len(self.prompt), self.make_emitter, self.trials)
        self.tokens_max = self.halves.tokens_max
        self.emitter = self.make_emitter(self.halves)
        self.spans = spans_of(len(self.prompt), new_tokens, self.tokens_max)
        self.groups: list[LayerGroup] = []

    def make_emitter(self, halves: Halves) -> PassEmitter:
        """Emitter of passes that are cut so."""
        return PassEmitter(self.decoder, halves, self.graphs, self.token_lines)

    def trials(self, tokens: int) -> Iterator[Span]:
        """Spans of passes of at most so many tokens, one of each need of room."""
        spans = [Span(0, 1), Span(0, tokens),
                 *spans_of(len(self.prompt), self.new_tokens, tokens)]
        step = self.config.word_elements
        yield from {(span.tokens, -(-span.end // step)): span for span in spans}.values()

    def write(self, folder: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Write the build folder; returns the metadata of its build.json, which comes last."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / METADATA_FILE).unlink(missing_ok=True)
        port_bytes = self.config.port_bytes
        slots = (self.decoder.capacity + 1) * LINE_BYTES
        scratch = align(self.tokens_max * self.emitter.residual.stride * port_bytes, LINE_BYTES)
        with ImageWriter(folder / IMAGE_FILE, self.config.digest(), len(SECTIONS)) as writer:
            outputs = writer.section("outputs", [self.token_slots(slots), bytes(scratch)])
            assert outputs.address == self.token_lines * LINE_BYTES
            writer.section("activations", [])
            shared = self.write_shared(writer)
            shared["scratch"] = outputs.address + slots
            layers, offsets, sizes = self.write_layers(writer)
            cache, cache_offsets = self.write_cache(writer)
            addresses = Addresses(
                shared=shared, groups=[
                    Section(layers.address + sum(
                        (g.last - g.first) * size for g, size in zip(
                            self.groups[:i], sizes[:i], strict=True)), sizes[i])
                    for i in range(len(self.groups))],
                offsets=offsets, cache=cache, cache_offsets=cache_offsets,
                tokens=outputs.address)
            passes = self.passes(addresses)
            program, starts = b"", []
            for item in passes:
                starts.append(len(program))
                code = encode_program(item.program.tasks, item.program.addresses)
                program += code.ljust(align(len(code), LINE_BYTES), b"\0")
            section = writer.section("program", [program, bytes(READ_AHEAD)])
        self.progress("verifying the programs")
        memory, _, sections = map_image(folder / IMAGE_FILE)
        entries = [section.address + start for start in starts]
        verify_programs(memory, self.config, entries,
                        [sections["outputs"], sections["cache"]])
        result = {
            **metadata, **self.metadata(passes, entries, memory, sections, shared, addresses)}
        text = json.dumps(result, indent=1, sort_keys=True) + "\n"
        write_atomically(folder / METADATA_FILE, text.encode())
        return result

    def token_slots(self, size: int) -> bytes:
        """One line for each position; those of the prompt hold its token ids."""
        slots = np.zeros((size // LINE_BYTES, LINE_BYTES // 4), "<i4")
        slots[:len(self.prompt), 0] = self.prompt
        return slots.tobytes()

    def write_shared(self, writer: ImageWriter) -> dict[str, int]:
        """Regions that all layers share."""
        self.progress("embedding and head")
        emitter, decoder = self.emitter, self.decoder
        for index in decoder.forms:
            emitter.layer(decoder.layer(index), Span(0, 1))
        emitter.next_token(Span(0, 1))
        parts: dict[str, Iterator[bytes]] = {
            f"{SHARED}embedding": embedding_parts(decoder, self.words)}
        if decoder.position_embedding is not None:
            parts[f"{SHARED}positions"] = iter([pack_embedding(
                decoder.position_embedding, self.words, self.config)])
        if decoder.rotations is not None:
            row_bytes = decoder.head_words * self.config.port_bytes
            for copy in range(rotation_copies(row_bytes)):
                parts[f"{SHARED}rotations.{copy}"] = iter([pack_rotations(
                    decoder.rotations[copy:], decoder.head_words, self.config)])
        for name, make in emitter.shared.items():
            parts[name] = (make() for make in [make])
        shared: dict[str, int] = {}
        start = writer.size

        def chunks() -> Iterator[bytes]:
            at = start
            for name, region in parts.items():
                shared[name] = at
                size = 0
                for part in region:
                    size += len(part)
                    yield part
                yield bytes(align(size, LINE_BYTES) - size)
                at += align(size, LINE_BYTES)

        writer.section("constants", chunks())
        return shared

    def emitted(self, index: int, layer: QuantizedLayer, span: Span) -> LayerTasks:
        """`PassEmitter.layer`; raises CompileError where only layer 0 has room."""
        try:
            return self.emitter.layer(layer, span)
        except OutOfSpaceError as error:
            raise CompileError(f"layer {index} needs more of {error.store} than layer 0; give all "
                               "layers the same formats") from None

    def lengths(self, layer: QuantizedLayer) -> list[int]:
        """Tokens of further passes that name constants of their own.

        Under a token rule, how many rows have int8 activations changes with the tokens.
        """
        if layer.token_rule is None:
            return []
        return sorted({1, *(span.tokens for span in self.spans)} - {self.tokens_max})

    def write_layers(
        self, writer: ImageWriter
    ) -> tuple[Section, list[dict[str, int]], list[int]]:
        """Constants of all layers; finds the groups of equal layers on the way."""
        count = self.decoder.architecture.layers
        offsets: list[dict[str, int]] = []
        sizes: list[int] = []
        signature: Any = None

        def chunks() -> Iterator[bytes]:
            nonlocal signature
            for index in range(count):
                self.progress(f"layer {index + 1} of {count}")
                layer = self.decoder.layer(index)
                if residual_words(self.decoder, layer) > self.words:
                    raise CompileError(f"layer {index} reads longer rows than layer 0; give all "
                                       "layers the same weight groups")
                constants: dict[str, Callable[[], bytes]] = {}
                for tokens in (*self.lengths(layer), self.tokens_max):
                    tasks, own_constants = self.emitted(index, layer, Span(0, tokens))
                    constants |= own_constants
                places, at, data = {}, 0, []
                for name, make in constants.items():
                    part = make()
                    part = part.ljust(align(len(part), LINE_BYTES), b"\0")
                    places[name] = at
                    at += len(part)
                    data.append(part)
                own = [(task.opcode, dict(task.fields), task.region) for task in tasks], places, at
                if own != signature:
                    for span in self.trials(self.tokens_max):
                        self.emitted(index, layer, span)
                    signature = own
                    offsets.append(places)
                    sizes.append(at)
                    self.groups.append(LayerGroup(index, index + 1, layer))
                else:
                    self.groups[-1] = dataclasses.replace(self.groups[-1], last=index + 1)
                yield from data

        return writer.section("layers", chunks()), offsets, sizes

    def write_cache(self, writer: ImageWriter) -> tuple[Section, dict[str, int]]:
        """Empty key-value cache of all layers; the section's size is that of one layer."""
        regions, offsets, at = empty_cache(self.decoder), {}, 0
        for name, part in regions.items():
            offsets[name] = at
            at += len(part)
        layers = self.decoder.architecture.layers
        section = writer.section("cache", (
            part for _ in range(layers) for part in regions.values()))
        return Section(section.address, at), offsets

    def passes(self, addresses: Addresses) -> list[Pass]:
        """Programs of all passes."""
        row_bytes = self.decoder.head_words * self.config.port_bytes
        linker = Linker(addresses, self.groups, self.config, row_bytes)
        emitter, result = self.emitter, []
        prefill_end = len(self.prompt)
        for number, span in enumerate(self.spans):
            self.progress(f"program of pass {number + 1} of {len(self.spans)}")
            runs = [(group.first, group.last, emitter.layer(group.layer, span)[0])
                    for group in self.groups]
            gives_token = span.end >= prefill_end
            suffix = emitter.next_token(span) if gives_token else []
            name = (f"decode {span.position}" if span.position >= prefill_end
                    else f"prefill {span.position}:{span.end}")
            if not self.split_layers:
                program = linker.link(emitter.embed(span), runs, suffix)
                result.append(Pass(name, span, None, program, gives_token))
                continue
            load = emitter.transfer(Opcode.LOAD, span)
            store = emitter.transfer(Opcode.STORE, span)
            result.append(Pass(f"{name} embedding", span, None, linker.link(
                [*emitter.embed(span), store], [], []), False))
            for first, last, tasks in runs:
                for layer in range(first, last):
                    program = linker.link([load], [(layer, layer + 1, tasks)], [store])
                    result.append(Pass(f"{name} layer {layer}", span, layer, program, False))
            if suffix:
                result.append(Pass(f"{name} head", span, None,
                                   linker.link([load], [], suffix), True))
        return result

    def metadata(
        self, passes: Sequence[Pass], entries: Sequence[int], memory: Any,
        sections: Mapping[str, Section], shared: Mapping[str, int], addresses: Addresses,
    ) -> dict[str, Any]:
        """What build.json says about the image."""
        decoder, architecture = self.decoder, self.decoder.architecture
        digest = hashlib.sha256(memory.data).hexdigest()
        layer = self.groups[0].layer
        headroom = decoder.residual_scale * 2.0**31 / max(decoder.residual_peak, 1e-9)
        outputs = sections["outputs"]
        return {
            "format": FORMAT, "kind": "decoder",
            "hardware": dataclasses.asdict(self.config), "hardware_digest": self.config.digest(),
            "image_bytes": len(memory), "image_sha256": digest,
            "architecture": architecture.name, "layers": [0, architecture.layers],
            "capacity": decoder.capacity, "tokens_max": self.tokens_max,
            "halves": self.halves.parts > 1,
            "prompt_tokens": [int(token) for token in self.prompt],
            "new_tokens": self.new_tokens,
            "passes": [{
                "name": item.name, "first": item.span.position, "tokens": item.span.tokens,
                "layer": item.layer, "program_address": entry, "instructions": item.program.ops,
                "token_slot": (self.token_lines + item.span.end) * LINE_BYTES
                if item.gives_token else None,
            } for item, entry in zip(passes, entries, strict=True)],
            "writable": [[outputs.address, outputs.size],
                         [sections["cache"].address, sections["cache"].size]],
            "memory_map": self.memory_map(sections, shared, addresses),
            "linears": {
                f"layers.{index}.{name}": {"shape": list(architecture.linear_shape(name))}
                for index in range(architecture.layers) for name in layer.linears
            } | {"head": {"shape": [architecture.vocabulary, architecture.width]}},
            "residual": {
                "scale": decoder.residual_scale, "peak": decoder.residual_peak,
                "headroom": headroom,
            },
            "function_errors": {"activation": layer.activation.worst_error},
        }

    def memory_map(
        self, sections: Mapping[str, Section], shared: Mapping[str, int], addresses: Addresses
    ) -> list[dict[str, Any]]:
        """Named parts of the memory by address."""
        slots = (self.decoder.capacity + 1) * LINE_BYTES
        outputs = sections["outputs"]
        found = [("header", 0, outputs.address), ("token slots", outputs.address, slots),
                 ("scratch", outputs.address + slots, outputs.size - slots)]
        constants = sections["constants"]
        places = sorted((at, name) for name, at in shared.items() if name != "scratch")
        ends = [at for at, _ in places[1:]] + [constants.address + constants.size]
        found += [(name.removeprefix(SHARED), at, end - at)
                  for (at, name), end in zip(places, ends, strict=True)]
        for group, section in zip(self.groups, addresses.groups, strict=True):
            found.append((f"layers {group.first}-{group.last - 1}", section.address,
                          (group.last - group.first) * section.size))
        found += [(name, sections[name].address, sections[name].size)
                  for name in ("cache", "program")]
        return [{"name": name, "address": at, "bytes": size} for name, at, size in found]


assert INSTRUCTION_BYTES <= LINE_BYTES


def load_decoder_build(path: Path) -> tuple[Any, dict[str, Any]]:
    """Memory (private, mapped from the file) and metadata of a decoder build.

    Raises ImageError in one line for a damaged folder or a build of another kind.
    """
    metadata = load_metadata(path)
    memory, digest, _ = map_image(path / IMAGE_FILE)
    if digest != metadata.get("hardware_digest") or len(memory) != metadata.get("image_bytes"):
        raise ImageError(f"{path}: {IMAGE_FILE} is not the image that {METADATA_FILE} describes; "
                         "compile it again")
    return memory, metadata
