"""What the time of a pass goes to: operations, what bounds them, the critical path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hw.fixed import Ints
from hw.isa import ENGINE_OF, Opcode
from sim.estimate import rows as row_of
from sim.estimate.aux_port import aux_place
from sim.estimate.jit import compiled
from sim.estimate.program import Timeline
from sim.estimate.timeline import BEGAN, CAUSE, COMPLETED, WAITED

if TYPE_CHECKING:
    from sim.estimate.packed import Shapes
    from sim.estimate.plan import PlannedPass

Floats = NDArray[np.float64]

DISPATCH = "instruction fetch"
BOUNDS = {
    Opcode.LUT: ("weight port", "lookup lanes"), Opcode.SIMD: ("weight port", "multipliers"),
    Opcode.SEARCH: ("centroid port", "search"),
}
"""Of the engines with ports of their own: what bounds them while words are missing, and else."""
WRITERS = (Opcode.STORE, Opcode.APPEND)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation of all layers.

    busy_cycles: its engine ran it; missing_cycles: of these, words from memory were missing.
    bound: what it would take to be faster.
    """

    name: str
    engine: str
    instructions: float
    busy_cycles: float
    missing_cycles: float
    port: str
    unit: str

    @property
    def bound(self) -> str:
        """The port where words were missing for more than half of the time, else the unit."""
        return self.port if 2 * self.missing_cycles > self.busy_cycles else self.unit


def repeats(rows: Ints) -> Ints:
    """How often each stored instruction runs."""
    result = np.ones(len(rows), np.int64)
    for place in np.flatnonzero(rows[:, row_of.OPCODE] == Opcode.LOOP):
        end = place + 1 + rows[place, row_of.WORDS]
        result[place + 1:end] = rows[place, row_of.ROUNDS]
        # The body is read again in every iteration, the LOOP once.
    return result


def short_name(op: str) -> str:
    """Operation without its layer and head."""
    parts = op.split(".")
    if parts[0] == "layers":
        parts = parts[2:]
    return ".".join(part for part in parts if not part.isdigit())


def bounds_of(opcode: Opcode) -> tuple[str, str]:
    """Port and unit that can bound an instruction."""
    name = ENGINE_OF[opcode].name.lower()
    if opcode in BOUNDS:
        return BOUNDS[opcode]
    if opcode in WRITERS:
        return "write port", "write port"
    return ("aux port" if aux_place(int(opcode)) >= 0 else name), name


def operation_sums(item: PlannedPass, timeline: Timeline) -> Floats:
    """By number of the operation: its instructions, cycles, and those without words."""
    weights, steps, size = timeline.weights, timeline.steps, len(item.known.names)
    numbers = item.names[timeline.index]
    return np.stack([
        np.bincount(numbers, each, size) for each in (
            weights, (steps[:, COMPLETED] - steps[:, BEGAN] + 1) * weights,
            steps[:, WAITED] * weights)])


def operations(sums: Floats, known: Shapes) -> list[Operation]:
    """Operations that ran, those that kept their engine busy longest first.

    sums: of `operation_sums`.
    """
    result = []
    for (name, opcode), (instructions, busy, missing) in zip(
            known.operations(), sums.T.tolist(), strict=True):
        if instructions:
            port, unit = bounds_of(opcode)
            result.append(Operation(
                name=name, engine=ENGINE_OF[opcode].name.lower(), instructions=instructions,
                busy_cycles=busy, missing_cycles=missing, port=port, unit=unit))
    return sorted(result, key=lambda one: -one.busy_cycles)


@compiled
def walk(steps: Ints, weights: Ints, numbers: Ints, path: Ints) -> None:
    """Add up the critical path by operation, the last number for what is left.

    numbers: operation of every executed instruction.
    """
    rest, step = len(path) - 1, 0
    for other in range(len(steps)):
        if steps[other, COMPLETED] > steps[step, COMPLETED]:
            step = other
    end = steps[step, COMPLETED] + 1
    while step >= 0:
        begin, done = min(steps[step, BEGAN], end), min(steps[step, COMPLETED] + 1, end)
        path[numbers[step]] += (done - begin) * weights[step]
        path[rest] += (end - done) * weights[step]
        # Without a completion that it waited for, the one handed out before it stands behind it.
        cause, end = steps[step, CAUSE], begin
        step = cause if cause >= 0 else step - 1
    path[rest] += end


def path_sums(item: PlannedPass, timeline: Timeline) -> Ints:
    """Cycles by number of the operation along the chain of instructions that ends the program.

    Each cycle counts once: for an instruction of the chain from when it began until the next one
    of the chain did, at most until it was complete. What is left is instruction fetch and hand-out,
    the last number.
    """
    path = np.zeros(len(item.known.names) + 1, np.int64)
    walk(timeline.steps, timeline.weights, item.names[timeline.index], path)
    return path
