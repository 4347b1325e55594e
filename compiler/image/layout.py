"""How constants and activations lie in the memory image, both directions.

`docs/architecture.md` ("Memory image layouts") is the definition. Every ``pack_*`` returns the
bytes of one region, filled up to whole 64-byte lines; ``unpack_*`` is its inverse on what the
hardware reads (with filled-up positions, columns and entries). All are vectorised numpy.
"""

from __future__ import annotations

import numpy as np

from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.golden.activation import SEGMENTS
from hw.isa import LINE_BYTES


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


def pack_bits(values: Ints, bits: int) -> Ints:
    """Unsigned values of 2, 4 or 8 bits into bytes along the last axis, lowest bits first."""
    if bits == 8:
        return np.ascontiguousarray(values, np.uint8)
    per_byte = 8 // bits
    padded = pad_axis(values, -1, align(values.shape[-1], per_byte)).astype(np.uint8)
    parts = padded.reshape(*padded.shape[:-1], -1, per_byte)
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(bits)
    packed: Ints = np.bitwise_or.reduce(parts << shifts, axis=-1).astype(np.uint8)
    return packed


def unpack_bits(data: Ints, bits: int) -> Ints:
    """Inverse of `pack_bits`: uint8 values, ``8 / bits`` for each byte."""
    if bits == 8:
        return data
    shifts = np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
    parts = (data[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    values: Ints = parts.reshape(*data.shape[:-1], -1)
    return values


def signed4(values: Ints) -> Ints:
    """Sign of 4-bit values held in uint8, as int8."""
    signed: Ints = ((values.astype(np.int8) ^ 8) - 8).astype(np.int8)
    return signed


def split_regions(data: bytes, ports: int, port_stride: int, size: int) -> Ints:
    """First ``size`` bytes of each port's region, uint8 [ports, size]; raises ValueError."""
    stride = port_stride * LINE_BYTES
    if len(data) < (ports - 1) * stride + size:
        raise ValueError(f"{len(data)} bytes do not hold {ports} regions {stride} bytes apart")
    values = np.frombuffer(data, np.uint8)
    return np.stack([values[port * stride:port * stride + size] for port in range(ports)])


def pack_activations(x: Ints, words: int, config: HardwareConfig) -> bytes:
    """int16 [T, D] as rows of ``words`` port words, filled up with zeros."""
    padded = pad_axis(x.astype("<i2"), 1, words * config.word_elements)
    return fill_lines(padded.tobytes())


def unpack_activations(data: bytes, tokens: int, words: int, config: HardwareConfig) -> Ints:
    """int16 [T, words * word_elements]."""
    values = np.frombuffer(data, "<i2", tokens * words * config.word_elements)
    return values.reshape(tokens, -1)


def pack_centroids(centroids: Ints, config: HardwareConfig) -> bytes:
    """int16 [P, c_a, v], P filled up to whole rounds; unused codes repeat centroid 0."""
    positions, codes, length = centroids.shape
    rounds = align(positions, config.positions) // config.positions
    padded = pad_axis(centroids, 0, rounds * config.positions)
    spare = np.repeat(padded[:, :1], config.act_codes_max - codes, axis=1)
    full = np.concatenate([padded, spare], axis=1)
    shaped = full.reshape(rounds, config.positions, config.act_codes_max, length)
    return fill_lines(shaped.transpose(0, 2, 1, 3).astype("<i2").tobytes())


def unpack_centroids(data: bytes, rounds: int, config: HardwareConfig) -> Ints:
    """int16 [rounds * positions, act_codes_max, v]."""
    shape = (rounds, config.act_codes_max, config.positions, config.vector_length)
    values = np.frombuffer(data, "<i2", int(np.prod(shape))).reshape(shape)
    return values.transpose(0, 2, 1, 3).reshape(-1, config.act_codes_max, config.vector_length)


def pack_factors(alphas: Ints, config: HardwareConfig) -> bytes:
    """uint8 [rounds * chunks_per_word] channel exponents as nibbles."""
    return fill_lines(pack_bits(alphas, 4).tobytes())


def unpack_factors(data: bytes, rounds: int, config: HardwareConfig) -> Ints:
    """uint8 [rounds, chunks_per_word]."""
    count = rounds * config.chunks_per_word
    values = unpack_bits(np.frombuffer(data, np.uint8, (count + 1) // 2), 4)
    return values[:count].reshape(rounds, -1)


def pack_parameters(
    zero: Ints, multiplier: Ints, bias: Ints, words: int, config: HardwareConfig
) -> bytes:
    """Drain parameters of ``words`` vector words of columns; filled-up columns give 0."""
    shape = (words, config.word_elements)

    def rows(values: Ints, kind: str) -> Ints:
        padded = pad_axis(values, 0, words * config.word_elements)
        return padded.astype(kind).reshape(shape).view(np.uint8)

    parts = [rows(zero, "<i4"), rows(multiplier, "<i2"), rows(bias, "<i2")]
    return fill_lines(np.concatenate(parts, axis=1).tobytes())


def unpack_parameters(data: bytes, words: int, config: HardwareConfig) -> tuple[Ints, Ints, Ints]:
    """Zero int32, multiplier int16, bias int16, each [words * word_elements]."""
    size = config.port_bytes
    rows = np.frombuffer(data, np.uint8, words * 4 * size).reshape(words, 4 * size)

    def values(first: int, last: int, kind: str) -> Ints:
        return np.ascontiguousarray(rows[:, first * size:last * size]).view(kind).reshape(-1)

    return values(0, 2, "<i4"), values(2, 3, "<i2"), values(3, 4, "<i2")


def pack_function(base: Ints, delta: Ints) -> bytes:
    """Function table: 256 x {base int16, delta int16}."""
    return fill_lines(np.stack([base, delta], axis=1).astype("<i2").tobytes())


def unpack_function(data: bytes) -> tuple[Ints, Ints]:
    """Base and delta, int16 [256] each."""
    pairs = np.frombuffer(data, "<i2", 2 * SEGMENTS).reshape(SEGMENTS, 2)
    return pairs[:, 0], pairs[:, 1]
