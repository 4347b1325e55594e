"""How the lookup engine's tables, codebooks and indices lie in the memory image.

`docs/architecture.md` ("LUT records") is the definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compiler.image.layout import (
    Buffer,
    align,
    pack_bits,
    pad_axis,
    split_regions,
    unpack_bits,
)
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import LINE_BYTES, LutMode
from hw.port_shares import PortShare, port_shares
from hw.units.lookup_layouts import block_words

INDEX_HIGH_BITS = (0, 2, 4)
"""Bits of the high index plane by the instruction field ``index_high``."""


@dataclass(frozen=True, kw_only=True)
class RecordFormat:
    """Sizes of the records of one LUT instruction.

    groups: groups of columns within the instruction; codes: c_a (1 with ROWGEN); slices: parts of
    a row that fit the copy lanes; entry_bits: 8 or 4; high: the instruction field ``index_high``.
    """

    config: HardwareConfig
    mode: LutMode
    codes: int
    groups: int
    slices: int
    entry_bits: int
    blocks: int
    high: int

    @classmethod
    def of(cls, fields: Mapping[str, int], config: HardwareConfig) -> RecordFormat:
        """Format that the fields of a LUT instruction describe."""
        mode = LutMode(fields["mode"])
        entry_bits = 4 if fields["int4"] else 8
        if mode == LutMode.ROWGEN:
            codes = 1
        elif mode == LutMode.GATHER:
            codes = fields["table_words"] // max(1, fields["bundle_words"])
        else:
            code_bytes = fields["rows_per_code"] * config.row_entries * entry_bits // 8
            codes = fields["table_words"] * config.port_bytes // max(1, code_bytes)
        return cls(
            config=config, mode=mode, codes=codes, slices=fields["slices"],
            groups=-(-fields["blocks"] // max(1, fields["blocks_per_group"])),
            entry_bits=entry_bits, blocks=fields["blocks"], high=fields["index_high"],
        )

    @property
    def entries(self) -> int:
        """Entries of the rows of all slices."""
        return self.slices * self.config.row_entries

    @property
    def row_bytes(self) -> int:
        """Bytes of one row (ROWGEN: of one codebook slice)."""
        if self.mode == LutMode.ROWGEN:
            return self.config.codebook_bytes
        return self.config.row_entries * self.entry_bits // 8

    @property
    def bundle_words(self) -> int:
        """Words of one code's rows (GATHER), else 0."""
        if self.mode != LutMode.GATHER:
            return 0
        rows = self.groups * self.slices * self.row_bytes
        return align(rows, self.config.port_bytes) // self.config.port_bytes

    @property
    def rows_per_code(self) -> int:
        """Rows from one code to the next."""
        if self.mode == LutMode.GATHER:
            return self.bundle_words * self.config.port_bytes // self.row_bytes
        return self.groups * self.slices

    @property
    def table_words(self) -> int:
        """Words of the table part of a record."""
        if self.mode == LutMode.GATHER:
            return self.codes * self.bundle_words
        size = self.codes * self.groups * self.slices * self.row_bytes
        return align(size, self.config.port_bytes) // self.config.port_bytes

    @property
    def columns(self) -> int:
        """Columns of the indices, filled up to whole blocks."""
        return self.blocks * self.config.lanes

    @property
    def plane_words(self) -> tuple[int, int]:
        """Words of the low and of the high index plane."""
        port_bits = self.config.port_bits
        high = align(self.columns * INDEX_HIGH_BITS[self.high], port_bits) // port_bits
        return self.columns * self.config.index_low_bits // port_bits, high

    @property
    def record_words(self) -> int:
        """Words of a record."""
        return self.table_words + sum(self.plane_words)

    @property
    def port_words(self) -> list[int]:
        """Words of a round in each weight port's region."""
        table, high = self.table_words, self.plane_words[1]
        return [share.lanes * share.record_words(table, self.blocks, high)
                for share in port_shares(self.config)]

    @property
    def round_words(self) -> int:
        """Most words of a round in a weight port's region; the ports of a kind are alike."""
        shares, table, high = port_shares(self.config), self.table_words, self.plane_words[1]
        return max(share.lanes * share.record_words(table, self.blocks, high)
                   for share in (shares[0], shares[-1]))

    def port_stride(self, rounds: int) -> int:
        """Lines from one port's region to the next."""
        words = rounds * self.round_words
        return align(words * self.config.port_bytes, LINE_BYTES) // LINE_BYTES

    def words_of(self, share: PortShare) -> Ints:
        """Words of a record that come through a port, in order."""
        step = block_words(self.config)
        low = [self.table_words + block * step + part
               for block in range(self.blocks) for part in share.parts]
        table = range(self.table_words if share.table else 0)
        high = range(self.table_words + self.blocks * step, self.record_words)
        return np.array([*table, *low, *high])


def pack_records(form: RecordFormat, tables: Ints, indices: Ints) -> bytes:
    """Regions of all weight ports, one after the other.

    tables: uint8 [P, c_a, groups, entries] or, with ROWGEN, codebooks int8 [P, groups, entries, v];
    indices: uint8 [P, columns]. P is a multiple of the hardware's positions; entries and columns
    are filled up here.
    """
    config = form.config
    positions, port_bytes = len(indices), config.port_bytes
    entries = form.entries
    rows: Ints
    if form.mode == LutMode.ROWGEN:
        full = pad_axis(pad_axis(tables, 1, form.groups), 2, entries)
        rows = full.view(np.uint8).reshape(positions, -1)
    else:
        full = pad_axis(pad_axis(tables, 2, form.groups), 3, entries)
        rows = pack_bits(full, form.entry_bits).reshape(positions, form.codes, -1)
        if form.mode == LutMode.GATHER:
            rows = pad_axis(rows, 2, form.bundle_words * port_bytes)
        rows = rows.reshape(positions, -1)
    high_words = form.plane_words[1]
    wide = pad_axis(indices, 1, form.columns)
    low = pack_bits(wide % config.row_entries, config.index_low_bits)
    parts = [pad_axis(rows, 1, form.table_words * port_bytes), low]
    if high_words:
        high = pack_bits(wide >> config.index_low_bits, INDEX_HIGH_BITS[form.high])
        parts.append(pad_axis(high, 1, high_words * port_bytes))
    records = np.concatenate(parts, axis=1)
    assert records.shape[1] == form.record_words * port_bytes
    rounds = positions // config.positions
    by_round = records.reshape(rounds, config.positions, form.record_words, port_bytes)
    stride = form.port_stride(rounds) * LINE_BYTES
    regions = np.zeros((config.weight_ports, stride), np.uint8)
    for region, share in zip(regions, port_shares(config), strict=True):
        lanes = by_round[:, share.first_lane:share.first_lane + share.lanes]
        words = lanes if not config.shared_ports else lanes[:, :, form.words_of(share)]
        region[:words.size] = words.reshape(-1)
    return regions.tobytes()


def unpack_records(
    form: RecordFormat, data: Buffer, rounds: int, port_stride: int
) -> tuple[Ints, Ints]:
    """Tables (or codebooks) and indices as `pack_records` takes them, filled up.

    port_stride: lines from one port's region to the next; the last one may end early.
    """
    config = form.config
    by_round = np.zeros((rounds, config.positions, form.record_words, config.port_bytes), np.uint8)
    sizes = [rounds * words * config.port_bytes for words in form.port_words]
    regions = split_regions(data, len(sizes), port_stride, max(sizes))
    for region, share, size in zip(regions, port_shares(config), sizes, strict=True):
        words = region[:size].reshape(rounds, share.lanes, -1, config.port_bytes)
        lanes = slice(share.first_lane, share.first_lane + share.lanes)
        if not config.shared_ports:
            by_round[:, lanes] = words
        else:
            by_round[:, lanes, form.words_of(share)] = words
    records = by_round.reshape(rounds * config.positions, -1)
    positions = len(records)
    table = records[:, :form.table_words * config.port_bytes]
    entries = form.entries
    if form.mode == LutMode.ROWGEN:
        size = form.groups * form.slices * form.row_bytes
        books = np.ascontiguousarray(table[:, :size]).view(np.int8)
        tables = books.reshape(positions, form.groups, entries, config.vector_length)
    else:
        code_bytes = form.rows_per_code * form.row_bytes
        codes = np.ascontiguousarray(table[:, :form.codes * code_bytes])
        used_rows = form.groups * form.slices * form.row_bytes
        rows = codes.reshape(positions, form.codes, code_bytes)[:, :, :used_rows]
        values = unpack_bits(np.ascontiguousarray(rows), form.entry_bits)
        tables = values.reshape(positions, form.codes, form.groups, entries)
    low_bytes, high_bytes = (words * config.port_bytes for words in form.plane_words)
    planes = records[:, form.table_words * config.port_bytes:]
    indices = unpack_bits(np.ascontiguousarray(planes[:, :low_bytes]), config.index_low_bits)
    if high_bytes:
        high = unpack_bits(np.ascontiguousarray(planes[:, low_bytes:]), INDEX_HIGH_BITS[form.high])
        indices = indices | (high[:, :form.columns] << config.index_low_bits)
    return tables, indices
