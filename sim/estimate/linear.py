"""Cycles of the linear engine and its prefetch: LUT, SIMD, and SEARCH beside them.

The functions follow `hw.units.lut_engine`, `lookup_sequencer`, `record_loader`, `simd_engine`,
`simd_sequencer`, `weight_buffer`, `weight_prefetch` and `search_engine`. ``start`` is the first
cycle in which the engine sees its task; each returns the cycle in which it completes it, and the
cycles that the engine stood still because words were missing.
"""

from __future__ import annotations

from hw.fixed import Ints
from hw.isa import Opcode
from hw.units.weight_region import ROUND_BITS
from sim.estimate import machine as of
from sim.estimate import port as at
from sim.estimate import rows as row_of
from sim.estimate.jit import compiled
from sim.estimate.port import left_out, skip, steady, take_all

REGION_CYCLES = ROUND_BITS + 4
"""From a SIMD instruction to its region: the division of its rounds, two products."""
GATHER_CYCLES = 3
"""Of a gather command that nothing delays."""
LUT, GATHERED = int(Opcode.LUT), 1
CODE_STEP = 37
"""From one gathered code to the next, as no data says which they are."""
WARM, WINDOW = 8, 16
"""Weight groups of an instruction that are worked out before its pace is taken, and those of which
it is taken; bursts and groups fall together again within a window of 16, as both are whole words
and bursts powers of two."""
ROUNDS_WARM, ROUNDS_WINDOW = 4, 8
"""The same for rounds, which are longer."""
READ_FREE, PRESENT_FREE = 0, 1
"""State of the prefetch: from when on it looks at the next instruction, and can hold its region."""


@compiled
def prefetch(
    row: Ints, handed: int, start: int, stored: int, state: Ints, port: Ints, machine: Ints,
) -> int:
    """Offer the command of an instruction; returns the cycle from which its region is there.

    handed: cycle in which the dispatcher got the instruction. stored: in which the last one of the
    store engine before it completed.
    """
    seen = max(handed + 2, state[READ_FREE])
    known = seen + (1 if row[row_of.OPCODE] == LUT else REGION_CYCLES)
    left = max(known, state[PRESENT_FREE])
    state[READ_FREE] = left + 1
    ready = left + 1
    if row[row_of.OPCODE] == LUT and row[row_of.MODE] == GATHERED:
        return int(ready)
    if row[row_of.OPCODE] != LUT and row[row_of.MODE] != 0:
        ready = max(ready, min(start, stored + 1))
        words = row[row_of.PARTS] * row[row_of.WORDS]
    elif row[row_of.OPCODE] != LUT:
        words = row[row_of.PARTS] * row[row_of.WORDS]
    else:
        words = row[row_of.ROUNDS] * machine[of.RECORDS] * row[row_of.WORDS]
    state[PRESENT_FREE] = at.command(port, ready, row[row_of.ADDRESS], words)
    return int(ready)


@compiled
def lut(
    row: Ints, start: int, ready: int, state: Ints, machine: Ints, port: Ints, offered: Ints,
    taken: Ints, answered: Ints,
) -> tuple[int, int]:
    """A LUT: rounds are loaded into some parts of the buffers while others are in use."""
    gather = row[row_of.MODE] == GATHERED
    steps, record = row[row_of.STEPS], row[row_of.WORDS]
    length = row[row_of.PASS] * max(4, steps)
    last_step = (row[row_of.PASS] - 1) * max(4, steps) + steps - 1
    # Parts of the buffers are free in turn: the next one, and up to three behind it.
    frees, issued = (start + 2, start + 2, start + 2, start + 2), start + 2
    waited, send, code = 0, max(start + 4, ready), 0
    memory, rounds = row[row_of.ADDRESS], row[row_of.ROUNDS]
    mark, marked, answer = 0, 0, 0
    number, begin = 0, start
    while number < rounds:
        number += 1
        loaded = frees[0]
        if not gather:
            loaded = take_all(
                port, offered, taken, answered, frees[0], machine[of.RECORDS] * record)
        else:
            for _ in range(machine[of.RECORDS]):
                for token in range(row[row_of.ROWS] + 1):
                    indices = token == row[row_of.ROWS]
                    sent = row[row_of.EXTRA] if indices else row[row_of.PARTS]
                    place = row[row_of.LIMIT] - row[row_of.EXTRA]
                    if not indices:
                        # Any code may come; these go round.
                        code = (code + CODE_STEP) % max(1, place // sent)
                        place = code * sent
                    send = at.command(port, send, memory + place, sent) + GATHER_CYCLES
                    loaded = take_all(port, offered, taken, answered, frees[0], sent)
                memory += row[row_of.LIMIT]
        begin = max(loaded + 1, issued)
        waited += begin - issued
        issued = begin + length
        free = begin + last_step + machine[of.LUT_RELEASE]
        frees = (frees[1], frees[2] if row[row_of.START] > 2 else free, frees[3], free)
        words = machine[of.RECORDS] * record
        if mark == 0 and steady(port, number, ROUNDS_WARM, words):
            mark, marked, answer = number, begin, port[at.LAST_ANSWER]
        elif mark != 0 and number == mark + ROUNDS_WINDOW and machine[of.EXACT] == 0:
            windows = left_out(number, rounds, words, ROUNDS_WINDOW)
            cycles = skip(port, offered, taken, answered, windows,
                          0 if gather else words * ROUNDS_WINDOW, begin - marked,
                          port[at.LAST_ANSWER] - answer)
            waited += cycles - windows * ROUNDS_WINDOW * length
            begin, issued, send = begin + cycles, issued + cycles, send + cycles
            frees = (frees[0] + cycles, frees[1] + cycles, frees[2] + cycles, frees[3] + cycles)
            memory += windows * ROUNDS_WINDOW * machine[of.RECORDS] * row[row_of.LIMIT]
            number += windows * ROUNDS_WINDOW
    complete = begin + last_step + machine[of.LUT_DRAIN]
    if gather:
        state[PRESENT_FREE] = complete
    return complete, waited


@compiled
def simd(
    row: Ints, start: int, machine: Ints, port: Ints, offered: Ints, taken: Ints, answered: Ints,
) -> tuple[int, int]:
    """A SIMD: weight groups are loaded into one of two halves while the other is in use."""
    length = row[row_of.ROWS] * row[row_of.PASS]
    last_chunk = (row[row_of.ROWS] - 1) * row[row_of.PASS] + row[row_of.STEPS] - 1
    free_before, free, issued = start + 1, start + 1, start + 1
    waited, begin, mark, marked, answer = 0, start, 0, 0, 0
    number, groups = 0, row[row_of.PARTS]
    while number < groups:
        number += 1
        loaded = take_all(port, offered, taken, answered, free_before, row[row_of.WORDS])
        begin = max(loaded + 1, issued)
        waited += begin - issued
        issued = begin + length
        free_before, free = free, begin + last_chunk + 2
        if mark == 0 and steady(port, number, WARM, row[row_of.WORDS]):
            mark, marked, answer = number, begin, port[at.LAST_ANSWER]
        elif mark != 0 and number == mark + WINDOW and machine[of.EXACT] == 0:
            windows = left_out(number, groups, row[row_of.WORDS], WINDOW)
            cycles = skip(port, offered, taken, answered, windows, row[row_of.WORDS] * WINDOW,
                          begin - marked, port[at.LAST_ANSWER] - answer)
            waited += cycles - windows * WINDOW * length
            begin, issued = begin + cycles, issued + cycles
            free_before, free = free_before + cycles, free + cycles
            number += windows * WINDOW
    return issued - 1 + machine[of.SIMD_DRAIN], waited


@compiled
def search(
    row: Ints, start: int, machine: Ints, port: Ints, offered: Ints, taken: Ints, answered: Ints,
) -> tuple[int, int]:
    """A SEARCH: shadow centroids are loaded behind the first vector of a round."""
    codes, tokens = machine[of.CODES], row[row_of.ROWS]
    at.command(port, start, row[row_of.ADDRESS], row[row_of.ROUNDS] * codes)
    begin = start + 3 - tokens
    waited, swapped = 0, start
    mark, marked, answer = 0, 0, 0
    number, rounds = 0, row[row_of.ROUNDS]
    while number < rounds:
        number += 1
        # A shadow is free a cycle after the one before it, which a word a cycle never overtakes.
        loaded = take_all(port, offered, taken, answered, max(start, swapped) + 1, codes)
        following = max(loaded + 2, begin + tokens)
        waited += following - begin - tokens
        begin = swapped = following
        if mark == 0 and steady(port, number, ROUNDS_WARM, codes):
            mark, marked, answer = number, begin, port[at.LAST_ANSWER]
        elif mark != 0 and number == mark + ROUNDS_WINDOW and machine[of.EXACT] == 0:
            windows = left_out(number, rounds, codes, ROUNDS_WINDOW)
            cycles = skip(port, offered, taken, answered, windows, codes * ROUNDS_WINDOW,
                          begin - marked, port[at.LAST_ANSWER] - answer)
            waited += cycles - windows * ROUNDS_WINDOW * tokens
            begin, swapped = begin + cycles, swapped + cycles
            number += windows * ROUNDS_WINDOW
    return begin + tokens - 1 + machine[of.SEARCH] + 2, waited
