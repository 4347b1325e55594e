"""Which instructions touch the same words, so that their order matters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.image.access import Access, Space
from hw.fixed import Ints
from hw.isa import Engine

Touches = tuple[Engine, Sequence[Access]]
GAP_LINES = 1 << 12
"""Lines between writes that are kept track of with them."""


@dataclass(frozen=True)
class Segment:
    """Memory lines ``first..last-1`` that instructions write in; ``base`` numbers the first."""

    first: int
    last: int
    base: int


def stored_segments(program: Sequence[Touches]) -> list[Segment]:
    """Where instructions write memory, in order; small gaps are taken along."""
    spans = sorted((access.start, access.stop) for _, touched in program for access in touched
                   if access.space == Space.MEMORY and access.write)
    merged: list[tuple[int, int]] = []
    for first, last in spans:
        if merged and first - merged[-1][1] <= GAP_LINES:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    result, base = [], 0
    for first, last in merged:
        result.append(Segment(first, last, base))
        base += last - first
    return result


def within(access: Access, segments: Sequence[Segment]) -> list[Access]:
    """The parts of a memory access in the segments, in lines as the segments number them."""
    result = []
    for segment in segments:
        first, last, base = segment.first, segment.last, segment.base
        if access.stop <= first or access.start >= last:
            continue
        if access.start >= first and access.stop <= last:
            result.append(dataclasses.replace(access, start=access.start - first + base))
            continue
        start, stop = max(access.start, first), min(access.stop, last)
        # Only reads cross the borders; taking the gaps between their rows along is safe.
        result.append(Access(access.space, access.write, start - first + base, stop - start))
    return result


def conflicts(program: Sequence[Touches]) -> list[dict[Engine, int]]:
    """For every instruction the last earlier one of each other engine that it conflicts with.

    A read conflicts with writes of its words, a write with reads and writes. Instructions of one
    engine run in order, so that the last of each engine stands for all.
    """
    segments = stored_segments(program)
    sizes = dict.fromkeys(Space, 0)
    for _, touched in program:
        for access in touched:
            sizes[access.space] = max(sizes[access.space], access.stop)
    sizes[Space.MEMORY] = segments[-1].base + segments[-1].last - segments[-1].first if (
        segments) else 0
    latest: dict[tuple[Space, bool], dict[Engine, Ints]] = {
        (space, write): {} for space in Space for write in (False, True)}
    result: list[dict[Engine, int]] = []
    for index, (engine, touched) in enumerate(program):
        follows: dict[Engine, int] = {}
        relevant: list[Access] = []
        for access in touched:
            relevant += within(access, segments) if access.space == Space.MEMORY else [access]
        for access in relevant:
            for write in (True, False) if access.write else (True,):
                for other, indices in latest[access.space, write].items():
                    if other != engine:
                        found = int(access.view(indices).max())
                        if found > follows.get(other, -1):
                            follows[other] = found
        for access in relevant:
            known = latest[access.space, access.write]
            if engine not in known:
                known[engine] = np.full(sizes[access.space], -1, np.int64)
            access.view(known[engine])[...] = index
        result.append(follows)
    return result
