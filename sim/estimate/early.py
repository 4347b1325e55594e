"""Words that wait for their engine, in time (`hw.memory.early_read`).

A queue is a row of integers: the fields below, the cycles in which its last words entered it, and
those in which they were taken, each a ring. A word enters when the port has it and there is room.
"""

from __future__ import annotations

from hw.fixed import Ints
from hw.memory.early_read import EARLY_WORDS
from sim.estimate import port as at
from sim.estimate.jit import compiled

(ENTERED, TAKEN, LAST) = range(3)
ENTRIES = 3
TAKES = ENTRIES + EARLY_WORDS
QUEUE_FIELDS = TAKES + EARLY_WORDS
QUEUE_CYCLES = 2
"""From a word that enters an empty queue to its offer."""


@compiled
def enter(queue: Ints, port: Ints, offered: Ints, taken: Ints, answered: Ints, words: int) -> None:
    """Words come from the port as soon as there is room for them."""
    for _ in range(words):
        place = queue[ENTERED] % EARLY_WORDS
        queue[ENTRIES + place] = at.take(port, offered, taken, answered, queue[TAKES + place] + 1)
        queue[ENTERED] += 1


@compiled
def peek(queue: Ints, port: Ints, offered: Ints, taken: Ints, answered: Ints) -> int:
    """Cycle from which the next word can be taken."""
    if queue[TAKEN] == queue[ENTERED]:
        enter(queue, port, offered, taken, answered, 1)
    entry = queue[ENTRIES + queue[TAKEN] % EARLY_WORDS]
    return int(max(entry + QUEUE_CYCLES, queue[LAST] + 1))


@compiled
def take(
    queue: Ints, port: Ints, offered: Ints, taken: Ints, answered: Ints, ready: int
) -> int:
    """Cycle in which the next word is taken by a client that is ready from ``ready`` on."""
    cycle = max(peek(queue, port, offered, taken, answered), ready)
    queue[TAKES + queue[TAKEN] % EARLY_WORDS] = queue[LAST] = cycle
    queue[TAKEN] += 1
    return cycle


@compiled
def take_all(
    queue: Ints, port: Ints, offered: Ints, taken: Ints, answered: Ints, ready: int, words: int
) -> int:
    """Cycle in which the last of some words is taken, one a cycle from ``ready`` on."""
    cycle = ready - 1
    for _ in range(words):
        cycle = take(queue, port, offered, taken, answered, ready)
    return cycle


@compiled
def steady(port: Ints, number: int, warm: int, words: int) -> bool:
    """Whether the words of ``number`` equal parts go as all that follow (`port.steady`)."""
    return at.steady(port, number, warm, words) and (
        number * words >= port[at.DEPTH] + port[at.BEATS] + EARLY_WORDS)


@compiled
def skip(
    queue: Ints, port: Ints, offered: Ints, taken: Ints, answered: Ints, windows: int, words: int,
    client: int, memory: int,
) -> int:
    """Leave out ``windows`` like the last one; returns the cycles that they take (`port.skip`)."""
    cycles = at.skip(port, offered, taken, answered, windows, words, client, memory)
    queue[LAST] += cycles
    for place in range(ENTRIES, QUEUE_FIELDS):
        queue[place] += cycles
    return cycles
