"""Clients of the aux port: their places in turn, their words, and what runs on them."""

from __future__ import annotations

from hw.fixed import Ints
from hw.isa import Opcode
from hw.units.drain_reader import PARAMETER_WORDS
from sim.estimate import aux_engines
from sim.estimate import machine as of
from sim.estimate import rows as row_of
from sim.estimate.jit import compiled
from sim.estimate.port import take

LOAD, GATHER, QUANTIZE, DRAIN, ACTIVATE, NORM, ROPE = (
    int(Opcode[name]) for name in (
        "LOAD", "GATHER", "QUANTIZE", "DRAIN", "ACTIVATE", "NORM", "ROPE"))
AUX_PLACES, EARLY_PLACE = 7, 3
"""Clients of the aux port, and the first of those that read early; instruction fetch has place 0
(`hw.memory.aux_port`)."""


@compiled
def aux_place(opcode: int) -> int:
    """Place of a client among those of the aux port (`hw.memory.aux_port`), or -1."""
    if opcode == LOAD:
        return 1
    if opcode == GATHER:
        return 2
    if opcode == QUANTIZE:
        return 3
    if opcode == DRAIN:
        return 4
    if opcode == ACTIVATE:
        return 5
    if opcode == NORM or opcode == ROPE:
        return 6
    return -1


@compiled
def run_granted(
    row: Ints, granted: int, machine: Ints, queue: Ints, port: Ints, offered: Ints, taken: Ints,
    answered: Ints,
) -> tuple[int, int]:
    """Completion and first word of an engine whose words come through its queue."""
    opcode = row[row_of.OPCODE]
    if opcode == QUANTIZE:
        return aux_engines.quantize(row, granted, machine, queue, port, offered, taken, answered)
    if opcode == DRAIN:
        return aux_engines.drain(row, granted, machine, queue, port, offered, taken, answered)
    if opcode == ACTIVATE:
        return aux_engines.activate(row, granted, machine, queue, port, offered, taken, answered)
    if opcode == NORM:
        return aux_engines.norm(row, granted, machine, queue, port, offered, taken, answered)
    return aux_engines.rope(row, granted, queue, port, offered, taken, answered)


@compiled
def aux_words(row: Ints, machine: Ints) -> int:
    """Port words of the first command of an instruction that is read for early."""
    opcode = row[row_of.OPCODE]
    if opcode == DRAIN:
        behind = 0 if row[row_of.PASS] else row[row_of.WORDS] - 1
        return int(machine[of.HEADER] + PARAMETER_WORDS + behind * row[row_of.STEPS])
    if opcode == ACTIVATE:
        return int(machine[of.HEADER] + machine[of.TABLE_WORDS])
    if opcode == NORM:
        return int(machine[of.HEADER] + 2 * row[row_of.WORDS])
    if opcode == ROPE:
        return int(row[row_of.ROWS] * row[row_of.WORDS])
    return int(row[row_of.WORDS])


@compiled
def gather_words(
    row: Ints, granted: int, machine: Ints, port: Ints, offered: Ints, taken: Ints, answered: Ints
) -> int:
    """Cycle of the last write of a token's row (`hw.units.gather_engine`)."""
    work = machine[of.ACTIVATE_STEPS] + 3 + (3 if row[row_of.MODE] & row_of.ADD else 0)
    last = granted
    for _ in range(row[row_of.WORDS]):
        last = take(port, offered, taken, answered, last + 1) + work
    return last
