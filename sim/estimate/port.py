"""A read port in time: read master, external memory, queue (`hw.memory.axi_read_master`).

A port is a row of integers with the fields below, the cycles in which the words of the burst under
way are offered to the client (where they are not one each cycle), and two rings: runs of words that
are taken one each cycle, as number and cycle of the first one, and the cycles in which the memory
answers a burst's last word. Bursts are worked out when their words are wanted; what delays them,
earlier words that still fill the queue, is known by then. No step takes longer for more words where
words come one each cycle.
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
 FOLLOWING, COMMAND, ADDRESS, REMAINING, LAST_TAKE, FIRST, EVEN, REFRESHED, BURST, RUNS,
 ASKED) = range(28)
PORT_FIELDS = 28
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
    # A power of two, as all three are.
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
    """Integers of the runs that a port keeps: more runs than its queue holds words."""
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
def taken_in(port: Ints, taken: Ints, word: int) -> int:
    """Cycle in which a word was taken; words asked for must not fall."""
    mask, run, last = len(taken) // 2 - 1, port[ASKED], port[RUNS] - 1
    while run < last and taken[2 * ((run + 1) & mask)] <= word:
        run += 1
    port[ASKED] = run
    place = 2 * (run & mask)
    return int(taken[place + 1] + word - taken[place])


@compiled
def took(port: Ints, taken: Ints, cycle: int, words: int) -> None:
    """Words are taken one a cycle from ``cycle`` on."""
    if cycle != port[LAST_TAKE] + 1:
        place = 2 * (port[RUNS] & (len(taken) // 2 - 1))
        taken[place], taken[place + 1] = port[TAKEN], cycle
        port[RUNS] += 1
    port[LAST_TAKE] = cycle + words - 1
    port[TAKEN] += words


@compiled
def issue(port: Ints, offered: Ints, taken: Ints, answered: Ints) -> None:
    """Work out the next burst of the command."""
    address, bursts, issued = port[ADDRESS], port[BURSTS], port[ISSUED]
    words = min(port[REMAINING], port[BEATS] - (address & (port[BEATS] - 1)))
    cycle = max(port[COMMAND], port[LAST_ISSUE] + 1, port[LAST_ACCEPT])
    room = issued + words - port[DEPTH]
    if room > 0:
        cycle = max(cycle, taken_in(port, taken, room - 1) + 1)
    port[LAST_ISSUE] = cycle
    accept = cycle + 1
    if bursts >= port[OUTSTANDING]:
        accept = max(accept, answered[(bursts - port[OUTSTANDING]) & (BURST_RING - 1)] + 1)
    port[LAST_ACCEPT] = accept
    last, following = port[LAST_ANSWER], port[FOLLOWING]
    first = max(accept + max(1, port[LATENCY] - 1), last + 1)
    if address != following and (address ^ (following - 1)) >> port[ROW_SHIFT] != 0:
        first = max(first, last + 1 + port[ROW_MISS])
    rate, period, credit = port[RATE_WORDS], port[RATE_CYCLES], port[CREDIT]
    if credit < period:
        waited = (period - credit + rate - 1) // rate
        first = max(first, last + 1 + waited)
        credit += waited * rate
    answer = first + words
    even = rate == period and (port[REFRESH] == 0 or (
        first >= port[REFRESHED] + port[REFRESH]
        and answer <= port[REFRESHED] + port[REFRESH_INTERVAL]))
    if not even:
        first, answer = spread(port, offered, first, words, credit)
    port[EVEN], port[FIRST] = even, first + MEMORY_CYCLES
    port[CREDIT] = credit - words * period + (answer - first) * rate
    port[LAST_ANSWER], port[FOLLOWING] = answer - 1, address + words
    answered[bursts & (BURST_RING - 1)] = answer - 1
    port[BURSTS] = bursts + 1
    port[BURST], port[ISSUED] = issued, issued + words
    port[ADDRESS] = address + words
    port[REMAINING] -= words


@compiled
def spread(port: Ints, offered: Ints, first: int, words: int, credit: int) -> tuple[int, int]:
    """Work out the words of a burst that do not come one each cycle.

    Returns the cycle of its first word without what refresh held up, and the one behind its last.
    """
    rate, period = port[RATE_WORDS], port[RATE_CYCLES]
    interval, refresh, epoch = port[REFRESH_INTERVAL], port[REFRESH], port[REFRESHED]
    answer = first
    for word in range(words):
        answer = max(answer, first + ((word + 1) * period - credit + rate - 1) // rate)
        if refresh != 0:
            if answer >= epoch + interval:
                epoch += (answer - epoch) // interval * interval
            blocked = max(0, epoch + refresh - answer)
            answer += blocked
            first += blocked
        offered[word] = answer + MEMORY_CYCLES
        answer += 1
    port[REFRESHED] = epoch
    return first, answer


@compiled
def peek(port: Ints, offered: Ints, taken: Ints, answered: Ints) -> int:
    """Cycle from which the next word can be taken."""
    if port[TAKEN] == port[ISSUED]:
        issue(port, offered, taken, answered)
    return int(max(offer(port, offered, port[TAKEN]), port[LAST_TAKE] + 1))


@compiled
def offer(port: Ints, offered: Ints, word: int) -> int:
    """Cycle in which a word of the burst under way is offered."""
    place = word - port[BURST]
    return int(port[FIRST] + place if port[EVEN] else offered[place])


@compiled
def take(port: Ints, offered: Ints, taken: Ints, answered: Ints, ready: int) -> int:
    """Cycle in which the next word is taken by a client that is ready from ``ready`` on."""
    cycle = max(peek(port, offered, taken, answered), ready)
    took(port, taken, cycle, 1)
    return cycle


@compiled
def take_all(
    port: Ints, offered: Ints, taken: Ints, answered: Ints, ready: int, words: int
) -> int:
    """Cycle in which the last of some words is taken, one a cycle from ``ready`` on."""
    cycle = ready - 1
    while words:
        cycle = max(peek(port, offered, taken, answered), ready)
        run = min(words, port[ISSUED] - port[TAKEN]) if port[EVEN] else 1
        took(port, taken, cycle, run)
        cycle += run - 1
        words -= run
    return cycle


@compiled
def steady(port: Ints, number: int, warm: int, words: int) -> bool:
    """Whether the words of ``number`` equal parts go as all that follow.

    Those that waited in the queue before the instruction started, and bursts that were sent for
    their room, are gone. Never with refresh: what it costs a few parts is not what it costs all.
    """
    return bool(port[REFRESH] == 0 and number >= warm
                and number * words >= port[DEPTH] + port[BEATS])


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
        there = offer(port, offered, port[TAKEN] - 1)
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
    for place in range(len(offered)):
        offered[place] += answers
    for place in range(1, len(taken), 2):
        taken[place] += cycles
    for place in range(len(answered)):
        answered[place] += answers
    return cycles
