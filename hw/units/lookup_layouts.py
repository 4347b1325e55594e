"""Sizes and payloads that the parts of the lookup engine share."""

from __future__ import annotations

from amaranth.lib import data

from hw.config import HardwareConfig, bits_for
from hw.errors import ConfigError
from hw.isa import FIELDS, Opcode

ENTRY_BITS = 8
"""Bits of a table entry in a row; 4-bit entries are stored packed and widened when read."""
SLICE_BITS = 4
"""Bits of an index that choose the slice, above those that choose within a row."""
SIMD_WORD_BITS = 48
"""Width of the adders that the fields of several columns share (one DSP48 or DSP58 adder)."""


def simd_field_bits(config: HardwareConfig) -> int:
    """Bits of a column's partial sum: 4 fields of 12 or 2 of 24 fill a 48-bit adder.

    Raises ConfigError when the sum of all positions could carry into the next field.
    """
    field = SIMD_WORD_BITS // config.adder_columns
    if config.positions * ((1 << config.entry_bits) - 1) >= 1 << field:
        raise ConfigError(
            f"sums of {config.positions} positions do not fit the {field}-bit fields of the "
            "lookup engine: use a longer vector_length or a narrower port_bits"
        )
    return field


def slot_bits(config: HardwareConfig) -> int:
    """A row of 4-bit entries; rows of the other kinds take 2 slots or more."""
    return config.row_entries * ENTRY_BITS // 2


def row_source_bits(config: HardwareConfig) -> int:
    """Widest thing that one row comes from: table entries, or as many centroids of v int8."""
    return config.row_entries * ENTRY_BITS * (config.vector_length if config.rowgen else 1)


def table_width(config: HardwareConfig) -> int:
    """Bits of a table buffer word: a whole row source, and at least a port word.

    Raises ConfigError when half a buffer holds less than one such word.
    """
    width = max(config.port_bits, row_source_bits(config))
    if config.table_words * config.port_bits < width:
        raise ConfigError(
            f"table_words must be at least {width // config.port_bits} (one row), "
            f"not {config.table_words}"
        )
    return width


def slots(config: HardwareConfig) -> int:
    """Slots of a table buffer word; a slot holds a row of 4-bit entries, the smallest row."""
    return table_width(config) // slot_bits(config)


def row_bits(config: HardwareConfig) -> int:
    """Bits that count the slots in half a table buffer, and so its rows of any kind."""
    return bits_for(config.table_words * config.port_bits // slot_bits(config))


def block_words(config: HardwareConfig) -> int:
    """Port words that hold the low index bits of one column block."""
    return config.lanes * config.index_low_bits // config.port_bits


def block_bits(config: HardwareConfig) -> int:
    """Bits of a block number in half an index buffer."""
    return bits_for(config.index_blocks)


def quarter_words(config: HardwareConfig) -> int:
    """Port words of rows that fill at most half of a half; 0 where a half is no whole words."""
    return config.table_words // 2 if config.table_words * config.port_bits >= 2 * table_width(
        config) else 0


def quarter_blocks(config: HardwareConfig) -> int:
    """Column blocks whose indices fill at most half of a half; 0 where 2-bit ones would not."""
    return 1 << block_bits(config) >> 1 if block_bits(config) > 1 else 0


def generator_cycles(config: HardwareConfig) -> int:
    """Cycles that the row generator puts between row extract and copy."""
    return 2 + config.rounds_rows if config.rowgen else 0


def lane_cycles(config: HardwareConfig) -> int:
    """Cycles from a step at a position lane to its partial sums."""
    return 5 + generator_cycles(config)


def setup_layout(config: HardwareConfig) -> data.StructLayout:
    """What lanes must know about an instruction; stable while it runs.

    computed: rows come from codebooks. int4: table entries have 4 bits. rows_per_code: rows
    between two codes, 0 when the operand chooses no row. index_high, row_shift: as in the
    instruction.
    """
    rounding = {"row_shift": FIELDS[Opcode.LUT]["row_shift"]} if config.rounds_rows else {}
    return data.StructLayout(
        {"computed": 1, "int4": 1, "rows_per_code": 12, "index_high": 2} | rounding)


def step_layout(config: HardwareConfig) -> data.StructLayout:
    """One step of a position lane: add ``lanes`` entries of one row.

    valid: there is a step. read: the row is a new one. half: buffer half of the round. row: row
    number for code 0. upper: of the round, in the upper part of the half, as ``block`` says too.
    block: column block. slice: the index bits above the low ones to match.
    """
    return data.StructLayout({
        "valid": 1, "read": 1, "half": 1, "upper": 1,
        "row": row_bits(config), "block": block_bits(config), "slice": SLICE_BITS,
    })


def write_layout(config: HardwareConfig) -> data.StructLayout:
    """A port word for one of a lane's buffers: rows, low or high index bits.

    address: of a word of rows, or of a column block of indices, whose word is ``part``.
    """
    return data.StructLayout({
        "table": 1, "low": 1, "high": 1, "half": 1,
        "address": bits_for(max(config.table_words, 1 << block_bits(config))),
        "part": bits_for(block_words(config)), "data": config.port_bits,
    })


def record_layout() -> data.StructLayout:
    """Port words in each part of a record as it is read, and the instruction's rounds.

    quartered: records fill at most half of a buffer's half, so that four of them have room.
    packed: high bits take half as many words as low ones.
    Stable while an instruction runs.
    """
    return data.StructLayout({
        "table_words": 16, "low_words": 16, "high_words": 16, "rounds": 12,
        "quartered": 1, "packed": 1,
    })
