"""Widths and counts of the circuit that the resource formulas are written with."""

from __future__ import annotations

from hw.config import ALPHA_MAX, HardwareConfig, bits_for
from hw.golden.hadamard import LENGTH_BITS_MAX
from hw.golden.softmax import LOG2_BITS


def slot_bits(c: HardwareConfig) -> int:
    """The smallest row of a table buffer."""
    return 4 * c.row_entries


def distance_bits(c: HardwareConfig) -> int:
    """A distance of the search."""
    return 32 + c.vector_length.bit_length() - 1 if c.l2_search else 17


def row_source_bits(c: HardwareConfig) -> int:
    """What a row comes from: table entries, or as many centroids."""
    return 8 * c.row_entries * (c.vector_length if c.rowgen else 1)


def table_bits(c: HardwareConfig) -> int:
    """A word of a table buffer: a row source, and at least a port word."""
    return max(c.port_bits, row_source_bits(c))


def row_bits(c: HardwareConfig) -> int:
    """Bits that count rows in half a table buffer."""
    return bits_for(c.table_words * c.port_bits // slot_bits(c))


def dot_bits(c: HardwareConfig) -> int:
    """A group's dot product in the multiplier array."""
    return max(15 + ALPHA_MAX, 8 + LOG2_BITS if c.log2_softmax else 0) + bits_for(c.group_max)


def mass_bits(c: HardwareConfig) -> int:
    """A group's sum of activations with their channel factors, or of log2 weights."""
    return max(8 + ALPHA_MAX, 2 + LOG2_BITS if c.log2_softmax else 0) + bits_for(c.group_max)


def vector_writers(c: HardwareConfig) -> int:
    """Engines that write the vector memory."""
    return (6 if c.simd else 3) + c.rotates


def aux_clients(c: HardwareConfig) -> int:
    """Clients of the aux port: queues of engines, GATHER beside LOAD, instruction fetch."""
    return 7 if c.simd else 5


def rotated_bits(c: HardwareConfig, *, delayed: bool) -> int:
    """Bits of all stages of the Hadamard engine within words, or between words (``delayed``)."""
    within = bits_for(c.word_elements)
    return sum(c.word_elements * (16 + LENGTH_BITS_MAX - bit) for bit in range(LENGTH_BITS_MAX)
               if (bit >= within) == delayed)
