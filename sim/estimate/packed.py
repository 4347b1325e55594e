"""Instructions as arrays: what is alike of many is worked out once, by the compiler's functions.

Instructions of one shape differ only in where their data lie. A shape has a row, counters, and
accesses; a place is a number that an access begins behind.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np

from compiler.image.access import Access, accesses
from compiler.image.program import Task
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import Opcode
from hw.register_map import counters as counter_names
from sim.estimate.breakdown import short_name
from sim.estimate.counters import counters_of
from sim.estimate.rows import pack_row

PLACES = ("source", "destination", "operands", "alphas", "scales", "factor", "order", "entry",
          "accumulator", "bank")
"""Fields that say where data lie, and nothing else."""
BANK, ACCUMULATOR = PLACES.index("bank"), PLACES.index("accumulator")
"""The accumulator's place has its bank's first word in it."""
UNUSED = {*PLACES, "column"}
ADDRESS = len(PLACES)
"""Place of a region, as a line."""
NOT_MODELLED = ("waiting_", "prefetched_words")
"""Counters of the circuit that the model does not have."""
NOWHERE = ADDRESS + 1
"""Place of an access that does not depend on one."""
PLACE_COUNT = NOWHERE + 1
TAG = 1 << 44
"""Far more than a field: tells which place an access begins behind."""
(SPACE, WRITE, PLACE, START, COUNT, ROWS, STRIDE, OUTER, OUTER_STRIDE) = range(9)
ACCESS_FIELDS = 9
"""Columns of an access: as `compiler.image.access.Access`, START from its place on."""


Getter = Callable[[Mapping[str, int]], Hashable]


@dataclass(frozen=True)
class Packed:
    """Instructions without tokens.

    rows: as `sim.estimate.rows`, ADDRESS from the region on. shapes, names: number of each one's
    shape, and of the operation it belongs to. places: [n, PLACE_COUNT], the address still 0.
    regions: what the addresses point to.
    """

    tasks: Sequence[Task]
    rows: Ints
    shapes: Ints
    names: Ints
    places: Ints
    regions: Sequence[str]


def flattened(access: Access) -> list[int]:
    """Columns of an access; runs that touch are one."""
    place, start = divmod(access.start, TAG)
    count, stride, outer_stride = access.count, access.stride, access.outer_stride
    rows, outer = access.rows if stride else 1, access.outer if outer_stride else 1
    if stride == count:
        count, rows = count * rows, 1
    if rows == 1 and outer_stride == count:
        count, outer = count * outer, 1
    return [int(access.space), int(access.write), (place or NOWHERE + 1) - 1, start, count, rows,
            stride, outer, outer_stride]


@dataclass
class Shapes:
    """Shapes of instructions of one configuration, by their fields but for places.

    names: operations without layer and head, by opcode the first one's. columns: counters of the
    circuit that the model has, as `counted` has them.
    """

    config: HardwareConfig
    rows: list[Ints] = field(default_factory=list)
    accesses: list[Ints] = field(default_factory=list)
    counted: list[Ints] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    opcodes: list[Opcode] = field(default_factory=list)
    columns: dict[str, int] = field(init=False)
    known: dict[Hashable, int] = field(default_factory=dict)
    known_names: dict[str, int] = field(default_factory=dict)
    getters: dict[Hashable, tuple[Getter, Getter, list[int]]] = field(default_factory=dict)
    begins: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    all_accesses: Ints = field(init=False)

    def __post_init__(self) -> None:
        names = [name for name in counter_names(self.config)
                 if not name.startswith(NOT_MODELLED)]
        self.columns = {name: column for column, name in enumerate([*names, "cycles"])}

    def number(self, task: Task) -> int:
        """Number of a new shape."""
        fields = {name: value for name, value in task.fields.items() if name not in UNUSED}
        tagged = {name: (number + 1) * TAG for number, name in enumerate(PLACES)}
        tagged |= {"bank": 0, "address": (ADDRESS + 1) * TAG}
        self.rows.append(pack_row(task.opcode, {**fields, "address": 0}, self.config))
        self.accesses.append(np.array([flattened(access) for access in accesses(
            task.opcode, {**tagged, **fields}, self.config)]).reshape(-1, ACCESS_FIELDS))
        counted = np.zeros(len(self.columns), np.int64)
        for name, value in counters_of(task.opcode, task.fields, self.config).items():
            counted[self.columns[name]] = value
        self.counted.append(counted)
        return len(self.rows) - 1

    def name(self, task: Task) -> int:
        """Number of an operation without its layer and head."""
        name = short_name(task.op)
        if name not in self.names:
            self.names[name] = len(self.names)
            self.opcodes.append(task.opcode)
        return self.names[name]

    def operations(self) -> list[tuple[str, Opcode]]:
        """Operations by number."""
        return list(zip(self.names, self.opcodes, strict=True))

    def getter(self, names: Sequence[str]) -> tuple[Getter, Getter, list[int]]:
        """Of instructions with these fields: the shape's, those of places, and their numbers."""
        columns = [number for number, name in enumerate(PLACES) if name in names]
        shaped = [name for name in names if name not in UNUSED]
        # An instruction without places still has a place nowhere.
        return (itemgetter(*shaped), itemgetter(*(PLACES[number] for number in columns))
                if columns else itemgetter(shaped[0]), columns or [NOWHERE])

    def pack(self, tasks: Sequence[Task]) -> Packed:
        """Instructions as arrays; LOOP has no shape."""
        shapes, names = [], []
        places: dict[Hashable, tuple[list[int], list[Hashable]]] = {}
        for index, task in enumerate(tasks):
            fields = task.fields
            signature = task.opcode, *fields
            getter = self.getters.get(signature)
            if getter is None:
                getter = self.getters[signature] = self.getter(tuple(fields))
            key = signature, getter[0](fields)
            number = self.known.get(key)
            if number is None:
                number = self.known[key] = self.number(task)
            shapes.append(number)
            name = self.known_names.get(task.op)
            if name is None:
                name = self.known_names[task.op] = self.name(task)
            names.append(name)
            at = places.setdefault(signature, ([], []))
            at[0].append(index)
            at[1].append(getter[1](fields))
        begins = np.zeros((len(tasks), PLACE_COUNT), np.int64)
        for made, (indices, values) in places.items():
            columns = self.getters[made][2]
            begins[np.array(indices)[:, None], columns] = np.array(values).reshape(
                -1, len(columns))
        begins[:, ACCUMULATOR] += begins[:, BANK] * self.config.accumulator_words
        begins[:, NOWHERE] = 0
        return Packed(
            tasks=tasks, rows=np.array([self.rows[number] for number in shapes]),
            shapes=np.array(shapes), names=np.array(names), places=begins,
            regions=[task.region for task in tasks])

    def templates(self) -> tuple[Ints, Ints]:
        """First access of every shape, the end of the last behind them, and all accesses."""
        if len(self.begins) <= len(self.accesses):
            counts = [len(found) for found in self.accesses]
            self.begins = np.cumsum([0, *counts])
            self.all_accesses = np.concatenate(self.accesses)
        return self.begins, self.all_accesses
