"""Cycles of the engines that read no parameters: softmax, order, Hadamard, store, append.

The functions follow `hw.units.softmax_engine` with its reciprocal, `order_engine`,
`hadamard_engine`, `store_engine`, `append_engine` and `hw.memory.axi_write_master`. ``start`` is
the first cycle in which the engine sees its task; each returns the cycle in which it completes it.
"""

from __future__ import annotations

from hw.fixed import Ints
from hw.golden.dequant import TOKEN_SCALE_BITS
from hw.golden.hadamard import LENGTH_BITS_MAX
from hw.isa import LINE_BYTES
from hw.memory.axi import BEATS_MAX, PAGE_BYTES
from hw.units import softmax_importance, softmax_lane
from hw.units.order_engine import COMPARATORS
from sim.estimate import machine as of
from sim.estimate import rows as row_of
from sim.estimate.jit import compiled
from sim.records import OUTSTANDING_MAX

WEIGHT_STAGES = softmax_lane.STAGES
SCORE_STAGES = softmax_lane.SCORE_STAGES
IMPORTANCE_CYCLES = softmax_importance.STAGES
DIVISION_CYCLES = TOKEN_SCALE_BITS + 2
"""From the start of a row's division to that of the next."""
HADAMARD_STAGES = LENGTH_BITS_MAX + 3
LAST_DATA, CREDIT, LAST_ANSWER, BURSTS = range(4)
"""State of the write port."""
WRITE_FIELDS = 4
WRITE_RING = 2 * OUTSTANDING_MAX


@compiled
def softmax(row: Ints, start: int, machine: Ints) -> int:
    """A SOFTMAX: a row's division runs beside the next row."""
    rounds, levels, heads = row[row_of.ROUNDS], machine[of.LEVELS], row[row_of.HEADS]
    elements = 1 << levels
    bound, collecting, division = start + 1, start, start - DIVISION_CYCLES
    for number in range(row[row_of.ROWS]):
        position = row[row_of.START] + number // heads
        lowest = 0
        if row[row_of.LIMIT] != 0 and position >= row[row_of.LIMIT]:
            lowest = position - row[row_of.LIMIT] + 1
        final = min(position // elements, row[row_of.WORDS] - 1)
        entered = bound + 3 + final - lowest // elements + 1
        settled = max(entered + SCORE_STAGES + levels + 1, collecting)
        written = settled + rounds + WEIGHT_STAGES + 1
        division = max(written + machine[of.SUM_LEVELS] + 1, written + 2,
                       division + DIVISION_CYCLES)
        collecting = division + 1
        bound = written + 1
    complete = division + DIVISION_CYCLES
    return complete + IMPORTANCE_CYCLES if row[row_of.MODE] else complete


@compiled
def order(row: Ints, start: int) -> int:
    """An ORDER: some tokens at a time are compared with all."""
    tokens = row[row_of.ROWS]
    groups = (tokens + COMPARATORS - 1) // COMPARATORS
    return int(start + 1 + groups * (tokens + 2 * COMPARATORS + 2))


@compiled
def hadamard(row: Ints, start: int) -> int:
    """A HADAMARD: a word a cycle through all stages."""
    return int(start + 3 + HADAMARD_STAGES + row[row_of.WORDS] + row[row_of.EXTRA])


@compiled
def write_word(state: Ints, machine: Ints, ready: int) -> int:
    """Cycle in which the memory takes a word that is there from ``ready`` on."""
    rate, period, credit = machine[of.WRITE_RATE], machine[of.WRITE_PERIOD], state[CREDIT]
    cycle = max(ready, state[LAST_DATA] + 1)
    if credit < period:
        waited = (period - credit + rate - 1) // rate
        cycle = max(cycle, state[LAST_DATA] + 1 + waited)
        credit += waited * rate
    state[CREDIT], state[LAST_DATA] = credit - period + rate, cycle
    return int(cycle)


@compiled
def address_taken(state: Ints, answers: Ints, machine: Ints, offered: int) -> int:
    """Cycle in which the memory takes a burst's address."""
    bursts, most = state[BURSTS], machine[of.WRITE_OUTSTANDING]
    if bursts >= most:
        return int(max(offered, answers[(bursts - most) % WRITE_RING] + 1))
    return offered


@compiled
def answer(state: Ints, answers: Ints, machine: Ints, last: int) -> None:
    """The memory answers a burst whose last word it took in cycle ``last``."""
    state[LAST_ANSWER] = max(last + machine[of.WRITE_LATENCY], state[LAST_ANSWER] + 1)
    answers[state[BURSTS] % WRITE_RING] = state[LAST_ANSWER]
    state[BURSTS] += 1


@compiled
def store(row: Ints, start: int, machine: Ints, state: Ints, answers: Ints) -> int:
    """A STORE: bursts up to multiples of the longest one, a cycle between them."""
    left, address = row[row_of.WORDS], row[row_of.ADDRESS]
    most = min(BEATS_MAX, PAGE_BYTES * machine[of.HEADER] // LINE_BYTES)
    moved, accepted = start, start
    while left:
        beats = min(left, most - address % most)
        issued = max(moved + 1, accepted)
        accepted = address_taken(state, answers, machine, issued + 1)
        moved, data = issued, issued
        for _ in range(beats):
            moved = max(moved + 1, data)
            data = write_word(state, machine, max(moved, accepted) + 1)
        answer(state, answers, machine, data)
        left -= beats
        address += beats
    return int(state[LAST_ANSWER] + 2)


@compiled
def append(row: Ints, start: int, machine: Ints, state: Ints, answers: Ints) -> int:
    """An APPEND: the words of a vector word behind its reads, in bursts as those of a STORE."""
    most = min(BEATS_MAX, PAGE_BYTES * machine[of.HEADER] // LINE_BYTES)
    emitted, moved, accepted, data = start, start, start, start
    for head in range(row[row_of.HEADS]):
        left, bundle, pause = row[row_of.ROWS], row[row_of.START], 5
        place = row[row_of.ADDRESS] + head * row[row_of.LIMIT]
        while left:
            bundle = min(left, bundle)
            for word in range(row[row_of.WORDS]):
                group, within = divmod(word, row[row_of.ROUNDS])
                address = place + group * row[row_of.EXTRA] + within * row[row_of.STEPS]
                # The first word goes into a buffer that empties with the word before.
                emitted, pause = max(emitted + bundle + pause, moved), 3
                issued, beats = emitted + 2, row[row_of.PARTS]
                while beats:
                    burst = min(beats, most - address % most)
                    issued = max(issued, moved + 1, accepted)
                    accepted = address_taken(state, answers, machine, issued + 1)
                    for _ in range(burst):
                        moved = max(emitted + 1, issued + 1, data)
                        data = write_word(state, machine, max(moved, accepted) + 1)
                        last, emitted = emitted, max(emitted + 1, moved)
                    answer(state, answers, machine, data)
                    beats -= burst
                    address += burst
                emitted = last
            left -= bundle
            bundle, pause = row[row_of.PASS], 4
            place += row[row_of.MODE]
    return int(state[LAST_ANSWER] + 2)
