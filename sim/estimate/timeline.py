"""The event model: instruction fetch, queues, tokens, the aux port, and the engines' functions.

Events are worked out in the order of time. An event is a command that a client offers to the aux
port, or an instruction that starts. Everything that follows from an event lies behind it, so that
an engine's whole instruction can be worked out when its command is granted, and a start is known as
soon as the completions it waits for are.
"""

from __future__ import annotations

from hw.control.fetch import LINE_INSTRUCTIONS, LINES_AHEAD
from hw.fixed import Ints
from hw.isa import QUEUE_DEPTH, Engine, Opcode
from hw.memory.early_read import EARLY_WORDS
from sim.estimate import aux_engines, engines, linear
from sim.estimate import machine as of
from sim.estimate import port as at
from sim.estimate import rows as row_of
from sim.estimate import state as at_state
from sim.estimate.aux_port import (
    AUX_PLACES,
    EARLY_PLACE,
    aux_place,
    aux_words,
    gather_words,
    run_granted,
)
from sim.estimate.early import enter
from sim.estimate.jit import compiled
from sim.estimate.loops import iteration_ended
from sim.estimate.port import take, take_all
from sim.estimate.state import ENGINES, LINE_RING, NEVER, TOKEN_RING

(LOAD, GATHER, ROPE, SEARCH, LUT, SIMD, STORE, APPEND, SOFTMAX, ORDER, LOOP, END) = (
    int(Opcode[name]) for name in (
        "LOAD", "GATHER", "ROPE", "SEARCH", "LUT", "SIMD", "STORE", "APPEND", "SOFTMAX", "ORDER",
        "LOOP", "END"))
LINEAR_ENGINE, STORE_ENGINE = int(Engine.LINEAR), int(Engine.STORE)
WEIGHT, CENTROID, AUX = range(3)
PORTS = 3
EARLY_CYCLES = 2
"""From an instruction that waits at the head of its queue to its early command."""
FETCH = ENGINES
"""Client number of instruction fetch; the engines have their own."""
QUEUE_CYCLES = 2
"""From an instruction that enters an empty queue to its head (`hw.memory.fifo`)."""
(HANDED, BEGAN, COMPLETED, WAITED, CAUSE) = range(5)
STEP_FIELDS = 5
"""Of an executed instruction: cycles of hand-out, start and completion, cycles without words, and
the executed instruction that it waited for last."""


@compiled
def start_of(
    engine: int, step: int, rows: Ints, index: Ints, steps: Ints, last: Ints, previous: Ints,
    posts: Ints, posters: Ints, posted: Ints, accepted: Ints,
) -> int:
    """First cycle of a task that is next in its queue, or NEVER while a token is not posted."""
    cycle, cause = steps[step, HANDED] + QUEUE_CYCLES, at_state.FETCHED
    if last[engine] + 1 > cycle:
        cycle, cause = last[engine] + 1, previous[engine]
    wait = rows[index[step], row_of.WAIT]
    for producer in range(ENGINES):
        if wait >> producer & 1:
            number = accepted[producer, engine]
            if number == posted[producer, engine]:
                return NEVER
            when = posts[producer, engine, number % TOKEN_RING] + 1
            if when > cycle:
                cycle, cause = when, posters[producer, engine, number % TOKEN_RING]
    for producer in range(ENGINES):
        if wait >> producer & 1:
            accepted[producer, engine] += 1
    steps[step, CAUSE] = cause
    return int(cycle + 1)


@compiled
def run_program(
    rows: Ints, place: int, most: int, machine: Ints, ports: Ints, offered: Ints, taken: Ints,
    answered: Ints, index: Ints, steps: Ints, loops: Ints, state: Ints, queues: Ints, tokens: Ints,
    counts: Ints, lines: Ints, writes: Ints, answers: Ints, waiting: Ints,
) -> int:
    """Cycles of a program; -1 where it gets stuck.

    rows: of the stored program; place: its port word in memory. most: iterations of a loop that
    are run if they do not repeat before. ports, offered, taken, answered: state of the three read
    ports. index: gets the stored place of every executed instruction, steps their cycles; loops:
    for every LOOP its iterations, those that ran, the number after which they repeat, and the
    cycles in which the last five of them were handed out. The others are from
    `sim.estimate.state.fresh_state`.
    """
    line_words, fills = machine[of.LINE_WORDS], machine[of.FILLS]
    aux, aux_offered = ports[AUX], offered[AUX]
    aux_taken, aux_answered = taken[AUX], answered[AUX]
    weight, weight_offered = ports[WEIGHT], offered[WEIGHT]
    weight_taken, weight_answered = taken[WEIGHT], answered[WEIGHT]
    queue, ends, stores = queues[0], queues[1], queues[2, LINEAR_ENGINE]
    posts, posters = tokens[0], tokens[1]
    posted, accepted = counts[0], counts[1]
    queued, finished = state[at_state.QUEUED], state[at_state.FINISHED]
    last, previous = state[at_state.LAST], state[at_state.PREVIOUS]
    current, event, phase = (
        state[at_state.CURRENT], state[at_state.EVENT], state[at_state.PHASE])
    left_tokens, places = state[at_state.LEFT_TOKENS], state[at_state.PLACES]
    changed, reads = state[at_state.CHANGED], state[at_state.READS]
    heads, early, asked, left_words = (
        state[at_state.HEADS], state[at_state.EARLY], state[at_state.ASKED],
        state[at_state.LEFT_WORDS])
    arrived, emptied = lines[:, :line_words], lines[:, line_words]
    first_line = requested = granted_lines = emptied_lines = 0
    earliest, last_grant, stop, drained = 2, 0, NEVER, 0
    counter = handed_count = 0
    consumed, head, loaded, skip, ended = 0, 0, False, False, False
    loop_body = loop_length = loop_left = loop_count = 0
    aux_free, served = 0, 0

    while True:
        # Hand out what has arrived and finds room.
        while not ended and stop == NEVER:
            line = counter // LINE_INSTRUCTIONS - first_line
            if line >= granted_lines:
                break
            part = counter % LINE_INSTRUCTIONS
            row = rows[counter]
            if not loaded:
                if machine[of.HANDED] > 1 and part:
                    head = consumed + 1
                else:
                    for word in range(fills):
                        at_word = part * fills + word
                        there = arrived[line % LINE_RING, at_word] + QUEUE_CYCLES
                        consumed = max(consumed + 1, there)
                        if at_word == line_words - 1:
                            emptied[line % LINE_RING] = consumed
                            emptied_lines = line + 1
                    head = consumed + 1
                loaded = True
            if skip:
                consumed, skip, loaded = head, False, False
                counter += 1
                continue
            opcode = row[row_of.OPCODE]
            if opcode == LOOP:
                consumed, loaded = head, False
                counter += 1
                loop_body, loop_length = counter, row[row_of.WORDS]
                loop_left = loop_length
                loops[loop_count, 0] = row[row_of.ROUNDS]
                loop_count += 1
                continue
            if opcode == END:
                consumed, ended, stop = head, True, head
                break
            engine = row[row_of.ENGINE]
            number = queued[engine]
            if number >= QUEUE_DEPTH:
                if finished[engine] <= number - QUEUE_DEPTH:
                    break
                head = max(head, ends[engine, (number - QUEUE_DEPTH) % (2 * QUEUE_DEPTH)] + 1)
            consumed, loaded = head, False
            index[handed_count], steps[handed_count, HANDED] = counter, head
            queue[engine, number % (2 * QUEUE_DEPTH)] = handed_count
            if engine == LINEAR_ENGINE:
                stores[number % (2 * QUEUE_DEPTH)] = queued[STORE_ENGINE]
            queued[engine] += 1
            changed[engine] = 1
            handed_count += 1
            counter += 1
            if loop_left:
                loop_left -= 1
                if not loop_left:
                    if iteration_ended(loops[loop_count - 1], head, most):
                        loop_left, counter, stop = loop_length, loop_body, head

        # The next line that instruction fetch asks for.
        ask = NEVER
        free = requested - LINES_AHEAD
        if requested == granted_lines and (free < 0 or emptied_lines > free):
            ask = max(earliest, last_grant)
            if free >= 0:
                ask = max(ask, emptied[free % LINE_RING] + 1)
            if ask >= stop:
                ask = NEVER
        if stop != NEVER and not ended and ask == NEVER:
            # A loop goes back when all that was asked for is thrown away.
            drained = consumed
            for line in range(emptied_lines, granted_lines):
                for word in range(line_words):
                    there = arrived[line % LINE_RING, word] + QUEUE_CYCLES
                    if there > drained:
                        drained = there
                    else:
                        drained += 1
            earliest, stop = drained + 2, NEVER
            first_line = counter // LINE_INSTRUCTIONS
            skip = counter % LINE_INSTRUCTIONS != 0
            counter -= counter % LINE_INSTRUCTIONS
            requested = granted_lines = emptied_lines = 0
            continue

        # The next event; clients of the aux port that come together are served in turn.
        when, who, place_of = NEVER, -1, 0
        if ask != NEVER:
            when, who = max(ask + 1, aux_free), FETCH
            place_of = (-served - 1) % AUX_PLACES
        for engine in range(ENGINES):
            if heads[engine] == finished[engine] and finished[engine] < queued[engine]:
                heads[engine] += 1
                step = queue[engine, finished[engine] % (2 * QUEUE_DEPTH)]
                row, asked[engine] = rows[index[step]], 0
                places[engine] = aux_place(row[row_of.OPCODE])
                if places[engine] >= EARLY_PLACE:
                    first = max(steps[step, HANDED] + QUEUE_CYCLES, last[engine] + 1)
                    early[engine] = first + EARLY_CYCLES
                    left_words[engine] = aux_words(row, machine)
            if current[engine] < 0 and changed[engine] != 0 and finished[engine] < queued[engine]:
                step = queue[engine, finished[engine] % (2 * QUEUE_DEPTH)]
                begin = start_of(engine, step, rows, index, steps, last, previous, posts, posters,
                                 posted, accepted)
                if begin == NEVER:
                    changed[engine] = 0
                else:
                    row = rows[index[step]]
                    current[engine], event[engine], phase[engine] = step, begin, 1
                    steps[step, BEGAN] = begin
                    if begin < early[engine]:
                        # It did not wait.
                        early[engine] = NEVER
                    if row[row_of.OPCODE] == ROPE:
                        event[engine] += 1
                    elif row[row_of.OPCODE] == GATHER:
                        left_tokens[engine] = row[row_of.ROWS]
                        direct = row[row_of.MODE] & row_of.DIRECT
                        event[engine] += 4 if direct else 2
                        phase[engine] = 1 if direct else 0
            cycle, turn, asks = event[engine], -1, places[engine] >= 0
            if early[engine] != NEVER:
                cycle = early[engine]
            elif current[engine] < 0:
                continue
            elif places[engine] >= EARLY_PLACE:
                asks = left_words[engine] > 0
                cycle = max(cycle, asked[engine] + 1) + asks
            if asks:
                cycle = max(cycle, aux_free)
                turn = (places[engine] - served - 1) % AUX_PLACES
            if cycle < when or (cycle == when and turn < place_of):
                when, who, place_of = cycle, engine, turn
        if when == NEVER:
            break

        if who == FETCH:
            served, last_grant, earliest = 0, when, ask + 1
            line = requested % LINE_RING
            address = place + (first_line + requested) * line_words
            aux_free = at.command(aux, when + 1, address, line_words)
            for word in range(line_words):
                arrived[line, word] = take(aux, aux_offered, aux_taken, aux_answered, when + 1)
            requested += 1
            granted_lines += 1
            continue

        if early[who] != NEVER:
            row = rows[index[queue[who, finished[who] % (2 * QUEUE_DEPTH)]]]
            words = min(left_words[who], EARLY_WORDS)
            aux_free = at.command(aux, when + 1, row[row_of.ADDRESS], words)
            enter(waiting[who], aux, aux_offered, aux_taken, aux_answered, words)
            served, early[who], asked[who] = places[who], NEVER, when
            left_words[who] -= words
            continue

        step = current[who]
        row = rows[index[step]]
        opcode, begin, waited = row[row_of.OPCODE], steps[step, BEGAN], 0
        if opcode == GATHER:
            served = places[who]
            token = row[row_of.ROWS] - left_tokens[who]
            if phase[who] == 0:
                address, words = row[row_of.START] + token * line_words, line_words
            else:
                address, words = row[row_of.ADDRESS], row[row_of.WORDS]
                if row[row_of.MODE] & row_of.DIRECT:
                    address += (row[row_of.START] // line_words + token) * words
            aux_free = at.command(aux, when + 1, address, words)
            if phase[who] == 0:
                event[who] = 3 + take_all(
                    aux, aux_offered, aux_taken, aux_answered, when + 1, words)
                phase[who] = 1
                continue
            complete = gather_words(row, when, machine, aux, aux_offered, aux_taken, aux_answered)
            left_tokens[who] -= 1
            if left_tokens[who]:
                direct = row[row_of.MODE] & row_of.DIRECT
                event[who] = complete + (4 if direct else 2)
                phase[who] = 1 if direct else 0
                continue
            complete += 1
        elif opcode == LOAD:
            served = places[who]
            aux_free = at.command(aux, when + 1, row[row_of.ADDRESS], row[row_of.WORDS])
            complete, first = aux_engines.load(row, when, aux, aux_offered, aux_taken, aux_answered)
            waited = first - begin
        elif places[who] >= EARLY_PLACE:
            if left_words[who]:
                served = places[who]
                there = aux_words(row, machine) - left_words[who]
                aux_free = at.command(
                    aux, when + 1, row[row_of.ADDRESS] + there, left_words[who])
            complete, first = run_granted(
                row, max(event[who], asked[who] + 1), machine, waiting[who], aux, aux_offered,
                aux_taken, aux_answered)
            waited = max(0, first - begin)
        elif opcode == LUT or opcode == SIMD:
            before = stores[finished[LINEAR_ENGINE] % (2 * QUEUE_DEPTH)]
            stored = NEVER
            if finished[STORE_ENGINE] >= before:
                # Where more have followed, the oldest that is known comes a little late.
                oldest = max(before, finished[STORE_ENGINE] - 2 * QUEUE_DEPTH + 1)
                stored = ends[STORE_ENGINE, (oldest - 1) % (2 * QUEUE_DEPTH)] if oldest else 0
            ready = linear.prefetch(
                row, steps[step, HANDED], begin, stored, reads, weight, machine)
            if opcode == LUT:
                complete, waited = linear.lut(
                    row, begin, ready, reads, machine, weight, weight_offered, weight_taken,
                    weight_answered)
            else:
                complete, waited = linear.simd(
                    row, begin, machine, weight, weight_offered, weight_taken, weight_answered)
        elif opcode == SEARCH:
            complete, waited = linear.search(
                row, begin, machine, ports[CENTROID], offered[CENTROID], taken[CENTROID],
                answered[CENTROID])
        elif opcode == STORE:
            complete = engines.store(row, begin, machine, writes, answers)
        elif opcode == APPEND:
            complete = engines.append(row, begin, machine, writes, answers)
        elif opcode == SOFTMAX:
            complete = engines.softmax(row, begin, machine)
        elif opcode == ORDER:
            complete = engines.order(row, begin)
        else:
            complete = engines.hadamard(row, begin)

        steps[step, COMPLETED], steps[step, WAITED] = complete, waited
        ends[who, finished[who] % (2 * QUEUE_DEPTH)] = complete
        finished[who] += 1
        last[who], previous[who], current[who], changed[who] = complete, step, -1, 1
        post = row[row_of.POST]
        for consumer in range(ENGINES):
            if post >> consumer & 1:
                number = posted[who, consumer] % TOKEN_RING
                posts[who, consumer, number], posters[who, consumer, number] = complete, step
                posted[who, consumer] += 1
                changed[consumer] = 1

    complete = consumed
    for engine in range(ENGINES):
        if finished[engine] != queued[engine]:
            return -1
        complete = max(complete, last[engine])
    return int(complete + 1) if ended else -1
