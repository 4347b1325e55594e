"""Instructions that append the keys and values of some consecutive tokens to the cache."""

from __future__ import annotations

from compiler.decoder.quantized import QuantizedDecoder
from compiler.decoder.scaling import value_group
from compiler.lower.attention import Span
from compiler.lower.cache import (
    CACHE,
    LAST_VALUES,
    key_format,
    key_heads,
    key_words,
    value_blocks,
    value_format,
    value_heads,
    value_words,
)
from compiler.lower.context import Context
from hw.config import HardwareConfig
from hw.isa import Opcode


def cuts(span: Span, size: int) -> list[tuple[int, int]]:
    """First and end token of the parts of a span that stay between multiples of ``size``."""
    result, at = [], 0
    while at < span.tokens:
        end = min(span.tokens, at + size - (span.position + at) % size)
        result.append((at, end))
        at = end
    return result


def append_keys(decoder: QuantizedDecoder, context: Context, span: Span) -> None:
    """Keys of all heads, those in the same place of their region by one instruction.

    Their columns are cut at the lanes.
    """
    config, keys, place = decoder.hardware, key_format(decoder), context.places["k.y"]
    group_words = keys.group_bytes // config.port_bytes
    heads, words = key_heads(decoder), decoder.head_words
    for head in range(heads):
        for first, end in cuts(span, config.lanes):
            block, slot = divmod(span.position + first, config.lanes)
            context.emit(
                Opcode.APPEND, "k.append", f"{CACHE}keys.0",
                heads=decoder.architecture.kv_heads // heads, head_stride=heads * words,
                cache_stride=keys.port_stride * config.lane_ports,
                port_stride=keys.port_stride,
                slot=head * key_words(decoder) * config.word_elements + slot, tokens=end - first,
                offset=block * keys.groups * group_words, words=words,
                source=place.start + first * place.stride + head * words, stride=place.stride,
                group_rounds=keys.group_rounds, group_words=group_words, transpose=0)


def rows_before(config: HardwareConfig) -> int:
    """Rows in front of the values' first: of the token with which it shares bytes."""
    return int(config.value_bits == 4)


def append_values(decoder: QuantizedDecoder, context: Context, span: Span) -> None:
    """Values of all heads, those side by side as one; their inputs are cut at the groups.

    Of 4 bits, two tokens' values share a byte, and memory writes whole bytes. So the row of a last
    token whose neighbour is still to come is kept in memory, for the pass that brings it.
    """
    config, values, place = decoder.hardware, value_format(decoder), context.places["v.y"]
    kept = value_words(decoder)
    before = span.position % (1 + rows_before(config))
    if before:
        context.emit(Opcode.LOAD, "v.load", LAST_VALUES, words=kept,
                     destination=place.start - place.stride)
        span = Span(span.position - 1, span.tokens + 1)
    group_words, length = values.group_bytes // config.port_bytes, value_group(config)
    heads, blocks = value_heads(decoder), value_blocks(decoder)
    for part, (w0, w1) in enumerate(blocks):
        for first, end in cuts(span, length):
            group, slot = divmod(span.position + first, length)
            context.emit(
                Opcode.APPEND, "v.append", f"{CACHE}values.0.{part}",
                heads=decoder.architecture.kv_heads // heads,
                head_stride=heads * decoder.head_words,
                cache_stride=len(blocks) * values.port_stride * config.lane_ports,
                port_stride=values.port_stride, slot=slot, tokens=end - first,
                offset=group * group_words, words=w1 - w0,
                source=place.start + (first - before) * place.stride + w0, stride=place.stride,
                group_rounds=values.group_rounds, group_words=group_words, transpose=1)
    if span.end % (1 + rows_before(config)):
        context.emit(Opcode.STORE, "v.store", LAST_VALUES, words=kept,
                     source=place.start + (span.tokens - before - 1) * place.stride)
