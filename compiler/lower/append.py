"""Instructions that append the keys and values of some consecutive tokens to the cache."""

from __future__ import annotations

from compiler.decoder.quantized import QuantizedDecoder
from compiler.decoder.scaling import value_group
from compiler.lower.attention import (
    CACHE,
    Span,
    head_stride,
    key_format,
    value_blocks,
    value_format,
)
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


def heads_of(decoder: QuantizedDecoder) -> dict[str, int]:
    """Fields that name all key-value heads."""
    return {"heads": decoder.architecture.kv_heads, "head_stride": decoder.head_words,
            "cache_stride": head_stride(decoder)}


def append_keys(decoder: QuantizedDecoder, context: Context, span: Span) -> None:
    """Keys of all heads; their columns are cut at the lanes."""
    config, keys, place = decoder.hardware, key_format(decoder), context.places["k.y"]
    group_words = keys.group_bytes // config.port_bytes
    for first, end in cuts(span, config.lanes):
        block, slot = divmod(span.position + first, config.lanes)
        context.emit(
            Opcode.APPEND, "k.append", f"{CACHE}keys.0", **heads_of(decoder),
            port_stride=keys.port_stride, slot=slot, tokens=end - first,
            offset=block * keys.groups * group_words, words=decoder.head_words,
            source=place.start + first * place.stride, stride=place.stride,
            group_rounds=keys.group_rounds, group_words=group_words, transpose=0)


def append_values(decoder: QuantizedDecoder, context: Context, span: Span) -> None:
    """Values of all heads; their inputs are cut at the groups."""
    config, values, place = decoder.hardware, value_format(decoder), context.places["v.y"]
    group_words, length = values.group_bytes // config.port_bytes, value_group(config)
    for part, (w0, w1) in enumerate(value_blocks(decoder)):
        for first, end in cuts(span, length):
            group, slot = divmod(span.position + first, length)
            context.emit(
                Opcode.APPEND, "v.append", f"{CACHE}values.0.{part}", **heads_of(decoder),
                port_stride=values.port_stride, slot=slot, tokens=end - first,
                offset=group * group_words, words=w1 - w0,
                source=place.start + first * place.stride + w0, stride=place.stride,
                group_rounds=values.group_rounds, group_words=group_words, transpose=1)
