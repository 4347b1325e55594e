"""Lookup engine: unsigned sums of table rows copied to the output columns.

Rows come from two-dimensional tables (LUT-LLM) or are computed from a weight codebook. Both are
unsigned; the offset that makes them so is taken off by the dequantizer's ``zero``. Computed entries
may be rounded to fewer bits than the dot products have, as the entries of stored tables are.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hw.config import EXACT_ROW_BITS
from hw.fixed import Ints, round_shift

ROW_OFFSET = 1 << (EXACT_ROW_BITS - 1)
"""Added to a computed row entry (a signed 16-bit dot product) so that it is unsigned."""


PARALLEL_WORK = 1 << 16
"""Additions above which threads pay for their start."""
BLOCK_TOKENS = 64
"""Tokens whose rows lie beside each other, so that one index adds to all of their sums."""


@njit(cache=True)
def _table_group(
    job: int, codes: Ints, tables: Ints, indices: Ints, group_columns: int, sums: Ints
) -> None:
    columns = indices.shape[1]
    groups = (columns + group_columns - 1) // group_columns
    t, g = job // groups, job % groups
    first, last = g * group_columns, min((g + 1) * group_columns, columns)
    for p in range(codes.shape[1]):
        row = tables[p, codes[t, p], g]
        index = indices[p]
        for m in range(first, last):
            sums[t, m] += row[index[m]]


@njit(cache=True)
def _table_sums(
    jobs: int, codes: Ints, tables: Ints, indices: Ints, group_columns: int, sums: Ints
) -> None:
    for job in range(jobs):
        _table_group(job, codes, tables, indices, group_columns, sums)


@njit(cache=True, parallel=True)
def _table_sums_parallel(
    jobs: int, codes: Ints, tables: Ints, indices: Ints, group_columns: int, sums: Ints
) -> None:
    for job in prange(jobs):
        _table_group(job, codes, tables, indices, group_columns, sums)


@njit(cache=True)
def _add_rows(index: Ints, block: Ints, totals: Ints) -> None:
    """Entries of a position's rows [c_w, `BLOCK_TOKENS`] to totals [columns, `BLOCK_TOKENS`]."""
    for m in range(len(index)):
        total, row_of = totals[m], block[index[m]]
        for t in range(BLOCK_TOKENS):
            total[t] += row_of[t]


@njit(cache=True, parallel=True)
def _table_blocks_parallel(
    jobs: int, codes: Ints, tables: Ints, indices: Ints, group_columns: int, sums: Ints
) -> None:
    columns, groups = indices.shape[1], tables.shape[2]
    for job in prange(jobs):
        start, g = job // groups * BLOCK_TOKENS, job % groups
        tokens = min(BLOCK_TOKENS, len(codes) - start)
        first, last = g * group_columns, min((g + 1) * group_columns, columns)
        rows = np.zeros((tables.shape[3], BLOCK_TOKENS), np.int32)
        totals = np.zeros((last - first, BLOCK_TOKENS), np.int32)
        for p in range(codes.shape[1]):
            for t in range(tokens):
                row = tables[p, codes[start + t, p], g]
                for w in range(len(row)):
                    rows[w, t] = row[w]
            _add_rows(indices[p, first:last], rows, totals)
        sums[start:start + tokens, first:last] = totals[:, :tokens].T


def table_sums(codes: Ints, tables: Ints, indices: Ints, group_columns: int) -> Ints:
    """``sums[t, m] = sum_p tables[p, codes[t, p], m // G, indices[p, m]]``.

    codes: uint8 [tokens, P]; tables: uint8 [P, c_a, ceil(M / G), c_w]; indices: uint8 [P, M];
    group_columns: G. Returns int32 [tokens, M].
    """
    sums = np.zeros((len(codes), indices.shape[1]), np.int32)
    if len(codes) >= BLOCK_TOKENS // 2 and sums.size * len(indices) >= PARALLEL_WORK:
        blocks = -(-len(codes) // BLOCK_TOKENS)
        _table_blocks_parallel(blocks * tables.shape[2], codes, tables, indices, group_columns,
                               sums)
        return sums
    run = _table_sums if sums.size * len(indices) < PARALLEL_WORK else _table_sums_parallel
    run(len(codes) * tables.shape[2], codes, tables, indices, group_columns, sums)
    return sums


def row_offset(row_bits: int) -> int:
    """Added to a computed row entry of ``row_bits`` signed bits so that it is unsigned."""
    return 1 << (row_bits - 1)


def rows(
    x: Ints, codebook: Ints, row_bits: int = EXACT_ROW_BITS, row_shift: int = 0
) -> Ints:
    """Row of one position: ``codebook @ x``, rounded, saturated and made unsigned.

    x: int8 [v]; codebook: int8 [c_w, v]; row_shift: 0..16 - row_bits. Returns int32 [c_w], each
    within 0..2**row_bits - 1 (with 16 bits, where the dot products fit them).
    """
    dots = codebook.astype(np.int32) @ x.astype(np.int32)
    if row_bits == EXACT_ROW_BITS:
        return dots + ROW_OFFSET
    offset = row_offset(row_bits)
    return np.clip(round_shift(dots, row_shift), -offset, offset - 1) + offset


@njit(cache=True)
def _row(x: Ints, codebook: Ints, row_bits: int, row_shift: int, row: Ints) -> None:
    """`rows` of x [v] and codebook [c_w, v] into ``row`` [c_w]."""
    offset, half = 1 << (row_bits - 1), (1 << row_shift) >> 1
    exact = row_bits == EXACT_ROW_BITS
    for w in range(len(row)):
        entry = 0
        for i in range(len(x)):
            entry += int(codebook[w, i]) * int(x[i])
        if not exact:
            entry = min(max((entry + half) >> row_shift, -offset), offset - 1)
        row[w] = entry + offset


@njit(cache=True)
def _rowgen_group(
    job: int, x: Ints, codebooks: Ints, indices: Ints, group_columns: int, row_bits: int,
    row_shift: int, sums: Ints,
) -> None:
    columns = indices.shape[1]
    groups = (columns + group_columns - 1) // group_columns
    t, g = job // groups, job % groups
    first, last = g * group_columns, min((g + 1) * group_columns, columns)
    row = np.zeros(codebooks.shape[2], np.int32)
    for p in range(x.shape[1]):
        _row(x[t, p], codebooks[p, g], row_bits, row_shift, row)
        index = indices[p]
        for m in range(first, last):
            sums[t, m] += row[index[m]]


@njit(cache=True)
def _rowgen_sums(
    jobs: int, x: Ints, codebooks: Ints, indices: Ints, group_columns: int, row_bits: int,
    row_shift: int, sums: Ints,
) -> None:
    for job in range(jobs):
        _rowgen_group(job, x, codebooks, indices, group_columns, row_bits, row_shift, sums)


@njit(cache=True, parallel=True)
def _rowgen_sums_parallel(
    jobs: int, x: Ints, codebooks: Ints, indices: Ints, group_columns: int, row_bits: int,
    row_shift: int, sums: Ints,
) -> None:
    for job in prange(jobs):
        _rowgen_group(job, x, codebooks, indices, group_columns, row_bits, row_shift, sums)


@njit(cache=True, parallel=True)
def _rowgen_blocks_parallel(
    jobs: int, x: Ints, codebooks: Ints, indices: Ints, group_columns: int, row_bits: int,
    row_shift: int, sums: Ints,
) -> None:
    columns = indices.shape[1]
    groups = (columns + group_columns - 1) // group_columns
    for job in prange(jobs):
        start, g = job // groups * BLOCK_TOKENS, job % groups
        tokens = min(BLOCK_TOKENS, len(x) - start)
        first, last = g * group_columns, min((g + 1) * group_columns, columns)
        row = np.zeros(codebooks.shape[2], np.int32)
        block = np.zeros((len(row), BLOCK_TOKENS), np.int32)
        totals = np.zeros((last - first, BLOCK_TOKENS), np.int32)
        for p in range(x.shape[1]):
            for t in range(tokens):
                _row(x[start + t, p], codebooks[p, g], row_bits, row_shift, row)
                for w in range(len(row)):
                    block[w, t] = row[w]
            _add_rows(indices[p, first:last], block, totals)
        sums[start:start + tokens, first:last] = totals[:, :tokens].T


def rowgen_sums(
    x: Ints, codebooks: Ints, indices: Ints, group_columns: int,
    row_bits: int = EXACT_ROW_BITS, row_shift: int = 0,
) -> Ints:
    """``sums[t, m] = sum_p rows(x[t, p], codebooks[p, m // G], ...)[indices[p, m]]``.

    x: int8 [tokens, P, v]; codebooks: int8 [P, ceil(M / G), c_w, v]; indices: uint8 [P, M];
    row_bits, row_shift: as for `rows`. Returns int32 [tokens, M].
    """
    sums = np.zeros((len(x), indices.shape[1]), np.int32)
    groups = -(-indices.shape[1] // group_columns)
    if len(x) >= BLOCK_TOKENS // 2 and sums.size * len(indices) >= PARALLEL_WORK:
        blocks = -(-len(x) // BLOCK_TOKENS)
        _rowgen_blocks_parallel(blocks * groups, x, codebooks, indices, group_columns, row_bits,
                                row_shift, sums)
        return sums
    run = _rowgen_sums if sums.size * len(indices) < PARALLEL_WORK else _rowgen_sums_parallel
    run(len(x) * groups, x, codebooks, indices, group_columns, row_bits, row_shift, sums)
    return sums
