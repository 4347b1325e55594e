"""Programs: instructions before they have addresses, what each one touches, and their encoding."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compiler.image.layout import align
from compiler.image.records import RecordFormat
from compiler.image.weights import WeightFormat
from hw.config import HardwareConfig
from hw.errors import LutripError
from hw.fixed import Ints
from hw.isa import INSTRUCTION_BYTES, LINE_BYTES, Engine, Opcode, SimdMode, decode, encode

ALPHA_ENTRIES = 4096
SCALE_ENTRIES = 256
ACCUMULATOR_BANKS = 2
FUNCTION_BYTES = 1024
PARAMETER_WORDS = 4
"""Port words of drain parameters for each vector word."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One instruction without its address: ``region`` names what the address field points to.

    op: name of the IR operation it belongs to. wait, post: engine masks.
    """

    opcode: Opcode
    fields: Mapping[str, int]
    region: str
    op: str
    wait: int = 0
    post: int = 0


class Space(enum.IntEnum):
    """Stores that instructions share; the unit of MEMORY is a line, else the store's word."""

    VECTOR = 0
    OPERAND = 1
    ALPHAS = 2
    SCALES = 3
    ACCUMULATOR = 4
    MEMORY = 5


@dataclass(frozen=True)
class Access:
    """``rows`` runs of ``count`` words, ``stride`` apart."""

    space: Space
    write: bool
    start: int
    count: int
    rows: int = 1
    stride: int = 0

    @property
    def stop(self) -> int:
        """Word behind the last one."""
        return self.start + (self.rows - 1) * self.stride + self.count

    def words(self) -> Ints:
        """Every word touched."""
        runs = np.arange(self.rows) * self.stride
        return (self.start + runs[:, None] + np.arange(self.count)).reshape(-1)


def space_words(space: Space, config: HardwareConfig, image_bytes: int) -> int:
    """Size of a store."""
    return {
        Space.VECTOR: config.vector_words,
        Space.OPERAND: config.operand_words,
        Space.ALPHAS: ALPHA_ENTRIES,
        Space.SCALES: SCALE_ENTRIES,
        Space.ACCUMULATOR: ACCUMULATOR_BANKS * config.accumulator_words,
        Space.MEMORY: image_bytes // LINE_BYTES,
    }[space]


def operand_rows(tokens: int, int4: bool) -> int:
    """Operand store words of one round."""
    return (tokens + 1) // 2 if int4 else tokens


def memory_bytes(opcode: Opcode, fields: Mapping[str, int], config: HardwareConfig) -> int:
    """Bytes behind the address field."""
    port = config.port_bytes
    if opcode in (Opcode.LOAD, Opcode.STORE):
        return fields["words"] * port
    if opcode == Opcode.SEARCH:
        return fields["rounds"] * config.act_codes_max * port
    if opcode == Opcode.QUANTIZE:
        return align((fields["rounds"] * config.chunks_per_word + 1) // 2, port)
    if opcode == Opcode.DRAIN:
        return fields["words"] * PARAMETER_WORDS * port
    if opcode == Opcode.ACTIVATE:
        return FUNCTION_BYTES
    if opcode == Opcode.LUT:
        form = RecordFormat.of(fields, config)
        region = fields["rounds"] * config.positions_per_port * form.record_words * port
    else:
        weights = WeightFormat.of(fields, config)
        region = weights.blocks * weights.groups * weights.group_bytes
    return (config.weight_ports - 1) * fields["port_stride"] * LINE_BYTES + region


def accesses(
    opcode: Opcode, fields: Mapping[str, int], config: HardwareConfig
) -> list[Access]:
    """What an instruction reads and writes."""
    if opcode == Opcode.END:
        return []
    lines = align(memory_bytes(opcode, fields, config), LINE_BYTES) // LINE_BYTES
    memory = Access(Space.MEMORY, opcode == Opcode.STORE, fields["address"], lines)
    if opcode == Opcode.LOAD:
        return [memory, Access(Space.VECTOR, True, fields["destination"], fields["words"])]
    if opcode == Opcode.STORE:
        return [memory, Access(Space.VECTOR, False, fields["source"], fields["words"])]
    tokens = fields["tokens"]
    if opcode in (Opcode.SEARCH, Opcode.QUANTIZE):
        rounds = fields["rounds"]
        rows = operand_rows(tokens, bool(fields.get("int4")))
        result = [
            memory,
            Access(Space.VECTOR, False, fields["source"], rounds, tokens, fields["stride"]),
            Access(Space.OPERAND, True, fields["operands"], rounds * rows),
        ]
        if opcode == Opcode.QUANTIZE:
            result.append(Access(Space.ALPHAS, True, fields["alphas"], rounds))
            result.append(Access(Space.SCALES, True, fields["scales"], tokens))
        return result
    if opcode == Opcode.ACTIVATE:
        shape = fields["words"], tokens, fields["stride"]
        result = [
            memory,
            Access(Space.VECTOR, False, fields["source"], *shape),
            Access(Space.VECTOR, True, fields["destination"], *shape),
        ]
        if fields["gated"]:
            result.append(Access(Space.VECTOR, False, fields["factor"], *shape))
        return result
    first = fields["bank"] * config.accumulator_words + fields["accumulator"]
    blocks = fields["blocks"]
    if opcode == Opcode.DRAIN:
        used = align(fields["words"] * config.word_elements, config.lanes) // config.lanes
        result = [
            memory,
            Access(Space.ACCUMULATOR, False, first, used, tokens, blocks),
            Access(Space.VECTOR, True, fields["destination"], fields["words"], tokens,
                   fields["stride"]),
        ]
        if fields["token_scale"]:
            result.append(Access(Space.SCALES, False, fields["scales"], tokens))
        return result
    int4 = opcode == Opcode.SIMD and fields["mode"] == SimdMode.W4A4
    operands = fields["rounds"] * operand_rows(tokens, int4)
    result = [
        memory,
        Access(Space.OPERAND, False, fields["operands"], operands),
        Access(Space.ACCUMULATOR, True, first, tokens * blocks),
    ]
    if not fields["first"]:
        result.append(Access(Space.ACCUMULATOR, False, first, tokens * blocks))
    if opcode == Opcode.SIMD:
        result.append(Access(Space.ALPHAS, False, fields["alphas"], fields["rounds"]))
    return result


def encode_program(tasks: Sequence[Task], addresses: Mapping[str, int]) -> bytes:
    """Bytes of the tasks and the END instruction; addresses: byte address of every region."""
    parts = []
    for task in tasks:
        assert addresses[task.region] % LINE_BYTES == 0
        line = addresses[task.region] // LINE_BYTES
        header = {"wait": task.wait, "post": task.post}
        try:
            parts.append(encode(task.opcode, {**task.fields, **header, "address": line}))
        except LutripError as error:
            raise LutripError(f"{task.op}: {error}; use smaller tiles or other hardware") from None
    return b"".join([*parts, encode(Opcode.END, {})])


def decode_program(data: bytes) -> list[tuple[Opcode, dict[str, int]]]:
    """Instructions up to END; raises LutripError when one is wrong or END is missing."""
    result: list[tuple[Opcode, dict[str, int]]] = []
    for index in range(len(data) // INSTRUCTION_BYTES):
        part = data[index * INSTRUCTION_BYTES:(index + 1) * INSTRUCTION_BYTES]
        try:
            opcode, fields = decode(part)
        except LutripError as error:
            raise LutripError(f"instruction {index}: {error}") from None
        if opcode == Opcode.END:
            return result
        result.append((opcode, fields))
    raise LutripError("the program has no END instruction")


def engine_names(mask: int) -> list[str]:
    """Engines of a wait or post mask, lower case."""
    return [engine.name.lower() for engine in Engine if mask >> engine & 1]
