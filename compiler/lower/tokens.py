"""Dependences between instructions as wait and post tokens of engine pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from compiler.image.program import Access, Space, Task, accesses, space_words
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import ENGINE_OF, LINE_BYTES, Engine


class Hazards:
    """Last instruction of each engine that read or wrote every word of every store."""

    def __init__(self, config: HardwareConfig, image_bytes: int) -> None:
        self.sizes = {space: space_words(space, config, image_bytes) for space in Space}
        self.last: dict[tuple[Space, bool, Engine], Ints] = {}

    def of(self, space: Space, write: bool, engine: Engine) -> Ints | None:
        """Index of the last access of every word, -1 for none; None when there is no access."""
        return self.last.get((space, write, engine))

    def record(self, space: Space, write: bool, engine: Engine, words: Ints, index: int) -> None:
        """Note an access."""
        key = space, write, engine
        if key not in self.last:
            self.last[key] = np.full(self.sizes[space], -1, np.int64)
        self.last[key][words] = index


def dependences(
    tasks: Sequence[Task], addresses: Mapping[str, int], config: HardwareConfig
) -> list[dict[Engine, int]]:
    """For every task the last task of each other engine that it must follow.

    A read follows the writes of its words, a write the reads and the writes. Memory that no task
    stores to is not looked at.
    """
    stored = {addresses[task.region] for task in tasks if ENGINE_OF[task.opcode] == Engine.STORE}
    size = max(addresses.values(), default=0) + LINE_BYTES
    largest = max((access.stop for task in tasks for access in resolved(task, addresses, config)
                   if access.space == Space.MEMORY), default=0)
    hazards = Hazards(config, max(size, largest * LINE_BYTES))
    result: list[dict[Engine, int]] = []
    for index, task in enumerate(tasks):
        engine = ENGINE_OF[task.opcode]
        follows: dict[Engine, int] = {}
        touched = [
            (access, access.words()) for access in resolved(task, addresses, config)
            if access.space != Space.MEMORY or addresses[task.region] in stored
        ]
        for access, words in touched:
            for other in Engine:
                for write in (True, False) if access.write else (True,):
                    last = hazards.of(access.space, write, other)
                    if last is None or other == engine:
                        continue
                    latest = int(last[words].max())
                    if latest > follows.get(other, -1):
                        follows[other] = latest
        for access, words in touched:
            hazards.record(access.space, access.write, engine, words, index)
        result.append(follows)
    return result


def resolved(task: Task, addresses: Mapping[str, int], config: HardwareConfig) -> list[Access]:
    """Accesses of a task whose region has an address."""
    fields = {**task.fields, "address": addresses[task.region] // LINE_BYTES}
    return accesses(task.opcode, fields, config)


def assign_tokens(
    tasks: Sequence[Task], addresses: Mapping[str, int], config: HardwareConfig
) -> list[Task]:
    """Tasks with wait and post masks.

    An edge is left out when it is implied by others. The kept edges of a pair of engines have
    rising producers and rising consumers, so that the k-th wait takes the k-th post's token.
    """
    needed = dependences(tasks, addresses, config)
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
