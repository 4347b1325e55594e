"""How many lanes of the accumulator share a memory."""

from __future__ import annotations

from hw.config import HardwareConfig

SLICE_LANES = (4, 8, 16)
"""Lanes of a slice: few make the Verilog simulator slower, many its generation."""
BLOCK_BITS = 72
"""Width of the memory blocks that a slice's words are laid out for."""


def slice_lanes(config: HardwareConfig) -> int:
    """Lanes of a slice: as many as leave the least of whole memory blocks unused, few of those."""
    def blocks_for_all(lanes: int) -> int:
        return -(-lanes * config.sum_bits // BLOCK_BITS) * (SLICE_LANES[-1] // lanes)

    return min(SLICE_LANES, key=blocks_for_all)
