"""Small circuits and packed LUT records (docs/architecture.md) for tests of the lookup engine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.config import HardwareConfig
from hw.isa import LINE_BYTES, LutMode

Ints = NDArray[np.int64]

MINI = HardwareConfig(
    name="mini", device="none", clock_mhz=50, port_bits=64, weight_ports=1, vector_length=2,
    lanes=16, chains=1, chain_length=8, l2_search=False, rowgen=True, row_bits=16, index_bits=8,
    sparse=False, simd=False, simd_depth=1, key_bits=8, value_bits=8,
    log2_softmax=False, hadamard=False,
    token_order=False, group_max=4, tokens_max=16, accumulator_words=64, sum_bits=32,
    vector_words=64, operand_words=256, table_words=128, index_blocks=8, activation_lanes=1,
    read_fifo_words=16,
)
TINY = dataclasses.replace(
    MINI, name="tiny", port_bits=128, weight_ports=2, lanes=32, tokens_max=8, table_words=64,
)
SHARED = dataclasses.replace(
    MINI, name="shared", port_bits=128, weight_ports=6, lanes=128, index_bits=4, tokens_max=8,
)
"""Two position lanes share a port that brings their rows and one in four words of indices."""
THREE = dataclasses.replace(MINI, name="three", lanes=64, index_bits=3)
"""Rows of 8 entries; a block's indices fill 3 words."""
SHARED_THREE = dataclasses.replace(SHARED, name="shared_three", index_bits=3)
WIDE = dataclasses.replace(
    MINI, name="wide", port_bits=128, weight_ports=4, lanes=64, rowgen=False, index_blocks=3,
)


@dataclass(frozen=True)
class Records:
    """Memory of all ports and the instruction fields that describe it."""

    memory: bytes
    fields: dict[str, int]


def fill(data: bytes, unit: int) -> bytes:
    """Zeros up to a multiple of ``unit`` bytes."""
    return data + bytes(-len(data) % unit)


def low_first(values: Ints, bits: int) -> bytes:
    """Pack small integers into bytes, the first into the lowest bits."""
    text = "".join(f"{int(value):0{bits}b}" for value in values[::-1])
    return int(text, 2).to_bytes(-(-len(text) // 8), "little")


def pack_records(
    config: HardwareConfig, mode: LutMode, rows: NDArray[np.integer], indices: Ints,
    group_columns: int, int4: bool = False, address: int = 0,
) -> Records:
    """Records of a layer.

    rows: uint8 [P, c_a, groups, c_w], or codebooks int8 [P, groups, c_w, v] for ROWGEN; indices:
    [P, M]; P is a multiple of the positions, M of the lanes. ``address`` counts lines.
    """
    positions, columns = indices.shape
    word = config.port_bytes
    blocks = columns // config.lanes
    if mode == LutMode.ROWGEN:
        groups, length = rows.shape[1], rows.shape[3]
        rows = rows.reshape(positions, 1, groups, -1, config.row_entries, length)
    else:
        rows = rows.reshape(*rows.shape[:3], -1, config.row_entries, 1)
    groups, slices = rows.shape[2:4]
    row_bytes = rows[0, 0, 0, 0].size // (2 if int4 else 1)
    rows_per_code = groups * slices
    bundle_words = 0
    if mode == LutMode.GATHER:
        bundle_words = -(-rows_per_code * row_bytes // word)
        rows_per_code = bundle_words * word // row_bytes
    index_high = 0 if slices == 1 else 1 if slices <= 4 else 2

    def record(position: int) -> tuple[bytes, bytes]:
        table = b""
        for code in rows[position]:
            values = code.reshape(-1)
            packed = low_first(values, 4) if int4 else values.astype(np.int8).tobytes()
            table += packed.ljust(rows_per_code * row_bytes, b"\0")
        index = fill(low_first(indices[position] % config.row_entries, config.index_low_bits), word)
        if index_high:
            bits = 2 * index_high
            index += fill(low_first(indices[position] >> 4, bits), word)
        return fill(table, word), index

    def shares(table: bytes, index: bytes) -> tuple[bytes, bytes]:
        """A lane's own port has the first words of each block, a shared one the last; the rows
        come with the kind that would have less without them, or else with the lanes' own.
        """
        block = config.lanes * config.index_low_bits // config.port_bits
        words = [index[start:start + word] for start in range(0, len(index), word)]
        last = block - block // 3
        own = b"".join(w for n, w in enumerate(words) if n % block < last)
        shared = b"".join(w for n, w in enumerate(words) if n % block >= last)
        return (own, table + shared) if last > 2 * (block - last) else (table + own, shared)

    ports = []
    if config.shared_ports:
        for lanes in [*([lane] for lane in range(config.positions)),
                      *([lane, lane + 1] for lane in range(0, config.positions, 2))]:
            region = b""
            for first in range(0, positions, config.positions):
                for lane in lanes:
                    table, index = record(first + lane)
                    region += shares(table, index)[len(lanes) - 1]
            ports.append(fill(region, LINE_BYTES))
        longest = max(len(region) for region in ports)
        ports = [region.ljust(longest, b"\0") for region in ports]
    for port in range(config.weight_ports if not config.shared_ports else 0):
        region = b""
        for first in range(0, positions, config.positions):
            for lane in range(config.positions_per_port):
                table, index = record(first + port * config.positions_per_port + lane)
                region += table + index
        ports.append(fill(region, LINE_BYTES))
    return Records(
        memory=bytes(address * LINE_BYTES) + b"".join(ports),
        fields={
            "address": address, "port_stride": len(ports[0]) // LINE_BYTES, "mode": mode,
            "int4": int(int4), "rounds": positions // config.positions, "blocks": blocks,
            "blocks_per_group": group_columns // config.lanes, "slices": slices,
            "rows_per_code": rows_per_code, "record_words": len(table + index) // word,
            "table_words": len(table) // word, "bundle_words": bundle_words,
            "index_high": index_high,
        },
    )
