"""What the multiplier array finds in memory, written straight from docs/architecture.md."""

from __future__ import annotations

import numpy as np

from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import LINE_BYTES


def nibbles(values: Ints) -> bytes:
    """Int4 values, low nibble first."""
    low, high = values.reshape(-1, 2).T & 15
    return (low | high << 4).astype(np.uint8).tobytes()


def weight_regions(
    config: HardwareConfig, weights: Ints, scales: Ints, minima: Ints | None, group: int, int8: bool
) -> list[bytes]:
    """Region of each weight port, filled up to lines.

    weights: [M, D]; scales, minima: [D / group, M]; M is a multiple of the lanes.
    """
    columns = config.lanes // config.weight_ports
    regions = []
    for q in range(config.weight_ports):
        region = b""
        for first in range(q * columns, len(weights), config.lanes):
            mine = slice(first, first + columns)
            for g in range(len(scales)):
                region += scales[g, mine].astype("<i2").tobytes()
                if minima is not None:
                    region += minima[g, mine].astype("<i2").tobytes()
                for start in range(g * group, (g + 1) * group, config.simd_depth):
                    chunk = weights[mine, start:start + config.simd_depth].reshape(-1)
                    region += chunk.astype(np.int8).tobytes() if int8 else nibbles(chunk)
        regions.append(region.ljust(-(-len(region) // LINE_BYTES) * LINE_BYTES, b"\0"))
    return regions


def operand_words(config: HardwareConfig, x: Ints, int4: bool) -> list[int]:
    """Words of the operand store for activations [T, D]: round by round, then by token or pair."""
    tokens, inputs = x.shape
    if int4:
        full = np.zeros((tokens + tokens % 2, inputs), np.int64)
        full[:tokens] = x
        full = (full[::2] & 15) | (full[1::2] & 15) << 4
    else:
        full = x
    rounds = full.astype(np.uint8).reshape(len(full), -1, config.word_elements)
    return [
        int.from_bytes(rounds[t, r].tobytes(), "little")
        for r in range(rounds.shape[1])
        for t in range(len(full))
    ]


def alpha_words(config: HardwareConfig, alphas: Ints) -> list[int]:
    """Entries of the alpha store: the factors of one round each, 3 bits a chunk."""
    return [
        sum(int(alpha) << (3 * c) for c, alpha in enumerate(word))
        for word in alphas.reshape(-1, config.chunks_per_word)
    ]
