"""Lookup engine: unsigned sums of table rows copied to the output columns.

Rows come from two-dimensional tables (LUT-LLM) or are computed from a weight codebook. Both are
unsigned; the offset that makes them so is taken off by the dequantizer's ``zero``.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hw.fixed import Ints

ROW_OFFSET = 1 << 15
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
            index = indices[p, first:last]
            for m in range(len(index)):
                total, row_of = totals[m], rows[index[m]]
                for t in range(BLOCK_TOKENS):
                    total[t] += row_of[t]
        for t in range(tokens):
            for m in range(last - first):
                sums[start + t, first + m] = totals[m, t]


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


def rows(x: Ints, codebook: Ints) -> Ints:
    """Row of one position: ``codebook @ x`` made unsigned.

    x: int8 [v]; codebook: int8 [c_w, v]. Returns int32 [c_w], each within 0..65535.
    """
    return (codebook.astype(np.int32) @ x.astype(np.int32)) + ROW_OFFSET


@njit(cache=True)
def _rowgen_group(
    job: int, x: Ints, codebooks: Ints, indices: Ints, group_columns: int, sums: Ints
) -> None:
    columns = indices.shape[1]
    groups = (columns + group_columns - 1) // group_columns
    t, g = job // groups, job % groups
    first, last = g * group_columns, min((g + 1) * group_columns, columns)
    row = np.zeros(codebooks.shape[2], np.int32)
    for p in range(x.shape[1]):
        for w in range(len(row)):
            entry = np.int32(ROW_OFFSET)
            for i in range(x.shape[2]):
                entry += np.int32(codebooks[p, g, w, i]) * np.int32(x[t, p, i])
            row[w] = entry
        index = indices[p]
        for m in range(first, last):
            sums[t, m] += row[index[m]]


@njit(cache=True)
def _rowgen_sums(
    jobs: int, x: Ints, codebooks: Ints, indices: Ints, group_columns: int, sums: Ints
) -> None:
    for job in range(jobs):
        _rowgen_group(job, x, codebooks, indices, group_columns, sums)


@njit(cache=True, parallel=True)
def _rowgen_sums_parallel(
    jobs: int, x: Ints, codebooks: Ints, indices: Ints, group_columns: int, sums: Ints
) -> None:
    for job in prange(jobs):
        _rowgen_group(job, x, codebooks, indices, group_columns, sums)


def rowgen_sums(x: Ints, codebooks: Ints, indices: Ints, group_columns: int) -> Ints:
    """``sums[t, m] = sum_p rows(x[t, p], codebooks[p, m // G])[indices[p, m]]``.

    x: int8 [tokens, P, v]; codebooks: int8 [P, ceil(M / G), c_w, v]; indices: uint8 [P, M].
    Returns int32 [tokens, M].
    """
    sums = np.zeros((len(x), indices.shape[1]), np.int32)
    run = _rowgen_sums if sums.size * len(indices) < PARALLEL_WORK else _rowgen_sums_parallel
    run(len(x) * codebooks.shape[1], x, codebooks, indices, group_columns, sums)
    return sums
