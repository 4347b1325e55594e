"""Programs: instructions before they have addresses, their encoding, and loops unrolled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compiler.image.layout import Buffer
from hw.errors import LutripError
from hw.isa import FIELDS, INSTRUCTION_BYTES, LINE_BYTES, Base, Engine, Opcode, decode, encode

Instruction = tuple[Opcode, dict[str, int]]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One instruction without its address: ``region`` names what the address field points to.

    op: name of the IR operation it belongs to. wait, post: engine masks. base: what a loop adds
    to the address. LOOP, HADAMARD, SOFTMAX and ORDER have no address and no region.
    """

    opcode: Opcode
    fields: Mapping[str, int]
    op: str
    region: str = ""
    wait: int = 0
    post: int = 0
    base: Base = Base.ABSOLUTE

    @property
    def addressed(self) -> bool:
        """It has an address field."""
        return "address" in FIELDS[self.opcode]


def encode_program(tasks: Sequence[Task], addresses: Mapping[str, int]) -> bytes:
    """Bytes of the tasks and the END instruction; addresses: byte address of every region."""
    parts = []
    for task in tasks:
        values = {**task.fields, "wait": task.wait, "post": task.post, "base": int(task.base)}
        if task.addressed:
            assert addresses[task.region] % LINE_BYTES == 0
            values["address"] = addresses[task.region] // LINE_BYTES
        try:
            parts.append(encode(task.opcode, values))
        except LutripError as error:
            raise LutripError(f"{task.op}: {error}; use smaller tiles or other hardware") from None
    return b"".join([*parts, encode(Opcode.END, {})])


def decode_program(data: Buffer) -> list[Instruction]:
    """Stored instructions up to END, LOOP among them.

    Raises LutripError when one is wrong, a loop is empty, nested or longer than the program, or
    END is missing.
    """
    result: list[Instruction] = []
    view = np.frombuffer(data, np.uint8)
    loop_end = 0
    for index in range(len(view) // INSTRUCTION_BYTES):
        part = view[index * INSTRUCTION_BYTES:(index + 1) * INSTRUCTION_BYTES].tobytes()
        try:
            opcode, fields = decode(part)
        except LutripError as error:
            raise LutripError(f"instruction {index}: {error}") from None
        if opcode == Opcode.END and index >= loop_end:
            return result
        if opcode == Opcode.END:
            raise LutripError(f"instruction {index} (END): stands inside a loop")
        if opcode == Opcode.LOOP:
            where = f"instruction {index} (LOOP)"
            if index < loop_end:
                raise LutripError(f"{where}: loops do not nest")
            for name in ("count", "length"):
                if not fields[name]:
                    raise LutripError(f"{where}: {name} is 0")
            loop_end = index + 1 + fields["length"]
        result.append((opcode, fields))
    raise LutripError("the program has no END instruction")


@dataclass(frozen=True)
class Step:
    """An instruction as it runs: place in the stored program, loop iteration, fields.

    The address is that of the iteration.
    """

    index: int
    iteration: int
    opcode: Opcode
    fields: Mapping[str, int]


def steps(program: Sequence[Instruction], limit: int | None = None) -> Iterator[Step]:
    """Instructions in the order in which they run, at most ``limit`` iterations of each loop."""
    index = 0
    while index < len(program):
        opcode, fields = program[index]
        if opcode != Opcode.LOOP:
            yield Step(index, 0, opcode, fields)
            index += 1
            continue
        body = range(index + 1, index + 1 + fields["length"])
        strides = {int(Base.FIRST): fields["first_stride"],
                   int(Base.SECOND): fields["second_stride"]}
        count = fields["count"] if limit is None else min(fields["count"], limit)
        for iteration in range(count):
            for inner in body:
                own_opcode, own = program[inner]
                stride = strides.get(own["base"], 0)
                if stride and "address" in own:
                    own = {**own, "address": own["address"] + iteration * stride}
                yield Step(inner, iteration, own_opcode, own)
        index = body.stop


def expand_program(
    program: Sequence[Instruction], limit: int | None = None
) -> Iterator[tuple[int, Opcode, Mapping[str, int]]]:
    """`steps` as (index in the stored program, opcode, fields with that iteration's address)."""
    for step in steps(program, limit):
        yield step.index, step.opcode, step.fields


def engine_names(mask: int) -> list[str]:
    """Engines of a wait or post mask, lower case."""
    return [engine.name.lower() for engine in Engine if mask >> engine & 1]
