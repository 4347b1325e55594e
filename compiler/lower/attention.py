"""Instructions of attention for one layer and some consecutive tokens."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from compiler.decoder.quantized import AttentionParameters, QuantizedDecoder, Rescale
from compiler.decoder.scaling import value_group
from compiler.errors import CompileError
from compiler.image.layout import pack_factors, pack_uniform
from compiler.image.weights import WeightFormat
from compiler.lower.allocate import Allocator, OutOfSpaceError
from compiler.lower.cache import (
    CACHE,
    key_format,
    key_heads,
    key_words,
    positions_max,
    value_blocks,
    value_format,
    value_heads,
)
from compiler.lower.context import Context
from hw.isa import Opcode, SimdMode

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


@dataclass(frozen=True)
class Prepared:
    """Numerators of some rows: first operand word and scale entry."""

    operands: int
    scales: int


def mode_of(form: WeightFormat) -> SimdMode:
    """Mode of products with keys or values."""
    return SimdMode.W4A8 if form.weight_bits == 4 else SimdMode.W8A8


class AttentionStages:
    """Both halves of attention for some key-value heads and a tile of query tokens.

    scored: the softmax adds up the tokens' importance. Of a single token the rows of heads that
    share cache regions go together (``unit`` heads, ``asked`` of them with one set of keys).
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
        words = self.decoder.head_words
        self.blocks = [(w0, min(w1, w0 + words)) for w0, w1 in value_blocks(self.decoder)]
        self.key_heads, self.value_heads = key_heads(self.decoder), value_heads(self.decoder)
        # With a different ALiBi slope each query head is an instruction of its own.
        group = self.decoder.head_group
        if self.parameters.slopes is not None and group != 1:
            raise CompileError("ALiBi with grouped queries is not supported")
        self.key_blocks = -(-span.end // self.config.lanes)
        self.groups = -(-span.end // value_group(self.config))
        self.score_words = -(-span.end // self.config.word_elements)
        self.rounds = self.groups * self.values.group_rounds
        self.unit = self.value_heads
        if span.tokens > 1 or self.most_tokens() == 0:
            self.unit = 1
        tiles = -(-span.tokens // self.most_tokens(required=True))
        self.tile = -(-span.tokens // tiles)
        self.asked = min(self.unit, self.key_heads)
        rows = self.tile * self.unit * group
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

    def most_tokens(self, required: bool = False) -> int:
        """Query tokens whose rows the stores hold twice; raises CompileError if ``required``."""
        config, context, heads = self.config, self.context, self.unit * self.decoder.head_group
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
            if required and room < need * heads:
                raise OutOfSpaceError(store, need * heads, room)
        return min(room // (need * heads) for room, need in per_row.values())

    def prepare(self, head: int, first: int, end: int) -> Prepared:
        """The scores of a unit that begins with ``head``, and their SOFTMAX."""
        context, tokens = self.context, end - first
        heads = self.unit * self.decoder.head_group
        turn, self.turn = self.turn, self.turn ^ 1
        scales = self.scales[turn] + self.tile * heads
        for asked in range(head, head + self.unit, self.asked):
            self.score(head, asked, first, end, turn)
        slope = 0 if self.parameters.slopes is None else self.parameters.slopes[head]
        context.emit(
            Opcode.SOFTMAX, f"attention.{head}.softmax", "", tokens=tokens, heads=heads,
            words=self.score_words, source=self.scores[turn], stride=self.score_words,
            operands=self.numerators[turn], rounds=self.rounds, scales=scales,
            position=self.span.position + first, window=self.parameters.window, slope=slope,
            fraction=self.parameters.fraction, log2=int(self.parameters.log2),
            importance=int(self.scored), fresh=int(self.scored and head == 0), entry=first)
        return Prepared(self.numerators[turn], scales)

    def score(self, head: int, asked: int, first: int, end: int, turn: int) -> None:
        """QUANTIZE, SIMD over the keys, and a DRAIN of the scores of each head from ``asked`` on.

        head: the first one of the unit, whose rows lie in front.
        """
        context, config, words = self.context, self.config, self.decoder.head_words
        group, tokens = self.decoder.head_group, end - first
        heads, before = self.asked * group, (asked - head) * group
        operands, scales = self.queries[turn] + before * words, self.scales[turn] + before
        place = context.places["q.y"]
        factors = context.constant(f"{SHARED}factors", functools.partial(
            pack_factors, np.zeros(words * config.chunks_per_word, np.uint8), config))
        context.emit(
            Opcode.QUANTIZE, f"attention.{asked}.quantize", factors, rounds=words, tokens=tokens,
            heads=heads, source=place.start + first * place.stride + asked * group * words,
            stride=place.stride, head_stride=words, operands=operands, alphas=self.alphas,
            scales=scales, int4=0)
        context.emit(
            Opcode.SIMD, f"attention.{asked}.scores", f"{CACHE}keys.{asked // self.key_heads}",
            port_stride=self.key_stride, mode=int(mode_of(self.keys)), has_min=0, rounds=words,
            tokens=tokens * heads, blocks=self.key_blocks, group_rounds=self.keys.group_rounds,
            shift=0, operands=operands, alphas=0, accumulator=0, bank=context.bank, first=1,
            plain=1, volatile=1)
        stride = self.unit * group * self.score_words
        for number in range(self.asked):
            own, row = asked + number, number * group
            context.emit(
                Opcode.DRAIN, f"attention.{own}.scores.dequantize",
                self.rescale_region(f"score.{own}", self.parameters.score[own]),
                tokens=tokens, heads=group, blocks=self.key_blocks, words=self.score_words,
                begin=own % self.key_heads * key_words(self.decoder),
                accumulator=row * self.key_blocks, bank=context.bank,
                destination=self.scores[turn] + (before + row) * self.score_words, stride=stride,
                head_stride=self.score_words, mode=0, uniform=1, compact=0, fresh=0, column=0,
                token_scale=1, scales=scales + row)
        context.bank ^= 1

    def mix(self, head: int, first: int, end: int, prepared: Prepared) -> None:
        """SIMD over the values of a unit, and a DRAIN of each of its heads into o's input."""
        context, words = self.context, self.decoder.head_words
        group, tokens = self.decoder.head_group, end - first
        place = context.places["attention_output"]
        mode = SimdMode.W8L4 if self.parameters.log2 else mode_of(self.values)
        for part, (w0, w1) in enumerate(self.blocks):
            context.emit(
                Opcode.SIMD, f"attention.{head}.mix",
                f"{CACHE}values.{head // self.value_heads}.{part}",
                port_stride=self.value_stride, mode=int(mode), has_min=0, rounds=self.rounds,
                tokens=tokens * self.unit * group, blocks=1, group_rounds=self.values.group_rounds,
                shift=self.parameters.mix_shift, operands=prepared.operands, alphas=0,
                accumulator=0, bank=context.bank, first=1, plain=1, volatile=1)
            for number in range(self.unit):
                own, row = head + number, number * group
                context.emit(
                    Opcode.DRAIN, f"attention.{own}.mix.dequantize",
                    self.rescale_region(f"mix.{own}", self.parameters.mix[own]),
                    tokens=tokens, heads=group, blocks=1, words=w1 - w0,
                    begin=own % self.value_heads * words, accumulator=row, bank=context.bank,
                    destination=place.start + first * place.stride + own * group * words + w0,
                    stride=place.stride, head_stride=words, mode=0, uniform=1, compact=0, fresh=0,
                    column=0, token_scale=1, scales=prepared.scales + row)
            context.bank ^= 1
        if head + self.unit == self.decoder.architecture.kv_heads:
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
