"""Cycles of a program by the event model."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.image.program import Instruction
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import Opcode
from hw.memory.axi import BEATS_MAX
from sim.estimate import machine as of
from sim.estimate import rows as row_of
from sim.estimate.machine import machine
from sim.estimate.port import BURST_RING, read_port, ring_words
from sim.estimate.rows import pack_rows
from sim.estimate.state import fresh_state
from sim.estimate.timeline import PORTS, STEP_FIELDS, run_program
from sim.records import MemoryModel

ENDS = 5
"""Iterations of a loop whose ends are kept."""
WHOLE = 1 << 12
"""More iterations than a LOOP can have."""


def alike_of(period: int, ran: int) -> int:
    """Last iterations of a loop that stand for those left out; where they do not repeat, all whose
    ends are known, as refresh comes at a different place of each.
    """
    return period or max(1, min(ENDS - 1, ran - 1))


@dataclass(frozen=True)
class Timeline:
    """When the instructions of a program ran.

    cycles: of the whole program, loops in full. rows: the program's. index: stored place of every
    executed instruction; steps: their cycles (`sim.estimate.timeline`). loops: of each LOOP its
    iterations, those that were executed, how many of them repeat, and where the last five ended.
    """

    cycles: int
    rows: Ints
    index: Ints
    steps: Ints
    loops: Ints

    @functools.cached_property
    def weights(self) -> Ints:
        """How many iterations each executed instruction stands for: the last ones for the rest."""
        result = np.ones(len(self.index), np.int64)
        places = np.flatnonzero(self.rows[:, row_of.OPCODE] == Opcode.LOOP)
        for place, (iterations, ran, period, *_) in zip(places, self.loops, strict=True):
            length = int(self.rows[place, row_of.WORDS])
            body = np.flatnonzero((self.index > place) & (self.index <= place + length))
            rest, alike = int(iterations - ran), alike_of(int(period), int(ran))
            for number in range(alike):
                last = len(body) - number * length
                result[body[last - length:last]] += (rest + alike - 1 - number) // alike
        return result


@dataclass(frozen=True)
class Circuit:
    """A hardware configuration with a memory, ready for many programs."""

    machine: Ints
    ports: Ints
    ring: int

    @classmethod
    def of(
        cls, config: HardwareConfig, memory: MemoryModel, *, exact: bool = False
    ) -> Circuit:
        """The circuit's integers; ``exact``: long instructions are worked out in full."""
        values, rate = machine(config), memory.word_rate(config)
        values[of.WRITE_LATENCY], values[of.WRITE_OUTSTANDING] = (
            memory.latency_cycles, memory.outstanding)
        values[of.EXACT] = exact
        values[of.WRITE_RATE], values[of.WRITE_PERIOD] = rate.numerator, rate.denominator
        return cls(values, np.stack([read_port(config, memory)] * PORTS), ring_words(config))

    def run(self, rows: Ints, place: int = 0, most: int = WHOLE) -> Timeline:
        """A program's timeline; ``most`` iterations of a loop are run, the others are like them.

        Where prefetched weights run ahead, iterations repeat in twos or threes; fewer than ``most``
        are run where those are found.

        rows: from `sim.estimate.rows.pack_rows`; place: port word where the program begins.
        """
        loops = np.zeros((int((rows[:, row_of.OPCODE] == Opcode.LOOP).sum()) + 1, 8), np.int64)
        executed = len(rows)
        for row in rows[rows[:, row_of.OPCODE] == Opcode.LOOP]:
            executed += int(row[row_of.WORDS]) * (min(int(row[row_of.ROUNDS]), most) - 1)
        index = np.zeros(executed, np.int64)
        steps = np.zeros((executed, STEP_FIELDS), np.int64)
        cycles = run_program(
            rows, place, most, self.machine, self.ports.copy(),
            np.zeros((PORTS, BEATS_MAX), np.int64),
            np.zeros((PORTS, self.ring), np.int64), np.zeros((PORTS, BURST_RING), np.int64),
            index, steps, loops, *fresh_state(self.machine))
        assert cycles > 0, "the program gets stuck"
        bodies = rows[rows[:, row_of.OPCODE] == Opcode.LOOP, row_of.WORDS]
        count = executed - len(bodies) - 1
        for body, (iterations, ran, period, *ends) in zip(bodies, loops[:-1].tolist(), strict=True):
            alike = alike_of(period, ran)
            cycles += (iterations - ran) * (ends[-1] - ends[-1 - alike]) // alike
            count -= int(body) * (min(iterations, most) - ran)
        return Timeline(int(cycles), rows, index[:count], steps[:count], loops[:-1])


def program_cycles(
    program: Sequence[Instruction], config: HardwareConfig, memory: MemoryModel
) -> int:
    """Cycles of a decoded program."""
    return Circuit.of(config, memory).run(pack_rows(program, config)).cycles
