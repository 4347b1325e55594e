"""Proof that no sum that a program drains can leave the accumulator's bits.

Sums wrap around in the accumulator, and again where the dequantizer adds a column's zero. So only
the end counts: the true sum, less its zero, must fit; what lies between need not.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from compiler.errors import VerifyError
from compiler.image.access import ACCUMULATOR_BANKS, Fields, row_count
from compiler.image.layout import DrainParameters
from hw.config import HardwareConfig
from hw.fixed import Ints

Ranges = tuple[Ints, Ints]
"""Least and largest sums: int64 [columns], or [1] for all columns."""


class SumCheck:
    """Ranges of the sums in all accumulator words, column by column.

    A word holds the number of its columns' ranges; those of equal instructions are the same.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.words = np.zeros((ACCUMULATOR_BANKS, config.accumulator_words), np.int64)
        nothing = np.zeros(1, np.int64)
        self.ranges: list[Ranges] = [(nothing, nothing)]
        self.numbers: dict[Hashable, int] = {}
        self.drained: set[Hashable] = set()

    def add(self, key: Hashable, ranges: Ranges, fields: Fields) -> None:
        """LUT or SIMD; equal keys have equal ranges of all their column blocks."""
        blocks, tokens = fields["blocks"], fields["tokens"]
        if key not in self.numbers:
            self.numbers[key] = len(self.ranges)
            width = min(len(ranges[0]), self.config.lanes)
            low, high = (np.broadcast_to(one.reshape(-1, width), (blocks, width))
                         for one in ranges)
            self.ranges += zip(low, high, strict=True)
        first = fields["accumulator"]
        bank = self.words[fields["bank"]][first:first + tokens * blocks]
        made = np.tile(self.numbers[key] + np.arange(blocks), tokens)
        if not fields["first"]:
            pairs, place = np.unique(np.stack([bank, made]), axis=1, return_inverse=True)
            made = np.array([self.total(int(a), int(b)) for a, b in pairs.T])[place.reshape(-1)]
        bank[:] = made

    def total(self, one: int, other: int) -> int:
        """Number of the sums of two ranges."""
        key = "total", one, other
        if key not in self.numbers:
            self.numbers[key] = len(self.ranges)
            (low, high), (low2, high2) = self.ranges[one], self.ranges[other]
            self.ranges.append((low + low2, high + high2))
        return self.numbers[key]

    def drain(
        self, where: str, key: Hashable, parameters: DrainParameters, fields: Fields
    ) -> None:
        """DRAIN; equal keys have equal parameters. Raises VerifyError where a sum may not fit."""
        first, blocks = fields["accumulator"], fields["blocks"]
        lanes, before = self.config.lanes, fields.get("begin", 0) * self.config.word_elements
        words = self.words[fields["bank"]][first:first + row_count(fields) * blocks]
        rows = words.reshape(-1, blocks)
        rows = rows[:1] if (rows == rows[0]).all() else np.unique(rows, axis=0)
        for row in rows:
            if (key, before, row.tobytes()) not in self.drained:
                for block, number in enumerate(row):
                    start = max(0, block * lanes - before)
                    columns = slice(start, (block + 1) * lanes - before)
                    skipped = start + before - block * lanes
                    ranges = self.ranges[number]
                    if len(ranges[0]) > 1:
                        ranges = ranges[0][skipped:], ranges[1][skipped:]
                    self.check(where, ranges, parameters.zero[columns],
                               parameters.multiplier[columns])
                self.drained.add((key, before, row.tobytes()))

    def check(self, where: str, ranges: Ranges, zero: Ints, multiplier: Ints) -> None:
        """The sums of one block; a column with multiplier 0 is 0 whatever its sum."""
        low, high = (np.broadcast_to(one[:len(zero)], zero.shape) + zero.astype(np.int64)
                     for one in ranges)
        most = self.config.sum_max
        wrong = (multiplier != 0) & ((low < -most - 1) | (high > most))
        if wrong.any():
            reach = int(np.maximum(np.abs(low), np.abs(high))[wrong].max())
            raise VerifyError(f"{where}: sums reach {reach}, more than the "
                              f"{self.config.sum_bits}-bit accumulator holds")
