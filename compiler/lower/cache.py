"""Layout of the key-value cache: regions of a layer, and heads that share one.

A row of the multiplier array goes through all columns of a block, and reading a block takes as long
whosever its columns are. So heads whose keys or values are narrower than the array lie side by
side, and one token's rows of all these heads go through them at once: each row's results are the
columns of its own head.
"""

from __future__ import annotations

import numpy as np

from compiler.decoder.quantized import QuantizedDecoder
from compiler.decoder.scaling import cache_rounds, value_group
from compiler.image.layout import align
from compiler.image.weights import WeightFormat, pack_weights
from compiler.lower.matmul import BLOCKS_MAX, ROUNDS_MAX
from hw.config import HardwareConfig
from hw.isa import LINE_BYTES

CACHE = "cache/"
"""Regions of the key-value cache; all others of a layer are constants."""
LAST_VALUES = f"{CACHE}values.last"
"""Region of a token's values in int16 that do not fill their bytes yet."""


def key_format(decoder: QuantizedDecoder) -> WeightFormat:
    """Cache of the keys of `key_heads` heads: columns are positions."""
    config = decoder.hardware
    rounds = max(count for count in range(1, cache_rounds(config) + 1)
                 if decoder.head_words % count == 0)
    return WeightFormat(config=config, blocks=-(-decoder.capacity // config.lanes),
                        groups=decoder.head_words // rounds, group_rounds=rounds,
                        weight_bits=config.key_bits, has_min=False)


def value_format(decoder: QuantizedDecoder) -> WeightFormat:
    """Cache of the values of `value_heads` heads, or of a column block of one: inputs are
    positions.
    """
    config = decoder.hardware
    length = value_group(config)
    return WeightFormat(config=config, blocks=1, groups=-(-decoder.capacity // length),
                        group_rounds=length // config.word_elements,
                        weight_bits=config.value_bits, has_min=False)


def positions_max(config: HardwareConfig) -> int:
    """Positions whose scores, and whose values, one instruction can go through."""
    length = value_group(config)
    groups = ROUNDS_MAX * config.word_elements // length
    return min(BLOCKS_MAX * config.lanes, groups * length)


def lane_words(config: HardwareConfig) -> int:
    """Vector words of a column block."""
    return config.lanes // config.word_elements


def value_heads(decoder: QuantizedDecoder) -> int:
    """Key-value heads whose values lie side by side.

    No more than those whose products for a token take as long as reading the values does. With
    ALiBi each head has a softmax of its own.
    """
    config, heads = decoder.hardware, decoder.architecture.kv_heads
    if decoder.architecture.position == "alibi":
        return 1
    form, group = value_format(decoder), decoder.head_group
    steps = form.group_rounds * config.chunks_per_word * group
    most = min(lane_words(config) // decoder.head_words, config.tokens_max // group,
               form.group_bytes // config.port_bytes // steps)
    return max(count for count in range(1, max(1, most) + 1) if heads % count == 0)


def key_words(decoder: QuantizedDecoder) -> int:
    """Vector words of a head's scores for all positions."""
    return -(-decoder.capacity // decoder.hardware.word_elements)


def key_heads(decoder: QuantizedDecoder) -> int:
    """Key-value heads whose keys lie side by side, `key_words` apart."""
    most, heads = lane_words(decoder.hardware) // key_words(decoder), value_heads(decoder)
    return max(count for count in range(1, max(1, min(most, heads)) + 1) if heads % count == 0)


def value_blocks(decoder: QuantizedDecoder) -> list[tuple[int, int]]:
    """First and end vector word of `value_heads` heads in each of their column blocks."""
    step, words = lane_words(decoder.hardware), value_heads(decoder) * decoder.head_words
    return [(at, min(at + step, words)) for at in range(0, words, step)]


def cache_regions(decoder: QuantizedDecoder) -> dict[str, WeightFormat]:
    """Cache regions of one layer, in order."""
    heads, parts = decoder.architecture.kv_heads, len(value_blocks(decoder))
    keys, values = key_format(decoder), value_format(decoder)
    return {f"{CACHE}keys.{number}": keys for number in range(heads // key_heads(decoder))} | {
        f"{CACHE}values.{number}.{part}": values
        for number in range(heads // value_heads(decoder)) for part in range(parts)}


def value_words(decoder: QuantizedDecoder) -> int:
    """Vector words of a token's values."""
    return decoder.architecture.kv_heads * decoder.head_words


def cache_sizes(decoder: QuantizedDecoder) -> dict[str, int]:
    """Bytes of a layer's regions, in order; whole lines."""
    config = decoder.hardware
    sizes = {name: form.port_stride * config.lane_ports * LINE_BYTES
             for name, form in cache_regions(decoder).items()}
    if config.value_bits == 4:
        sizes[LAST_VALUES] = align(value_words(decoder) * config.port_bytes, LINE_BYTES)
    return sizes


def empty_cache(decoder: QuantizedDecoder) -> dict[str, bytes]:
    """A layer's regions without tokens."""
    forms = cache_regions(decoder)
    return {name: empty_region(forms[name]) if name in forms else bytes(size)
            for name, size in cache_sizes(decoder).items()}


def empty_region(form: WeightFormat) -> bytes:
    """Weights without tokens: zeros with scales of 1."""
    columns = form.blocks * form.config.lanes
    inputs = form.groups * form.group_rounds * form.config.word_elements
    return pack_weights(form, np.zeros((columns, inputs), np.int8),
                        np.ones((form.groups, columns), np.int16), None)
