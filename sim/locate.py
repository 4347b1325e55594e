"""Where a wrong beat stands: instruction, operation, layer and element of the tensor."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from compiler.image.program import Step
from hw.config import HardwareConfig
from hw.isa import LINE_BYTES, DrainMode, Opcode
from sim.compare import OPERAND_TAPS, Mismatch

LAYER = re.compile(r"(?<=^layers\.)\d+")


def operation(op: str, iteration: int) -> str:
    """Name of an operation in an iteration of its loop, which runs over layers."""
    return LAYER.sub(lambda number: str(int(number[0]) + iteration), op, count=1)


def layer_of(op: str) -> int | None:
    """Layer that an operation belongs to, None for the embedding and the head."""
    found = LAYER.search(op)
    return int(found[0]) if found else None


def _place(
    address: int, start: int, words: int, fields: Mapping[str, int], prefix: str = ""
) -> tuple[int, int]:
    """Row and word of an address in a tensor of tokens x heads rows (ordered: token and word)."""
    heads = fields.get("heads", 1)
    stride = fields[f"{prefix}stride"]
    head_stride = fields.get(f"{prefix}head_stride", 0)
    ordered = fields.get("ordered")
    for row in range(fields["order_tokens"] if ordered else fields["tokens"] * heads):
        first = start + row // heads * stride + row % heads * head_stride
        if 0 <= address - first < words:
            return row, address - first
    raise AssertionError(f"address {address} is in no row of the instruction")


def element(
    opcode: Opcode, fields: Mapping[str, int], address: int, byte: int, config: HardwareConfig
) -> list[int]:
    """[row, input or column] of a beat's byte, or [element] of a linear transfer.

    A row is a token, or a head of a token. Of residual pairs the element counts, not its half.
    APPEND: [byte] from the address field on. ORDER: [place in the order].
    """
    elements = config.word_elements
    if opcode in (Opcode.SEARCH, Opcode.QUANTIZE, Opcode.SOFTMAX):
        rows = fields["tokens"] * fields.get("heads", 1)
        if fields.get("int4"):
            rows = -(-rows // 2)
        round_, row = divmod(address - fields["operands"], rows)
        return [row, round_ * elements + byte]
    if opcode == Opcode.ORDER:
        return [address]
    if opcode == Opcode.LOAD:
        return [(address - fields["destination"]) * elements + byte // 2]
    if opcode == Opcode.STORE:
        return [(address - fields["address"] * LINE_BYTES + byte) // 2]
    if opcode == Opcode.APPEND:
        return [address - fields["address"] * LINE_BYTES + byte]
    if opcode == Opcode.DRAIN and fields["mode"] == DrainMode.ARGMAX:
        return [byte // 4]
    words, column = fields["words"], byte // 2
    if opcode == Opcode.NORM:
        row, word = _place(address, fields["destination"], words, fields, "destination_")
        return [row, word * elements + column]
    if opcode in (Opcode.ROPE, Opcode.HADAMARD):
        row, word = _place(address, fields["source"], words, fields)
        return [row, word * elements + column]
    if opcode == Opcode.GATHER or fields.get("mode") == DrainMode.RESIDUAL:
        row, word = _place(address, fields["destination"], 2 * words, fields)
        return [row, word // 2 * elements + column]
    row, word = _place(address, fields["destination"], words, fields)
    return [row, word * elements + column]


def _value(tap: str, data: str | None, byte: int) -> int | None:
    if data is None:
        return None
    raw = bytes.fromhex(data)[::-1]
    if tap in OPERAND_TAPS:
        return raw[byte]
    even = byte & ~1
    return int.from_bytes(raw[even:even + 2], "little", signed=True)


def locate(
    mismatch: Mismatch, steps: Sequence[Step], ops: Sequence[str], config: HardwareConfig
) -> dict[str, Any]:
    """First mismatch for reports: instruction, opcode, op, layer, element, expected, got, cycle.

    steps: instructions as they run; ops: operation of every stored instruction. ``instruction`` is
    the place in the stored program, ``iteration`` that of its loop; ``element`` counts within the
    instruction's own tile; ``detail`` is the whole beat in words.
    """
    result: dict[str, Any] = {
        "instruction": None, "opcode": mismatch.tap.upper(), "op": None, "layer": None,
        "iteration": None, "element": None, "expected": mismatch.expected_data,
        "got": mismatch.got_data, "cycle": mismatch.cycle, "detail": mismatch.describe(),
    }
    if mismatch.instruction is None:
        return result
    step = steps[mismatch.instruction]
    op = operation(ops[step.index], step.iteration)
    result |= {"instruction": step.index, "opcode": step.opcode.name, "op": op,
               "layer": layer_of(op), "iteration": step.iteration}
    if mismatch.byte is not None and mismatch.expected_address is not None:
        byte = mismatch.byte
        result |= {
            "element": element(step.opcode, step.fields, mismatch.expected_address, byte, config),
            "expected": _value(mismatch.tap, mismatch.expected_data, byte),
            "got": _value(mismatch.tap, mismatch.got_data, byte),
        }
    return result
