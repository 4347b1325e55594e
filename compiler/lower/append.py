"""Instructions that append the keys and values of some consecutive tokens to the cache."""

from __future__ import annotations

from compiler.decoder.quantized import QuantizedDecoder
from compiler.lower.attention import CACHE, Span, key_format, value_blocks, value_format
from compiler.lower.context import Context
from hw.isa import Opcode


def cuts(span: Span, size: int) -> list[tuple[int, int]]:
    """First and end token of the parts of a span that stay between multiples of ``size``."""
    result, at = [], 0
    while at < span.tokens:
        end = min(span.tokens, at + size - (span.position + at) % size)
        result.append((at, end))
        at = end
    return result


def append_key(
    decoder: QuantizedDecoder, context: Context, head: int, span: Span
) -> None:
    """Keys of a head; their columns are cut at the lanes."""
    config, head_words = decoder.hardware, decoder.head_words
    keys, place = key_format(decoder), context.places["k.y"]
    group_words = keys.group_bytes // config.port_bytes
    for first, end in cuts(span, config.lanes):
        block, slot = divmod(span.position + first, config.lanes)
        context.emit(
            Opcode.APPEND, f"k.append.{head}", f"{CACHE}keys.{head}",
            port_stride=keys.port_stride, slot=slot, tokens=end - first,
            offset=block * keys.groups * group_words,
            words=head_words, source=place.start + first * place.stride + head * head_words,
            stride=place.stride, group_rounds=keys.group_rounds,
            group_words=group_words, transpose=0)


def append_value(
    decoder: QuantizedDecoder, context: Context, head: int, span: Span
) -> None:
    """Values of a head; their inputs are cut at the longest group."""
    config, head_words = decoder.hardware, decoder.head_words
    values, place = value_format(decoder), context.places["v.y"]
    group_words = values.group_bytes // config.port_bytes
    for part, (w0, w1) in enumerate(value_blocks(decoder)):
        for first, end in cuts(span, config.group_max):
            group, slot = divmod(span.position + first, config.group_max)
            context.emit(
                Opcode.APPEND, f"v.append.{head}", f"{CACHE}values.{head}.{part}",
                port_stride=values.port_stride, slot=slot, tokens=end - first,
                offset=group * group_words, words=w1 - w0,
                source=place.start + first * place.stride + head * head_words + w0,
                stride=place.stride, group_rounds=values.group_rounds,
                group_words=group_words, transpose=1)
