"""Which instructions touch the same words, so that their order matters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from compiler.image.access import Access, Space
from hw.fixed import Ints
from hw.isa import Engine

Touches = tuple[Engine, Sequence[Access]]


def stored_lines(program: Sequence[Touches]) -> tuple[int, int]:
    """Range of memory lines that instructions write."""
    writes = [access for _, touched in program for access in touched
              if access.space == Space.MEMORY and access.write]
    return (min((access.start for access in writes), default=0),
            max((access.stop for access in writes), default=0))


def clipped(access: Access, first: int, last: int) -> Access | None:
    """A memory access within lines ``first..last-1``, counted from ``first``; None outside."""
    if access.stop <= first or access.start >= last:
        return None
    if access.start >= first and access.stop <= last:
        return dataclasses.replace(access, start=access.start - first)
    start, stop = max(access.start, first), min(access.stop, last)
    # Only reads cross the borders; taking the gaps between their rows along is safe.
    return Access(access.space, access.write, start - first, stop - start)


def conflicts(program: Sequence[Touches]) -> list[dict[Engine, int]]:
    """For every instruction the last earlier one of each other engine that it conflicts with.

    A read conflicts with writes of its words, a write with reads and writes. Instructions of one
    engine run in order, so that the last of each engine stands for all.
    """
    first, last = stored_lines(program)
    sizes = dict.fromkeys(Space, 0)
    for _, touched in program:
        for access in touched:
            sizes[access.space] = max(sizes[access.space], access.stop)
    sizes[Space.MEMORY] = last - first
    latest: dict[tuple[Space, bool], dict[Engine, Ints]] = {
        (space, write): {} for space in Space for write in (False, True)}
    result: list[dict[Engine, int]] = []
    for index, (engine, touched) in enumerate(program):
        follows: dict[Engine, int] = {}
        relevant = []
        for access in touched:
            inside = clipped(access, first, last) if access.space == Space.MEMORY else access
            if inside is not None:
                relevant.append(inside)
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
