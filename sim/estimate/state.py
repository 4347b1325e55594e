"""What the event model keeps while a program runs, as arrays that its compiled functions take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hw.control.fetch import LINES_AHEAD
from hw.fixed import Ints
from hw.isa import QUEUE_DEPTH, Engine
from sim.estimate import machine as of
from sim.estimate.early import QUEUE_FIELDS
from sim.estimate.engines import CREDIT, LAST_ANSWER, LAST_DATA, WRITE_FIELDS, WRITE_RING
from sim.estimate.port import BEFORE

ENGINES = len(Engine)
NEVER = 1 << 60
TOKEN_RING = 512
LINE_RING = 2 * LINES_AHEAD
NOTHING, FETCHED = -2, -1
"""What an instruction waited for, where that was no other instruction."""
LONG_AGO = -(1 << 20)
(QUEUED, FINISHED, LAST, PREVIOUS, CURRENT, EVENT, PHASE, LEFT_TOKENS, PLACES, CHANGED,
 READS, HEADS, EARLY, ASKED, LEFT_WORDS) = range(15)
STATE_FIELDS = 15
"""Rows of the engines' state. CHANGED: whether anything has changed since an engine's next
instruction could not start. READS: the prefetch of weights, which is no engine's. HEADS:
instructions that have been next in their queue; of the last one EARLY: the cycle from which its
first words are asked for, ASKED: that in which they were, LEFT_WORDS: words not asked for yet."""


class State(NamedTuple):
    """state: rows as above, a column for each engine. queues: instructions in the engines' queues,
    where those before ended, and how many of the store engine came before each. tokens: cycle and
    instruction of every post by producer and consumer; counts: posts and waits. lines: arrival of
    the words of instruction lines, and in the last column when they were used up. writes, answers:
    the write port. waiting: words that wait for each engine (`sim.estimate.early`).
    """

    state: Ints
    queues: Ints
    tokens: Ints
    counts: Ints
    lines: Ints
    writes: Ints
    answers: Ints
    waiting: Ints


def fresh_state(machine: Ints) -> State:
    """Nothing has happened yet."""
    state = np.zeros((STATE_FIELDS, ENGINES), np.int64)
    state[LAST], state[PREVIOUS], state[EVENT], state[EARLY] = LONG_AGO, NOTHING, NEVER, NEVER
    state[CURRENT] = state[PLACES] = -1
    writes = np.zeros(WRITE_FIELDS, np.int64)
    writes[LAST_DATA] = writes[LAST_ANSWER] = BEFORE
    writes[CREDIT] = machine[of.WRITE_PERIOD]
    return State(
        state=state, queues=np.zeros((3, ENGINES, 2 * QUEUE_DEPTH), np.int64),
        tokens=np.empty((2, ENGINES, ENGINES, TOKEN_RING), np.int64),
        counts=np.zeros((2, ENGINES, ENGINES), np.int64),
        lines=np.zeros((LINE_RING, int(machine[of.LINE_WORDS]) + 1), np.int64),
        writes=writes, answers=np.zeros(WRITE_RING, np.int64),
        waiting=np.zeros((ENGINES, QUEUE_FIELDS), np.int64))
