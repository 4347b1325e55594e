"""Sizes and latencies of a circuit as the fast model's compiled functions take them."""

from __future__ import annotations

import numpy as np

from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.golden.activation import SEGMENTS
from hw.isa import INSTRUCTION_BITS, LINE_BYTES
from hw.units.activation_lane import TABLE_ENTRY
from hw.units.centroid_search import search_latency
from hw.units.header_line import header_words
from hw.units.lookup_layouts import generator_cycles, lane_cycles
from hw.units.lut_engine import SETTLE_CYCLES
from hw.units.simd_engine import DRAIN_CYCLES
from hw.units.softmax_sum import FAN_IN

(LINE_WORDS, FILLS, HANDED, HEADER, PORTS, RECORDS, CODES, SEARCH, LUT_DRAIN, LUT_RELEASE,
 SIMD_DRAIN, FACTOR_ENTRIES, LEVELS, PEAK_LEVELS, SUM_LEVELS, ACTIVATE_STEPS, TABLE_ENTRIES,
 TABLE_WORDS, WRITE_BEATS, WRITE_LATENCY, WRITE_OUTSTANDING, WRITE_RATE, WRITE_PERIOD,
 EXACT) = range(24)
MACHINE_FIELDS = 24


def machine(config: HardwareConfig) -> Ints:
    """Everything but the memory's fields (WRITE_*).

    EXACT: long instructions are worked out in full, not at the pace of their first parts.
    """
    values = {
        LINE_WORDS: LINE_BYTES // config.port_bytes,
        FILLS: max(1, INSTRUCTION_BITS // config.port_bits),
        HANDED: max(1, config.port_bits // INSTRUCTION_BITS),
        HEADER: header_words(config),
        PORTS: config.weight_ports,
        RECORDS: config.positions_per_port,
        CODES: config.act_codes_max,
        SEARCH: search_latency(config),
        # Sums of the last step leave a full chain of lanes later, and settle.
        LUT_DRAIN: config.positions + lane_cycles(config) + SETTLE_CYCLES + 1,
        # The last port's first lane reads a round's buffers so long after the step's issue.
        LUT_RELEASE: config.positions - config.positions_per_port + generator_cycles(config) + 2,
        SIMD_DRAIN: DRAIN_CYCLES + 2,
        FACTOR_ENTRIES: config.port_bits // (4 * config.chunks_per_word),
        LEVELS: (config.word_elements - 1).bit_length(),
        # Magnitude, the levels of the maximum, a shift between them.
        PEAK_LEVELS: (config.word_elements - 1).bit_length() + 2,
        SUM_LEVELS: 1 + _levels(config.word_elements, FAN_IN),
        ACTIVATE_STEPS: config.word_elements // config.activation_lanes,
        TABLE_ENTRIES: config.port_bits // TABLE_ENTRY.size,
        TABLE_WORDS: table_words(config),
    }
    result = np.zeros(MACHINE_FIELDS, np.int64)
    for field, value in values.items():
        result[field] = value
    return result


def table_words(config: HardwareConfig) -> int:
    """Port words of a function table's entries."""
    return SEGMENTS * int(TABLE_ENTRY.size) // config.port_bits


def _levels(values: int, fan_in: int) -> int:
    levels = 0
    while values > 1:
        values, levels = -(-values // fan_in), levels + 1
    return levels
