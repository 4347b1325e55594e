"""Wait and post masks of a program, as `compiler.lower.tokens` assigns them, on arrays.

A test holds both to each other. Only instructions that are not known to be complete are looked at,
the latest first.
"""

from __future__ import annotations

import numpy as np

from compiler.image.access import Space
from compiler.image.hazards import GAP_LINES
from hw.fixed import Ints
from sim.estimate.jit import compiled
from sim.estimate.packed import (
    ACCESS_FIELDS,
    COUNT,
    OUTER,
    OUTER_STRIDE,
    PLACE,
    ROWS,
    SPACE,
    START,
    STRIDE,
    WRITE,
)
from sim.estimate.state import ENGINES

MEMORY = int(Space.MEMORY)
SPACES = len(Space)


@compiled
def stop_of(access: Ints) -> int:
    """Word behind the last one of an access."""
    last = (access[OUTER] - 1) * access[OUTER_STRIDE] + (access[ROWS] - 1) * access[STRIDE]
    return int(access[START] + last + access[COUNT])


@compiled
def run_touches(first: int, last: int, other: Ints) -> bool:
    """Whether an access touches words ``first..last-1``."""
    inner = (other[ROWS] - 1) * other[STRIDE] + other[COUNT]
    low, high = 0, 0
    if other[OUTER] > 1:
        low = max(0, (first - inner - other[START]) // other[OUTER_STRIDE] + 1)
        high = min(other[OUTER] - 1, (last - 1 - other[START]) // other[OUTER_STRIDE])
    for outer in range(low, high + 1):
        base = other[START] + outer * other[OUTER_STRIDE]
        least, most = 0, 0
        if other[ROWS] > 1:
            least = max(0, (first - other[COUNT] - base) // other[STRIDE] + 1)
            most = min(other[ROWS] - 1, (last - 1 - base) // other[STRIDE])
        elif base >= last or base + other[COUNT] <= first:
            continue
        if least <= most:
            return True
    return False


@compiled
def touch(one: Ints, other: Ints) -> bool:
    """Whether two accesses share a word."""
    if one[START] >= stop_of(other) or other[START] >= stop_of(one):
        return False
    if one[OUTER] * one[ROWS] > other[OUTER] * other[ROWS]:
        one, other = other, one
    for outer in range(one[OUTER]):
        for row in range(one[ROWS]):
            first = one[START] + outer * one[OUTER_STRIDE] + row * one[STRIDE]
            if run_touches(first, first + one[COUNT], other):
                return True
    return False


@compiled
def stored(found: Ints, segments: Ints) -> int:
    """Where a program writes memory, small gaps taken along; returns the number of segments.

    found: its accesses. segments: first and end lines, in order.
    """
    count = 0
    for number in range(len(found)):
        access = found[number]
        if access[SPACE] != MEMORY or access[WRITE] == 0:
            continue
        first, last, at = access[START], stop_of(access), count
        while at > 0 and segments[at - 1, 0] > first:
            segments[at, 0], segments[at, 1] = segments[at - 1, 0], segments[at - 1, 1]
            at -= 1
        segments[at, 0], segments[at, 1] = first, last
        count += 1
    merged = 0
    for at in range(count):
        first, last = segments[at, 0], segments[at, 1]
        if merged and first - segments[merged - 1, 1] <= GAP_LINES:
            segments[merged - 1, 1] = max(segments[merged - 1, 1], last)
        else:
            segments[merged, 0], segments[merged, 1] = first, last
            merged += 1
    return merged


@compiled
def within(access: Ints, segments: Ints, count: int) -> bool:
    """Whether a memory access has lines in the segments; one that crosses a border is filled up."""
    first, last = access[START], stop_of(access)
    for at in range(count):
        if last <= segments[at, 0]:
            return False
        if first >= segments[at, 1]:
            continue
        if first < segments[at, 0] or last > segments[at, 1]:
            access[COUNT], access[ROWS], access[OUTER] = last - first, 1, 1
        return True
    return False


@compiled
def assign(
    engines: Ints, shapes: Ints, places: Ints, begins: Ints, templates: Ints, found: Ints,
    before: Ints, owners: Ints, heads: Ints, segments: Ints, known: Ints, waits: Ints, posts: Ints,
) -> None:
    """Fill ``waits`` and ``posts`` of the instructions.

    engines, shapes, places: of the instructions. begins, templates: accesses by shape. The others
    are room for what is kept: found: accesses; before: the one before of the same engine and kind;
    owners: their instructions; heads: the last ones; known: for every instruction the last one of
    each engine that is complete when it is.
    """
    total = 0
    for index in range(len(engines)):
        for number in range(begins[shapes[index]], begins[shapes[index] + 1]):
            for column in range(ACCESS_FIELDS):
                found[total, column] = templates[number, column]
            found[total, START] += places[index, templates[number, PLACE]]
            owners[total] = index
            total += 1
    count = stored(found[:total], segments)
    latest, last = heads[SPACES, 0], heads[SPACES, 1]
    at = 0
    for index in range(len(engines)):
        engine = engines[index]
        complete = known[index]
        for other in range(ENGINES):
            complete[other] = -1 if last[engine] < 0 else known[last[engine], other]
            latest[other] = -1
        first = at
        while at < total and owners[at] == index:
            access = found[at]
            if access[SPACE] == MEMORY and not within(access, segments, count):
                access[SPACE] = -1
            if access[SPACE] >= 0:
                for write in range(1 - access[WRITE], 2):
                    for other in range(ENGINES):
                        if other == engine:
                            continue
                        number = heads[access[SPACE], write, other]
                        least = max(complete[other], latest[other])
                        while number >= 0 and owners[number] > least:
                            if touch(access, found[number]):
                                latest[other] = owners[number]
                                break
                            number = before[number]
            at += 1
        for number in range(first, at):
            space, write = found[number, SPACE], found[number, WRITE]
            if space >= 0:
                before[number] = heads[space, write, engine]
                heads[space, write, engine] = number
        waits[index] = 0
        while True:
            producer = -1
            for other in range(ENGINES):
                if latest[other] > complete[other] and (
                        producer < 0 or latest[other] > latest[producer]):
                    producer = other
            if producer < 0:
                break
            waits[index] |= 1 << producer
            posts[latest[producer]] |= 1 << engine
            for other in range(ENGINES):
                complete[other] = max(complete[other], known[latest[producer], other])
        complete[engine] = index
        last[engine] = index


def masks(
    engines: Ints, shapes: Ints, places: Ints, begins: Ints, templates: Ints
) -> tuple[Ints, Ints]:
    """Wait and post masks of instructions, loops unrolled."""
    size, total = len(engines), int((begins[shapes + 1] - begins[shapes]).sum())
    waits, posts = np.zeros(size, np.int64), np.zeros(size, np.int64)
    heads = np.full((SPACES + 1, 2, ENGINES), -1, np.int64)
    assign(engines, shapes, places, begins, templates, np.empty((total, ACCESS_FIELDS), np.int64),
           np.empty(total, np.int64), np.empty(total, np.int64), heads,
           np.empty((total, 2), np.int64), np.empty((size, ENGINES), np.int64), waits, posts)
    return waits, posts
