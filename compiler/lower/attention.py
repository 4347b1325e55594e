"""Instructions of attention for one layer and some consecutive tokens, and the cache's layout."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from compiler.decoder.quantized import AttentionParameters, QuantizedDecoder, Rescale
from compiler.decoder.scaling import cache_rounds, value_group
from compiler.errors import CompileError
from compiler.image.layout import pack_factors, pack_uniform
from compiler.image.weights import WeightFormat, pack_weights
from compiler.lower.allocate import Allocator, OutOfSpaceError
from compiler.lower.context import Context
from compiler.lower.matmul import BLOCKS_MAX, ROUNDS_MAX
from hw.config import HardwareConfig
from hw.isa import Opcode, SimdMode

CACHE = "cache/"
"""Regions of the key-value cache; all others of a layer are constants."""
SHARED = "shared/"
"""Regions that all layers share."""


@dataclass(frozen=True)
class Span:
    """Tokens of a pass: position of the first, how many."""

    position: int
    tokens: int

    @property
    def end(self) -> int:
        """Positions up to the last token."""
        return self.position + self.tokens


def key_format(decoder: QuantizedDecoder) -> WeightFormat:
    """Cache of one head's keys: columns are positions."""
    config = decoder.hardware
    rounds = max(count for count in range(1, cache_rounds(config) + 1)
                 if decoder.head_words % count == 0)
    return WeightFormat(config=config, blocks=-(-decoder.capacity // config.lanes),
                        groups=decoder.head_words // rounds, group_rounds=rounds, weight_bits=8,
                        has_min=False)


def value_format(decoder: QuantizedDecoder) -> WeightFormat:
    """Cache of the values of one head and one column block: inputs are positions."""
    config = decoder.hardware
    length = value_group(config)
    return WeightFormat(config=config, blocks=1, groups=-(-decoder.capacity // length),
                        group_rounds=length // config.word_elements, weight_bits=8, has_min=False)


def positions_max(config: HardwareConfig) -> int:
    """Positions whose scores, and whose values, one instruction can go through."""
    length = value_group(config)
    groups = ROUNDS_MAX * config.word_elements // length
    return min(BLOCKS_MAX * config.lanes, groups * length)


def value_blocks(decoder: QuantizedDecoder) -> list[tuple[int, int]]:
    """First and end vector word of a head in each of its column blocks."""
    step = decoder.hardware.lanes // decoder.hardware.word_elements
    return [(at, min(at + step, decoder.head_words))
            for at in range(0, decoder.head_words, step)]


def cache_regions(decoder: QuantizedDecoder) -> dict[str, WeightFormat]:
    """Cache regions of one layer, in order."""
    regions = {}
    for head in range(decoder.architecture.kv_heads):
        regions[f"{CACHE}keys.{head}"] = key_format(decoder)
        for part in range(len(value_blocks(decoder))):
            regions[f"{CACHE}values.{head}.{part}"] = value_format(decoder)
    return regions


def head_stride(decoder: QuantizedDecoder) -> int:
    """Lines from a region of a head's cache to that of the next head."""
    parts = len(value_blocks(decoder))
    lines = key_format(decoder).port_stride + parts * value_format(decoder).port_stride
    return lines * decoder.hardware.lane_ports


def empty_cache(form: WeightFormat) -> bytes:
    """A cache region without tokens: int8 zeros with scales of 1."""
    columns = form.blocks * form.config.lanes
    inputs = form.groups * form.group_rounds * form.config.word_elements
    return pack_weights(form, np.zeros((columns, inputs), np.int8),
                        np.ones((form.groups, columns), np.int16), None)


@dataclass(frozen=True)
class Prepared:
    """Numerators of some rows: first operand word and scale entry."""

    operands: int
    scales: int


class AttentionStages:
    """Both halves of attention for a key-value head and a tile of query tokens.

    scored: the softmax adds up the tokens' importance.
    """

    def __init__(
        self, decoder: QuantizedDecoder, parameters: AttentionParameters, context: Context,
        span: Span, scored: bool = False,
    ) -> None:
        self.decoder, self.parameters, self.scored = decoder, parameters, scored
        self.context, self.span = context, span
        self.config = decoder.hardware
        self.keys, self.values = key_format(self.decoder), value_format(self.decoder)
        self.key_stride, self.value_stride = self.keys.port_stride, self.values.port_stride
        self.blocks = value_blocks(self.decoder)
        # With a different ALiBi slope each query head is an instruction of its own.
        group = self.decoder.head_group
        self.heads = group if self.parameters.slopes is None else 1
        if self.heads != group:
            raise CompileError("ALiBi with grouped queries is not supported")
        self.key_blocks = -(-span.end // self.config.lanes)
        self.groups = -(-span.end // value_group(self.config))
        self.score_words = -(-span.end // self.config.word_elements)
        self.rounds = self.groups * self.values.group_rounds
        tiles = -(-span.tokens // self.most_tokens())
        self.tile = -(-span.tokens // tiles)
        rows = self.tile * self.heads
        # One run of each store holds what both turns have: two could fail where one fits.
        self.scores = self.turns(self.context.vector, rows * self.score_words)
        self.queries = self.turns(self.context.store,
                                  rows * (self.decoder.head_words + self.rounds))
        self.numerators = [start + rows * self.decoder.head_words for start in self.queries]
        self.alphas = self.context.alphas.allocate(self.decoder.head_words)
        self.scales = self.turns(self.context.scales, 2 * rows)
        self.turn = 0

    def turns(self, store: Allocator, words: int) -> list[int]:
        """First words of two neighbouring runs."""
        start = store.allocate(2 * words)
        return [start, start + words]

    def close(self) -> None:
        """Free everything."""
        self.context.vector.free(self.scores[0])
        self.context.store.free(self.queries[0])
        self.context.alphas.free(self.alphas)
        self.context.scales.free(self.scales[0])

    def most_tokens(self) -> int:
        """Query tokens whose rows the stores hold twice."""
        config, context = self.config, self.context
        if self.span.end > (most := positions_max(config)):
            raise CompileError(f"{self.span.end} positions exceed one instruction of hardware "
                               f"{config.name}, which takes {most}; use a shorter context")
        per_row = {
            "accumulator (accumulator_words)": (config.accumulator_words, self.key_blocks),
            "vector memory (vector_words)": (context.vector.largest_gap(), 2 * self.score_words),
            "operand store (operand_words)": (
                context.store.largest_gap(), 2 * (self.rounds + self.decoder.head_words)),
            "token scale entries": (context.scales.largest_gap(), 4),
            "rows of an instruction (tokens_max)": (config.tokens_max, 1),
        }
        for store, (room, need) in per_row.items():
            if room // (need * self.heads) < 1:
                raise OutOfSpaceError(store, need * self.heads, room)
        return min(room // (need * self.heads) for room, need in per_row.values())

    def prepare(self, head: int, first: int, end: int) -> Prepared:
        """QUANTIZE, SIMD over the keys, DRAIN of the scores, SOFTMAX."""
        context, config, words = self.context, self.config, self.decoder.head_words
        tokens, rows = end - first, (end - first) * self.heads
        turn, self.turn = self.turn, self.turn ^ 1
        place = context.places["q.y"]
        query_scales, scales = self.scales[turn], self.scales[turn] + self.tile * self.heads
        factors = context.constant(f"{SHARED}factors", functools.partial(
            pack_factors, np.zeros(words * config.chunks_per_word, np.uint8), config))
        context.emit(
            Opcode.QUANTIZE, f"attention.{head}.quantize", factors, rounds=words, tokens=tokens,
            heads=self.heads, source=place.start + first * place.stride + head * self.heads * words,
            stride=place.stride, head_stride=words, operands=self.queries[turn],
            alphas=self.alphas, scales=query_scales, int4=0)
        context.emit(
            Opcode.SIMD, f"attention.{head}.scores", f"{CACHE}keys.{head}",
            port_stride=self.key_stride, mode=int(SimdMode.W8A8), has_min=0, rounds=words,
            tokens=rows, blocks=self.key_blocks, group_rounds=self.keys.group_rounds, shift=0,
            operands=self.queries[turn], alphas=0, accumulator=0, bank=context.bank, first=1,
            plain=1, volatile=1)
        context.emit(
            Opcode.DRAIN, f"attention.{head}.scores.dequantize",
            self.rescale_region(f"score.{head}", self.parameters.score[head]),
            tokens=tokens, heads=self.heads, blocks=self.key_blocks, words=self.score_words,
            accumulator=0, bank=context.bank, destination=self.scores[turn],
            stride=self.heads * self.score_words, head_stride=self.score_words, mode=0, uniform=1,
                compact=0,
            fresh=0, column=0, token_scale=1, scales=query_scales)
        context.bank ^= 1
        slope = 0 if self.parameters.slopes is None else self.parameters.slopes[head]
        context.emit(
            Opcode.SOFTMAX, f"attention.{head}.softmax", "", tokens=tokens, heads=self.heads,
            words=self.score_words, source=self.scores[turn], stride=self.score_words,
            operands=self.numerators[turn], rounds=self.rounds, scales=scales,
            position=self.span.position + first, window=self.parameters.window, slope=slope,
            fraction=self.parameters.fraction, log2=int(self.parameters.log2),
            importance=int(self.scored), fresh=int(self.scored and head == 0), entry=first)
        return Prepared(self.numerators[turn], scales)

    def mix(self, head: int, first: int, end: int, prepared: Prepared) -> None:
        """SIMD over the values and DRAIN into o's input."""
        context, words = self.context, self.decoder.head_words
        tokens, rows = end - first, (end - first) * self.heads
        place = context.places["attention_output"]
        mode = SimdMode.W8L4 if self.parameters.log2 else SimdMode.W8A8
        for part, (w0, w1) in enumerate(self.blocks):
            context.emit(
                Opcode.SIMD, f"attention.{head}.mix", f"{CACHE}values.{head}.{part}",
                port_stride=self.value_stride, mode=int(mode), has_min=0,
                rounds=self.rounds, tokens=rows, blocks=1, group_rounds=self.values.group_rounds,
                shift=self.parameters.mix_shift, operands=prepared.operands, alphas=0,
                accumulator=0, bank=context.bank, first=1, plain=1, volatile=1)
            context.emit(
                Opcode.DRAIN, f"attention.{head}.mix.dequantize",
                self.rescale_region(f"mix.{head}", self.parameters.mix[head]),
                tokens=tokens, heads=self.heads, blocks=1, words=w1 - w0, accumulator=0,
                bank=context.bank, stride=place.stride, head_stride=words, mode=0, uniform=1,
                compact=0,
                destination=place.start + first * place.stride + head * self.heads * words + w0,
                fresh=0, column=0, token_scale=1, scales=prepared.scales)
            context.bank ^= 1
        if head == self.decoder.architecture.kv_heads - 1:
            self.fill(first, end)

    def fill(self, first: int, end: int) -> None:
        """Zeros where o's input is filled up to whole weight groups, from any sums times 0."""
        context, config = self.context, self.config
        place = context.places["attention_output"]
        step = config.lanes // config.word_elements
        used = self.decoder.architecture.heads * self.decoder.head_words
        region = context.constant(f"{SHARED}zeros", functools.partial(
            pack_uniform, 0, config, shift1=0, shift2=0))
        for at in range(used, place.stride, step):
            context.emit(
                Opcode.DRAIN, "attention.fill", region, tokens=end - first, heads=1, blocks=1,
                words=min(step, place.stride - at), accumulator=0, bank=context.bank ^ 1,
                destination=place.start + first * place.stride + at, stride=place.stride,
                head_stride=0, mode=0, uniform=1,
                compact=0, fresh=0, column=0, token_scale=0, scales=0)

    def rescale_region(self, name: str, scale: Rescale) -> str:
        """Region of drain parameters that are the same for every column."""
        return self.context.constant(f"{name}.parameters", functools.partial(
            pack_uniform, scale.multiplier, self.config, shift1=scale.shift1,
            shift2=scale.shift2))
