"""Cycles of the engines that read parameters through the shared aux port.

The functions follow `hw.units.load_engine`, `quantize_engine`, `drain_engine` with its parts,
`activate_engine`, `norm_engine` and `rope_engine`. ``granted`` is the cycle in which the engine's
command was taken; each returns the cycle in which the engine completes its task, and the cycle of
its first word. Words of all but LOAD come through a ``queue`` (`sim.estimate.early`).
"""

from __future__ import annotations

from hw.fixed import Ints
from hw.golden.norm import ROOT_BITS
from hw.isa import DrainMode
from hw.units import activation_lane, dequantizer_lane, norm_lane, rope_lane
from hw.units.drain_reader import PARAMETER_WORDS
from hw.units.norm_passes import RESULT_LAG
from hw.units.quantize_engine import INVERSE_STEP_BITS
from hw.units.quantize_lanes import INVERSE_WIDTH
from hw.units.reciprocal_root import RECIPROCAL_WIDTH, STEP_BITS
from sim.estimate import early
from sim.estimate import machine as of
from sim.estimate import port as at
from sim.estimate import rows as row_of
from sim.estimate.jit import compiled
from sim.estimate.linear import WARM, WINDOW

READER_CYCLES = 2
"""From a granted read of the vector memory to the word (`hw.units.vector_reader`)."""
ORDER_CYCLES = 4
"""Until the first row in the order of tokens is found (`hw.units.ordered_rows`)."""
LANES_CYCLES = 3
"""Of the quantizer's lanes."""
INVERSE_CYCLES = INVERSE_WIDTH // INVERSE_STEP_BITS + 1
THRESHOLDS, ORDERED = row_of.THRESHOLDS, row_of.ORDERED
RESIDUAL, ARGMAX = int(DrainMode.RESIDUAL), int(DrainMode.ARGMAX)
ADDER_CYCLES = 2
"""Of a word that is added to the residual (`hw.units.residual_adder`)."""
LOOKUP_CYCLES = 3
"""Of a row whose place is looked up (`hw.units.ordered_rows`)."""
PAIR_CYCLES = 6
"""From the first read of a word's pair to its last write."""
DEQUANTIZER = dequantizer_lane.STAGES
ACTIVATION = activation_lane.STAGES
NORM = norm_lane.STAGES
PRODUCT = norm_lane.PRODUCT_STAGE + 1
ROPE = rope_lane.STAGES
ROOT_STEPS = ROOT_BITS // STEP_BITS + 2
"""From the start of a root to that of the next (`hw.units.reciprocal_root`)."""
FACTOR_CYCLES = ROOT_STEPS + RECIPROCAL_WIDTH // STEP_BITS + 1
"""From the start of a row's root until its factor is known."""
ROUNDS_EXACT = 16
"""Rounds of a NORM that are worked out before all are taken to be alike."""


@compiled
def load(
    row: Ints, granted: int, port: Ints, offered: Ints, taken: Ints, answered: Ints
) -> tuple[int, int]:
    """A LOAD."""
    first = at.peek(port, offered, taken, answered)
    last = at.take_all(port, offered, taken, answered, granted + 1, row[row_of.WORDS])
    return last + 1, first


@compiled
def quantize(
    row: Ints, granted: int, machine: Ints, queue: Ints, port: Ints, offered: Ints, taken: Ints,
    answered: Ints,
) -> tuple[int, int]:
    """A QUANTIZE: factors are unpacked, an entry a cycle, while the first row's peak is found."""
    rounds, left = row[row_of.ROUNDS], row[row_of.ROUNDS]
    popped = granted + READER_CYCLES
    if row[row_of.MODE] & ORDERED:
        popped += ORDER_CYCLES
    unpacked = granted
    first = early.peek(queue, port, offered, taken, answered)
    for _ in range(row[row_of.WORDS]):
        unpacked = max(unpacked + 1, early.peek(queue, port, offered, taken, answered))
        inside = min(left, machine[of.FACTOR_ENTRIES])
        popped = max(popped, unpacked) + inside
        unpacked += inside - 1
        early.take(queue, port, offered, taken, answered, unpacked)
        left -= inside
    for number in range(row[row_of.ROWS]):
        if number:
            popped += rounds
        popped += machine[of.PEAK_LEVELS] + INVERSE_CYCLES + 4
        if row[row_of.MODE] & THRESHOLDS:
            at.command(port, popped - INVERSE_CYCLES, row[row_of.ADDRESS], rounds)
            popped += 1
            for _ in range(rounds):
                popped = early.take(queue, port, offered, taken, answered, popped + 1)
        else:
            popped += rounds
        popped += LANES_CYCLES + 2
    return popped + 1, first


@compiled
def drain(
    row: Ints, granted: int, machine: Ints, queue: Ints, port: Ints, offered: Ints, taken: Ints,
    answered: Ints,
) -> tuple[int, int]:
    """A DRAIN: parameters of a vector word are collected while those before are in use."""
    rows, words, mode = row[row_of.ROWS], row[row_of.WORDS], row[row_of.MODE]
    if row[row_of.PASS]:
        rows, words = rows * words, 1
    adder, each = LOOKUP_CYCLES if row[row_of.EXTRA] else ADDER_CYCLES, row[row_of.STEPS]
    first = early.peek(queue, port, offered, taken, answered)
    early.take_all(queue, port, offered, taken, answered, granted + 1, machine[of.HEADER])
    collecting, left, out = granted + 1, granted, granted - 1000
    number, mark, marked, answer = 0, 0, 0, 0
    while number < words:
        number += 1
        count = PARAMETER_WORDS if number == 1 else each
        full = early.take_all(queue, port, offered, taken, answered, collecting, count) + 1
        step = max(full, left + 1)
        if mode == RESIDUAL:
            # The pipeline stands while the adder works on the word in front.
            step = max(step, out - DEQUANTIZER * adder + adder - 1)
            begin = max(step + DEQUANTIZER + 1, out + adder)
            out = begin + adder * (rows - 1)
            left = max(step + rows - 1, out - DEQUANTIZER * adder - 1)
        else:
            left = step + rows - 1
            out = left + DEQUANTIZER + 1
        collecting = step
        if mark == 0 and early.steady(port, number, WARM, each):
            mark, marked, answer = number, step, port[at.LAST_ANSWER]
        elif mark != 0 and number == mark + WINDOW and machine[of.EXACT] == 0:
            windows = at.left_out(number, words, each, WINDOW)
            cycles = early.skip(queue, port, offered, taken, answered, windows, each * WINDOW,
                                step - marked, port[at.LAST_ANSWER] - answer)
            out, left, collecting = out + cycles, left + cycles, collecting + cycles
            number += windows * WINDOW
    if mode == RESIDUAL:
        return out + PAIR_CYCLES, first
    if mode == ARGMAX:
        return out + machine[of.LEVELS] + 2, first
    return out + 1, first


@compiled
def activate(
    row: Ints, granted: int, machine: Ints, queue: Ints, port: Ints, offered: Ints, taken: Ints,
    answered: Ints,
) -> tuple[int, int]:
    """An ACTIVATE: the table, an entry a cycle, then the words."""
    first = early.peek(queue, port, offered, taken, answered)
    early.take_all(queue, port, offered, taken, answered, granted + 1, machine[of.HEADER])
    entry = granted
    for _ in range(machine[of.TABLE_WORDS]):
        entry = max(entry + 1, early.peek(queue, port, offered, taken, answered))
        entry += machine[of.TABLE_ENTRIES] - 1
        early.take(queue, port, offered, taken, answered, entry)
    reads, steps = 1 + row[row_of.MODE], machine[of.ACTIVATE_STEPS]
    begin = entry + 1 + reads + 1
    last = begin + (row[row_of.WORDS] - 1) * max(steps, reads) + steps - 1
    return last + ACTIVATION + 1, first


@compiled
def norm(
    row: Ints, granted: int, machine: Ints, queue: Ints, port: Ints, offered: Ints, taken: Ints,
    answered: Ints,
) -> tuple[int, int]:
    """A NORM: rounds of passes over several rows, each as soon as its row's scale is known."""
    reads, rows, center = row[row_of.WORDS] * row[row_of.PASS], row[row_of.ROWS], row[row_of.MODE]
    first = early.peek(queue, port, offered, taken, answered)
    header = early.take_all(queue, port, offered, taken, answered, granted + 1, machine[of.HEADER])
    last = early.take_all(queue, port, offered, taken, answered, header + 1, 2 * row[row_of.WORDS])
    summed = PRODUCT + machine[of.LEVELS] + 1
    # Cycles from which the last row's exponent and mean can be used, and the last rows' factors.
    exponent, mean, factors = granted, granted, (granted, granted, granted, granted)
    # A pass begins with the last word of the one before; its words go in behind.
    begin, root, before = max(header + 2, granted + READER_CYCLES + 2), granted, granted
    square_lag = 2 if center else 1
    result_lag = square_lag + RESULT_LAG
    number, moved = 0, 0
    while number < rows + result_lag:
        known, squared = exponent, mean if center else exponent
        if number < rows:
            begin += reads
            exponent = begin + 3
        if center and 1 <= number <= rows:
            begin = max(begin, known) + reads
            mean = begin + summed + 3
        factor = factors[0]
        if square_lag <= number < rows + square_lag:
            begin = max(begin, squared) + reads
            root = max(begin + summed + 3, root + ROOT_STEPS)
            factor = root + FACTOR_CYCLES
        if number >= result_lag:
            begin = max(begin, factors[RESULT_LAG - 1]) + reads
            begin = max(begin, last + 1)
        factors = (factor, factors[0], factors[1], factors[2])
        number += 1
        if number == ROUNDS_EXACT and machine[of.EXACT] == 0 and rows > number:
            # All that follow up to the last row are like this one.
            moved = (rows - number) * (begin - before)
            rows = number
        before = begin
    return begin + moved + NORM + 2, first


@compiled
def rope(
    row: Ints, granted: int, queue: Ints, port: Ints, offered: Ints, taken: Ints, answered: Ints
) -> tuple[int, int]:
    """A ROPE: the first head of a token follows its rotations as they come."""
    words = row[row_of.WORDS]
    first = early.peek(queue, port, offered, taken, answered)
    popped, used = granted + READER_CYCLES, granted
    for _ in range(row[row_of.ROWS]):
        for _ in range(words):
            kept = early.take(queue, port, offered, taken, answered, used + 1)
            popped = max(popped, kept) + 1
        popped += (row[row_of.HEADS] - 1) * words
        used = popped
    return popped + ROPE + 1, first
