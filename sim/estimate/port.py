"""A read port in time: read master, external memory, queue (`hw.memory.axi_read_master`).

A port is a row of integers with the fields below, the cycles in which the words of the burst under
way are offered to the client (where they are not one each cycle), and two rings: the cycle in which
a word is taken, and the one in which the memory answers a burst's last word. Bursts are worked out
when their words are wanted; what delays them, earlier words that still fill the queue, is known by
then.
"""

from __future__ import annotations

import numpy as np

from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.memory.axi import BEATS_MAX, PAGE_BYTES
from sim.estimate.jit import compiled
from sim.records import OUTSTANDING_MAX, MemoryModel

(DEPTH, BEATS, LATENCY, OUTSTANDING, RATE_WORDS, RATE_CYCLES, ROW_SHIFT, ROW_MISS,
 REFRESH_INTERVAL, REFRESH, ISSUED, TAKEN, LAST_ISSUE, LAST_ACCEPT, BURSTS, LAST_ANSWER, CREDIT,
 FOLLOWING, COMMAND, ADDRESS, REMAINING, LAST_TAKE, FIRST, EVEN, BURST) = range(25)
PORT_FIELDS = 25
BURST_RING = 2 * OUTSTANDING_MAX
BEFORE = -(1 << 40)
"""A cycle before all others."""
MEMORY_CYCLES = 3
"""From the memory's answer to the offered word: its output register, two of the queue."""


def read_port(config: HardwareConfig, memory: MemoryModel) -> Ints:
    """A port that nothing has used."""
    port = np.zeros(PORT_FIELDS, np.int64)
    rate = memory.word_rate(config)
    depth = max(4, config.read_fifo_words)
    port[DEPTH] = depth
    port[BEATS] = min(BEATS_MAX, PAGE_BYTES // config.port_bytes, max(1, depth // 8))
    port[LATENCY], port[OUTSTANDING] = memory.latency_cycles, memory.outstanding
    port[RATE_WORDS], port[RATE_CYCLES] = rate.numerator, rate.denominator
    port[ROW_SHIFT], port[ROW_MISS] = memory.row_shift(config), memory.row_miss_cycles
    port[REFRESH_INTERVAL], port[REFRESH] = (
        memory.refresh_interval_cycles if memory.refresh_cycles else 0, memory.refresh_cycles)
    port[CREDIT] = rate.denominator
    for field in (LAST_ISSUE, LAST_ACCEPT, LAST_ANSWER, LAST_TAKE):
        port[field] = BEFORE
    return port


def ring_words(config: HardwareConfig) -> int:
    """Words whose cycles a port keeps: more than its queue holds."""
    return 4 * max(BEATS_MAX, config.read_fifo_words)


@compiled
def command(port: Ints, cycle: int, address: int, words: int) -> int:
    """Offer a command from ``cycle`` on; returns the cycle in which the master takes it.

    Every word of the commands before must have been taken.
    """
    taken = max(cycle, port[LAST_ISSUE])
    port[COMMAND], port[ADDRESS], port[REMAINING] = taken + 1, address, words
    return int(taken)


@compiled
def issue(port: Ints, offered: Ints, taken: Ints, answered: Ints) -> None:
    """Work out the next burst of the command."""
    words = min(port[REMAINING], port[BEATS] - port[ADDRESS] % port[BEATS])
    cycle = max(port[COMMAND], port[LAST_ISSUE] + 1, port[LAST_ACCEPT])
    room = port[ISSUED] + words - port[DEPTH]
    if room > 0:
        cycle = max(cycle, taken[(room - 1) & (len(taken) - 1)] + 1)
    port[LAST_ISSUE] = cycle
    accept = cycle + 1
    bursts = port[BURSTS]
    if bursts >= port[OUTSTANDING]:
        accept = max(accept, answered[(bursts - port[OUTSTANDING]) % BURST_RING] + 1)
    port[LAST_ACCEPT] = accept
    last, address, following = port[LAST_ANSWER], port[ADDRESS], port[FOLLOWING]
    first = max(accept + max(1, port[LATENCY] - 1), last + 1)
    if address != following and (address ^ (following - 1)) >> port[ROW_SHIFT] != 0:
        first = max(first, last + 1 + port[ROW_MISS])
    rate, period, credit = port[RATE_WORDS], port[RATE_CYCLES], port[CREDIT]
    if credit < period:
        waited = (period - credit + rate - 1) // rate
        first = max(first, last + 1 + waited)
        credit += waited * rate
    interval, answer = port[REFRESH_INTERVAL], first
    port[EVEN] = rate == period and interval == 0
    if port[EVEN]:
        answer += words - 1
    else:
        for word in range(words):
            answer = max(answer, first + ((word + 1) * period - credit + rate - 1) // rate)
            if interval != 0 and answer % interval < port[REFRESH]:
                blocked = port[REFRESH] - answer % interval
                answer += blocked
                first += blocked
            offered[word] = answer + MEMORY_CYCLES
            answer += 1
        answer -= 1
        port[CREDIT] = credit - words * period + (answer - first + 1) * rate
    port[FIRST] = first + MEMORY_CYCLES
    port[LAST_ANSWER], port[FOLLOWING] = answer, address + words
    answered[bursts % BURST_RING] = answer
    port[BURSTS] = bursts + 1
    port[ISSUED] += words
    port[ADDRESS] = address + words
    port[REMAINING] -= words


@compiled
def peek(port: Ints, offered: Ints, taken: Ints, answered: Ints) -> int:
    """Cycle from which the next word can be taken."""
    if port[TAKEN] == port[ISSUED]:
        issue(port, offered, taken, answered)
        port[BURST] = port[TAKEN]
    place = port[TAKEN] - port[BURST]
    there = port[FIRST] + place if port[EVEN] else offered[place]
    return int(max(there, port[LAST_TAKE] + 1))


@compiled
def take(port: Ints, offered: Ints, taken: Ints, answered: Ints, ready: int) -> int:
    """Cycle in which the next word is taken by a client that is ready from ``ready`` on."""
    cycle = max(peek(port, offered, taken, answered), ready)
    taken[port[TAKEN] & (len(taken) - 1)] = cycle
    port[LAST_TAKE] = cycle
    port[TAKEN] += 1
    return cycle


@compiled
def take_all(
    port: Ints, offered: Ints, taken: Ints, answered: Ints, ready: int, words: int
) -> int:
    """Cycle in which the last of some words is taken, one a cycle from ``ready`` on."""
    mask, cycle = len(taken) - 1, ready - 1
    while words:
        cycle = max(peek(port, offered, taken, answered), ready)
        if not port[EVEN]:
            take(port, offered, taken, answered, ready)
            words -= 1
            continue
        run, at = min(words, port[ISSUED] - port[TAKEN]), port[TAKEN]
        for word in range(run):
            taken[(at + word) & mask] = cycle + word
        cycle += run - 1
        port[LAST_TAKE] = cycle
        port[TAKEN] = at + run
        words -= run
    return cycle


@compiled
def steady(port: Ints, number: int, warm: int, words: int) -> bool:
    """Whether the words of ``number`` equal parts go as all that follow.

    Those that waited in the queue before the instruction started, and bursts that were sent for
    their room, are gone.
    """
    return bool(number >= warm and number * words >= port[DEPTH] + port[BEATS])


@compiled
def left_out(number: int, count: int, words: int, window: int) -> int:
    """How many windows of ``count`` equal parts need not be worked out behind the first ``number``.

    The last parts are: words that the memory has sent ahead belong to them.
    """
    ahead = BEATS_MAX // max(1, words) + 1
    return max(0, (count - number - ahead) // window)


@compiled
def skip(
    port: Ints, offered: Ints, taken: Ints, answered: Ints, windows: int, words: int, client: int,
    memory: int,
) -> int:
    """Leave out ``windows`` like the last one; returns the cycles that they take.

    words: of a window; client, memory: cycles from the last one's first to its last word, taken and
    answered. Where the memory is slower, the client keeps its pace until it has used up what is in
    the queue.
    """
    early = windows
    if memory > client:
        place = port[TAKEN] - 1 - port[BURST]
        there = port[FIRST] + place if port[EVEN] else offered[place]
        early = min(windows, (port[LAST_TAKE] - there) // (memory - client))
    cycles = early * client + (windows - early) * max(client, memory)
    answers = max(cycles, windows * memory)
    port[ADDRESS] += windows * words
    port[FOLLOWING] += windows * words
    port[REMAINING] -= windows * words
    port[LAST_TAKE] += cycles
    port[COMMAND] += cycles
    port[LAST_ISSUE] += answers
    port[LAST_ACCEPT] += answers
    port[LAST_ANSWER] += answers
    port[FIRST] += answers
    offered += answers
    taken += cycles
    answered += answers
    return cycles
