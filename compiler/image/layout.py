"""How constants and activations lie in the memory image, both directions.

`docs/architecture.md` ("Memory image layouts") is the definition. Every ``pack_*`` returns the
bytes of one region, filled up to whole 64-byte lines; ``unpack_*`` is its inverse on what the
hardware reads (with filled-up positions, columns and entries). All are vectorised numpy.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.config import HardwareConfig
from hw.fixed import INT16_MAX, Ints
from hw.golden.activation import SEGMENTS
from hw.isa import LINE_BYTES

Buffer = bytes | bytearray | memoryview | NDArray[Any]
"""Bytes of a region; arrays are not copied."""
PARAMETER_WORDS = 4
"""Port words of drain parameters for a vector word: zero (2), bias, multiplier."""
NORM_WORDS = 2
"""Port words of norm parameters for each vector word."""
FUNCTION_BYTES = LINE_BYTES + 4 * SEGMENTS
NORM_HEADER = struct.Struct("<BxHIQ")
"""Shift, columns, inverse, epsilon."""


def align(value: int, unit: int) -> int:
    """Round up to a multiple of ``unit``."""
    return -(-value // unit) * unit


def pad_axis(values: Ints, axis: int, size: int) -> Ints:
    """Fill an axis up with zeros."""
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, size - values.shape[axis])
    return np.pad(values, widths)


def fill_lines(data: bytes) -> bytes:
    """Fill up with zeros to whole lines."""
    return data.ljust(align(len(data), LINE_BYTES), b"\0")


def _bit_groups(bits: int) -> tuple[Ints, np.dtype[Any]]:
    """Places of the values that fill whole bytes, and integers that hold those bytes."""
    kind = np.dtype("<u4" if 8 % bits else "u1")
    return np.arange(0, math.lcm(bits, 8), bits).astype(kind), kind


def pack_bits(values: Ints, bits: int) -> Ints:
    """Unsigned values of 2, 3, 4 or 8 bits into bytes along the last axis, lowest bits first."""
    if bits == 8:
        return np.ascontiguousarray(values, np.uint8)
    shifts, kind = _bit_groups(bits)
    padded = pad_axis(values, -1, align(values.shape[-1], len(shifts))).astype(kind)
    parts = padded.reshape(*padded.shape[:-1], -1, len(shifts))
    packed: Ints = np.bitwise_or.reduce(parts << shifts, axis=-1).astype(kind)
    whole = packed[..., None].view(np.uint8)[..., :len(shifts) * bits // 8]
    return whole.reshape(*padded.shape[:-1], -1)


def unpack_bits(data: Ints, bits: int) -> Ints:
    """Inverse of `pack_bits`: uint8 values, 8 for each 3 bytes or ``8 / bits`` for each byte."""
    if bits == 8:
        return data
    shifts, kind = _bit_groups(bits)
    size = len(shifts) * bits // 8
    whole = pad_axis(data.reshape(*data.shape[:-1], -1, size), -1, kind.itemsize).view(kind)
    values: Ints = ((whole >> shifts) & kind.type((1 << bits) - 1)).astype(np.uint8)
    return values.reshape(*data.shape[:-1], -1)


def signed4(values: Ints) -> Ints:
    """Sign of 4-bit values held in uint8, as int8."""
    signed: Ints = ((values.astype(np.int8) ^ 8) - 8).astype(np.int8)
    return signed


def split_regions(data: Buffer, ports: int, port_stride: int, size: int) -> Ints:
    """First ``size`` bytes of each port's region, uint8 [ports, size]; raises ValueError."""
    stride = port_stride * LINE_BYTES
    values = np.frombuffer(data, np.uint8)
    if len(values) < (ports - 1) * stride + size:
        raise ValueError(f"{len(values)} bytes do not hold {ports} regions {stride} bytes apart")
    return np.stack([values[port * stride:port * stride + size] for port in range(ports)])


def pack_activations(x: Ints, words: int, config: HardwareConfig) -> bytes:
    """int16 [T, D] as rows of ``words`` port words, filled up with zeros."""
    padded = pad_axis(x.astype("<i2"), 1, words * config.word_elements)
    return fill_lines(padded.tobytes())


def unpack_activations(data: Buffer, tokens: int, words: int, config: HardwareConfig) -> Ints:
    """int16 [T, words * word_elements]."""
    values = np.frombuffer(data, "<i2", tokens * words * config.word_elements)
    return values.reshape(tokens, -1)


def pack_embedding(rows: Ints, words: int, config: HardwareConfig) -> bytes:
    """int16 [n, width] as rows of ``words`` port words; only the end is filled up to a line."""
    return pack_activations(rows, words, config)


def pack_rotations(table: Ints, words: int, config: HardwareConfig) -> bytes:
    """int16 [tokens, n] (cos, sin at the places of a pair) as rows of ``words`` port words."""
    return pack_activations(table, words, config)


def unpack_rotations(data: Buffer, tokens: int, words: int, config: HardwareConfig) -> Ints:
    """int16 [tokens, words * word_elements]."""
    return unpack_activations(data, tokens, words, config)


def pack_centroids(centroids: Ints, config: HardwareConfig) -> bytes:
    """int16 [P, c_a, v], P filled up to whole rounds; unused codes repeat centroid 0."""
    positions, codes, length = centroids.shape
    rounds = align(positions, config.positions) // config.positions
    padded = pad_axis(centroids, 0, rounds * config.positions)
    spare = np.repeat(padded[:, :1], config.act_codes_max - codes, axis=1)
    full = np.concatenate([padded, spare], axis=1)
    shaped = full.reshape(rounds, config.positions, config.act_codes_max, length)
    return fill_lines(shaped.transpose(0, 2, 1, 3).astype("<i2").tobytes())


def unpack_centroids(data: Buffer, rounds: int, config: HardwareConfig) -> Ints:
    """int16 [rounds * positions, act_codes_max, v]."""
    shape = (rounds, config.act_codes_max, config.positions, config.vector_length)
    values = np.frombuffer(data, "<i2", int(np.prod(shape))).reshape(shape)
    return values.transpose(0, 2, 1, 3).reshape(-1, config.act_codes_max, config.vector_length)


def pack_factors(alphas: Ints, config: HardwareConfig) -> bytes:
    """uint8 [rounds * chunks_per_word] channel exponents as nibbles."""
    return fill_lines(pack_bits(alphas, 4).tobytes())


def unpack_factors(data: Buffer, rounds: int, config: HardwareConfig) -> Ints:
    """uint8 [rounds, chunks_per_word]."""
    count = rounds * config.chunks_per_word
    values = unpack_bits(np.frombuffer(data, np.uint8, (count + 1) // 2), 4)
    return values[:count].reshape(rounds, -1)


def pack_thresholds(alphas: Ints, thresholds: Ints, config: HardwareConfig) -> bytes:
    """Channel exponents as `pack_factors` takes them, then a port word of int16 for each round."""
    factors = pack_bits(alphas, 4).tobytes()
    filled = factors.ljust(align(len(factors), config.port_bytes), b"\0")
    return fill_lines(filled + thresholds.astype("<i2").tobytes())


def unpack_thresholds(data: Buffer, rounds: int, config: HardwareConfig) -> Ints:
    """int16 [rounds * word_elements], behind the channel factors."""
    start = align((rounds * config.chunks_per_word + 1) // 2, config.port_bytes)
    return np.frombuffer(data, "<i2", rounds * config.word_elements, start)


@dataclass(frozen=True, kw_only=True)
class DrainParameters:
    """Arguments of `hw.golden.dequant.dequantize32`; arrays [words * word_elements]."""

    zero: Ints
    multiplier: Ints
    bias: Ints
    shift1: int
    shift2: int
    bias_shift: int


@dataclass(frozen=True, kw_only=True)
class NormTable:
    """Arguments of `hw.golden.norm.normalize`; weight, bias: int16 [words * word_elements].

    columns: elements of a row that count.
    """

    weight: Ints
    bias: Ints
    shift: int
    inverse: int
    epsilon: int
    columns: int


def pack_parameters(
    zero: Ints, multiplier: Ints, bias: Ints, words: int, config: HardwareConfig, *,
    shift1: int, shift2: int, bias_shift: int = 0, least: bool = False, compact: bool = False,
) -> bytes:
    """Drain parameters of ``words`` vector words of columns.

    Filled-up columns give 0, or with ``least`` (for ARGMAX) a value that no other is below. With
    ``compact`` the first vector word's zero and bias are those of all.
    """
    shape = (words, config.word_elements)

    def rows(values: Ints, kind: str, fill: int) -> Ints:
        full = np.full(words * config.word_elements, fill if least else 0, kind)
        full[:len(values)] = values
        return full.reshape(shape).view(np.uint8)

    first = [rows(zero, "<i4", -config.sum_max - 1), rows(bias, "<i2", -INT16_MAX)]
    multipliers = rows(multiplier, "<i2", INT16_MAX)
    header = bytes([shift1, shift2, bias_shift]).ljust(LINE_BYTES, b"\0")
    if compact:
        shared = b"".join(part[0].tobytes() for part in first)
        return fill_lines(header + shared + multipliers.tobytes())
    return fill_lines(header + np.concatenate([*first, multipliers], axis=1).tobytes())


def parameter_words(words: int, uniform: int, compact: int) -> int:
    """Port words of drain parameters for ``words`` vector words, without the header line."""
    behind = 0 if uniform else words - 1
    return PARAMETER_WORDS + behind * (1 if compact else PARAMETER_WORDS)


def pack_uniform(
    multiplier: int, config: HardwareConfig, *, shift1: int, shift2: int
) -> bytes:
    """Drain parameters (``uniform``) that are the same for all columns, without zero and bias."""
    elements = config.word_elements
    nothing = np.zeros(elements, np.int32)
    return pack_parameters(nothing, np.full(elements, multiplier, np.int16), nothing, 1, config,
                           shift1=shift1, shift2=shift2)


def unpack_parameters(
    data: Buffer, words: int, config: HardwareConfig, uniform: bool = False, compact: bool = False
) -> DrainParameters:
    """Parameters of ``words`` vector words; what is stored once is repeated for each."""
    raw = np.frombuffer(data, np.uint8)
    size, columns = config.port_bytes, words * config.word_elements
    stored = raw[LINE_BYTES:LINE_BYTES + parameter_words(words, uniform, compact) * size]
    stored = stored.reshape(-1, size)
    shared = PARAMETER_WORDS - 1
    if compact:
        rest = np.broadcast_to(stored[:shared], (len(stored) - shared, shared, size))
        groups = np.concatenate([rest, stored[shared:, None]], axis=1)
    else:
        groups = stored.reshape(-1, PARAMETER_WORDS, size)

    def values(first: int, last: int, kind: str) -> Ints:
        part = np.ascontiguousarray(groups[:, first:last]).view(kind).reshape(-1)
        return np.resize(part, columns)

    return DrainParameters(
        zero=values(0, 2, "<i4"), multiplier=values(3, 4, "<i2"), bias=values(2, 3, "<i2"),
        shift1=int(raw[0]), shift2=int(raw[1]), bias_shift=int(raw[2]))


def pack_function(base: Ints, delta: Ints, shift: int) -> bytes:
    """Function table: the product's shift, then 256 x {base int16, delta int16}."""
    header = bytes([shift]).ljust(LINE_BYTES, b"\0")
    return fill_lines(header + np.stack([base, delta], axis=1).astype("<i2").tobytes())


def unpack_function(data: Buffer) -> tuple[Ints, Ints, int]:
    """Base and delta, int16 [256] each, and the shift."""
    raw = np.frombuffer(data, np.uint8)
    pairs = np.frombuffer(raw[LINE_BYTES:FUNCTION_BYTES], "<i2").reshape(SEGMENTS, 2)
    return pairs[:, 0], pairs[:, 1], int(raw[0])


def pack_norm(
    weight: Ints, bias: Ints, shift: int, inverse: int, epsilon: int, columns: int, words: int,
    config: HardwareConfig,
) -> bytes:
    """Norm parameters of rows of ``words`` vector words; weight, bias: int16 [columns]."""
    header = NORM_HEADER.pack(shift, columns, inverse, epsilon).ljust(LINE_BYTES, b"\0")
    rows = [
        pad_axis(values.astype("<i2"), 0, words * config.word_elements).reshape(words, -1)
        for values in (weight, bias)
    ]
    return fill_lines(header + np.concatenate(rows, axis=1).tobytes())


def unpack_norm(data: Buffer, words: int, config: HardwareConfig) -> NormTable:
    """Inverse of `pack_norm`."""
    raw = np.frombuffer(data, np.uint8)
    shift, columns, inverse, epsilon = NORM_HEADER.unpack(raw[:NORM_HEADER.size].tobytes())
    values = np.frombuffer(
        raw[LINE_BYTES:LINE_BYTES + words * NORM_WORDS * config.port_bytes], "<i2")
    rows = values.reshape(words, NORM_WORDS, config.word_elements)
    return NormTable(weight=rows[:, 0].reshape(-1), bias=rows[:, 1].reshape(-1), shift=shift,
                     inverse=inverse, epsilon=epsilon, columns=columns)
