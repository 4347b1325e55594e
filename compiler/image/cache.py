"""Where APPEND puts keys and values: elements of SIMD weights (`docs/architecture.md`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.golden.cache import cache_max
from hw.isa import LINE_BYTES

Fields = Mapping[str, int]


@dataclass(frozen=True)
class Extent:
    """Weight ports whose regions an APPEND writes of a head, bytes ``first..last-1`` of each.

    Bytes count from ``address``, in the first head's region; every write of a port lies between
    them.
    """

    first_port: int
    last_port: int
    first: int
    last: int


def base_bytes(fields: Fields, config: HardwareConfig) -> int:
    """Bytes from a port's region to the weights of the block or group: behind its scales."""
    return fields["offset"] * config.port_bytes + 2 * config.port_columns


def element_bits(fields: Fields, config: HardwareConfig) -> int:
    """Bits of an element."""
    return config.value_bits if fields["transpose"] else config.key_bits


def cached_max(bits: int, config: HardwareConfig) -> int:
    """Largest magnitude of volatile weights of so many bits.

    APPEND writes symmetric integers; keys that are read as values of other bits need not be.
    """
    return cache_max(bits) if config.key_bits == config.value_bits else 1 << (bits - 1)


def columns_of_word(fields: Fields, config: HardwareConfig) -> int:
    """Columns whose elements share a port word."""
    return config.value_columns if fields["transpose"] else config.key_columns


def append_extent(fields: Fields, config: HardwareConfig) -> Extent:
    """What an APPEND writes, from its fields alone."""
    depth, columns, slot = config.simd_depth, config.port_columns, fields["slot"]
    column_bytes = depth * element_bits(fields, config) // 8
    chunk = columns * column_bytes
    end, base = slot + fields["tokens"], base_bytes(fields, config)
    elements = fields["words"] * config.word_elements
    if fields["transpose"]:
        first = slot // depth * chunk
        last = ((end - 1) // depth + 1) * chunk
        return Extent(0, (elements - 1) // columns, base + first, base + last)
    first_port, last_port = slot // columns, (end - 1) // columns
    column, last_column = (slot % columns, (end - 1) % columns)
    if first_port != last_port:
        column, last_column = 0, columns - 1
    group_chunks = fields["group_rounds"] * config.chunks_per_word
    group, within = divmod(elements // depth - 1, max(1, group_chunks))
    last = group * fields["group_words"] * config.port_bytes
    last += within * chunk + (last_column + 1) * column_bytes
    return Extent(first_port, last_port, base + column * column_bytes, base + last)


def append_addresses(fields: Fields, config: HardwareConfig) -> Ints:
    """Byte address of every element: int64 [heads, tokens, words * word_elements].

    Elements of 4 bits are two in a byte: the lower one comes first (`append_nibbles`).
    """
    depth, columns = config.simd_depth, config.port_columns
    head = np.arange(fields["heads"])[:, None, None]
    token = fields["slot"] + np.arange(fields["tokens"])[:, None]
    element = np.arange(fields["words"] * config.word_elements)
    if fields["transpose"]:
        port, column = element // columns, element % columns
        within = (token // depth * columns + column) * depth + token % depth
        group: Ints = np.zeros(1, np.int64)
    else:
        port, column = token // columns, token % columns
        group, chunk = np.divmod(
            element // depth, fields["group_rounds"] * config.chunks_per_word)
        within = (chunk * columns + column) * depth + element % depth
    within = within * element_bits(fields, config) // 8
    within = within + group * fields["group_words"] * config.port_bytes
    line = fields["address"] + head * fields["cache_stride"] + port * fields["port_stride"]
    result: Ints = (line * LINE_BYTES + base_bytes(fields, config) + within).astype(np.int64)
    return result


def append_nibbles(fields: Fields, config: HardwareConfig) -> Ints:
    """Place of every element within its byte, as `append_addresses`: 0, or 1 for the upper half."""
    if element_bits(fields, config) == 8:
        return np.zeros((1, 1, 1), np.int64)
    if fields["transpose"]:
        return (fields["slot"] + np.arange(fields["tokens"])[None, :, None]) % 2
    return np.arange(fields["words"] * config.word_elements)[None, None] % 2


def write_elements(fields: Fields, config: HardwareConfig) -> int:
    """Elements of a token in one write: a chunk of a key, or the values that share a port word."""
    return config.value_columns if fields["transpose"] else config.simd_depth


def write_stride(fields: Fields, config: HardwareConfig) -> int:
    """Port words from one write of a vector word to the next: those between have no strobes."""
    return 1 if fields["transpose"] else config.port_columns // config.key_columns


def burst_words(fields: Fields, config: HardwareConfig) -> int:
    """Port words of one command: from the first to the last write of a vector word."""
    writes = config.word_elements // write_elements(fields, config)
    return (writes - 1) * write_stride(fields, config) + 1


def token_bundles(fields: Fields, config: HardwareConfig) -> list[int]:
    """Tokens of each bundle: columns (keys) or inputs (values) that share port words."""
    depth = config.simd_depth
    most = depth if fields["transpose"] else config.key_columns
    slot, left, bundles = fields["slot"], fields["tokens"], []
    while left:
        bundles.append(min(left, most - slot % most))
        slot, left = slot + bundles[-1], left - bundles[-1]
    return bundles
