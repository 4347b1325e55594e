"""What the time of a pass goes to: operations, what bounds them, the critical path."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from hw.fixed import Ints
from hw.isa import ENGINE_OF, Opcode
from sim.estimate import rows as row_of
from sim.estimate.plan import PlannedPass
from sim.estimate.program import Timeline
from sim.estimate.timeline import BEGAN, CAUSE, COMPLETED, WAITED, aux_place

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

    def times(self, factor: float) -> Operation:
        """So many of it."""
        return replace(self, instructions=self.instructions * factor,
                       busy_cycles=self.busy_cycles * factor,
                       missing_cycles=self.missing_cycles * factor)

    def joined(self, other: Operation | None) -> Operation:
        """Both together."""
        if other is None:
            return self
        return replace(self, instructions=self.instructions + other.instructions,
                       busy_cycles=self.busy_cycles + other.busy_cycles,
                       missing_cycles=self.missing_cycles + other.missing_cycles)


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


def pass_operations(item: PlannedPass, timeline: Timeline) -> list[Operation]:
    """Operations of a pass."""
    weights = timeline.weights(item.rows)
    spent = (timeline.steps[:, COMPLETED] - timeline.steps[:, BEGAN] + 1) * weights
    missing = timeline.steps[:, WAITED] * weights
    found: dict[str, Operation] = {}
    for step, place in enumerate(timeline.index):
        opcode, name = Opcode(int(item.rows[place, row_of.OPCODE])), short_name(item.ops[place])
        port, unit = bounds_of(opcode)
        one = Operation(
            name=name, engine=ENGINE_OF[opcode].name.lower(), instructions=float(weights[step]),
            busy_cycles=float(spent[step]), missing_cycles=float(missing[step]), port=port,
            unit=unit)
        found[name] = one.joined(found.get(name))
    return list(found.values())


def path_cycles(item: PlannedPass, timeline: Timeline) -> dict[str, float]:
    """Cycles by operation along the chain of instructions that ends the program.

    Each cycle counts once: for an instruction of the chain from when it began until the next one
    of the chain did, at most until it was complete. What is left is instruction fetch and hand-out.
    """
    steps, weights = timeline.steps, timeline.weights(item.rows)
    path: dict[str, float] = defaultdict(float)
    step = int(np.argmax(steps[:, COMPLETED]))
    end = int(steps[step, COMPLETED]) + 1
    while step >= 0:
        begin, weight = min(int(steps[step, BEGAN]), end), float(weights[step])
        done = min(int(steps[step, COMPLETED]) + 1, end)
        path[short_name(item.ops[timeline.index[step]])] += (done - begin) * weight
        path[DISPATCH] += (end - done) * weight
        # Without a completion that it waited for, the one handed out before it stands behind it.
        cause, end = int(steps[step, CAUSE]), begin
        step = cause if cause >= 0 else step - 1
    path[DISPATCH] += end
    return dict(path)
