"""Dependences between instructions as wait and post tokens of engine pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from compiler.image.access import accesses
from compiler.image.hazards import Touches, conflicts
from compiler.image.program import Task
from hw.config import HardwareConfig
from hw.isa import ENGINE_OF, LINE_BYTES, Engine, Opcode


def touches(task: Task, addresses: Mapping[str, int], config: HardwareConfig) -> Touches:
    """Engine and accesses of a task whose region, if it has one, has an address."""
    fields = dict(task.fields)
    if task.addressed:
        fields["address"] = addresses[task.region] // LINE_BYTES
    return ENGINE_OF[task.opcode], accesses(task.opcode, fields, config)


def assign_tokens(
    tasks: Sequence[Task], addresses: Mapping[str, int], config: HardwareConfig
) -> list[Task]:
    """Tasks with wait and post masks; loops must be unrolled (ValueError).

    An edge is left out when it is implied by others. The kept edges of a pair of engines have
    rising producers and rising consumers, so that the k-th wait takes the k-th post's token.
    """
    if any(task.opcode == Opcode.LOOP for task in tasks):
        raise ValueError("tokens of loops cannot be assigned; unroll them first")
    needed = conflicts([touches(task, addresses, config) for task in tasks])
    # known[i][e]: last task of engine e that is complete when task i is.
    known: list[dict[Engine, int]] = []
    previous: dict[Engine, dict[Engine, int]] = {}
    waits, posts = [0] * len(tasks), [0] * len(tasks)
    for index, task in enumerate(tasks):
        engine = ENGINE_OF[task.opcode]
        complete = dict(previous.get(engine, {}))
        for producer, latest in sorted(needed[index].items(), key=lambda item: -item[1]):
            if complete.get(producer, -1) >= latest:
                continue
            waits[index] |= 1 << producer
            posts[latest] |= 1 << engine
            for other, seen in known[latest].items():
                complete[other] = max(complete.get(other, -1), seen)
        complete[engine] = index
        known.append(complete)
        previous[engine] = complete
    return [
        dataclasses.replace(task, wait=wait, post=post)
        for task, wait, post in zip(tasks, waits, posts, strict=True)
    ]
