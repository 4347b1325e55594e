"""Which instructions touch the same words, so that their order matters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.image.program import Access, Space
from hw.fixed import Ints
from hw.isa import Engine

Touches = tuple[Engine, Sequence[Access]]


def stored_lines(program: Sequence[Touches]) -> tuple[int, int]:
    """Range of memory lines that instructions write."""
    writes = [access for _, touched in program for access in touched
              if access.space == Space.MEMORY and access.write]
    return (min((access.start for access in writes), default=0),
            max((access.stop for access in writes), default=0))


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
    latest: dict[tuple[Space, bool, Engine], Ints] = {}
    result: list[dict[Engine, int]] = []
    for index, (engine, touched) in enumerate(program):
        follows: dict[Engine, int] = {}
        relevant = [
            (access, access.words()) for access in touched
            if access.space != Space.MEMORY or (access.start < last and access.stop > first)
        ]
        for access, words in relevant:
            for (space, write, other), indices in latest.items():
                if space != access.space or other == engine or not (write or access.write):
                    continue
                found = int(indices[words].max())
                if found > follows.get(other, -1):
                    follows[other] = found
        for access, words in relevant:
            key = access.space, access.write, engine
            if key not in latest:
                latest[key] = np.full(sizes[access.space], -1, np.int64)
            latest[key][words] = index
        result.append(follows)
    return result
