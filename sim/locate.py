"""Where a wrong beat stands: instruction, operation and element of the tensor."""

from __future__ import annotations

from typing import Any

from compiler.build import Build
from compiler.image.program import decode_program
from hw.config import HardwareConfig
from hw.isa import LINE_BYTES, Opcode
from sim.compare import Mismatch


def element(
    opcode: Opcode, fields: dict[str, int], address: int, byte: int, config: HardwareConfig
) -> list[int]:
    """[token, input or column] of a beat's byte, or [element] of a linear transfer."""
    if opcode in (Opcode.DRAIN, Opcode.ACTIVATE):
        token, word = divmod(address - fields["destination"], fields["stride"])
        return [token, word * config.word_elements + byte // 2]
    if opcode in (Opcode.SEARCH, Opcode.QUANTIZE):
        tokens = fields["tokens"]
        if fields.get("int4"):
            tokens = -(-tokens // 2)
        round_, token = divmod(address - fields["operands"], tokens)
        return [token, round_ * config.word_elements + byte]
    if opcode == Opcode.LOAD:
        return [(address - fields["destination"]) * config.word_elements + byte // 2]
    return [(address - fields["address"] * LINE_BYTES + byte) // 2]


def _value(tap: str, data: str | None, byte: int) -> int | None:
    if data is None:
        return None
    raw = bytes.fromhex(data)[::-1]
    if tap in ("search", "quantize"):
        return raw[byte]
    even = byte & ~1
    return int.from_bytes(raw[even:even + 2], "little", signed=True)


def locate(mismatch: Mismatch, build: Build) -> dict[str, Any]:
    """First mismatch for reports: instruction, opcode, op, element, expected, got, cycle.

    ``element`` counts within the instruction's own tile; ``detail`` is the whole beat in words.
    """
    program = decode_program(build.image.data[build.image.program_address:])
    result: dict[str, Any] = {
        "instruction": mismatch.instruction, "opcode": mismatch.tap.upper(), "op": None,
        "element": None, "expected": mismatch.expected_data, "got": mismatch.got_data,
        "cycle": mismatch.cycle, "detail": mismatch.describe(),
    }
    if mismatch.instruction is None:
        return result
    opcode, fields = program[mismatch.instruction]
    result |= {"opcode": opcode.name, "op": build.instruction_ops[mismatch.instruction]}
    if mismatch.byte is not None and mismatch.expected_address is not None:
        byte = mismatch.byte
        result |= {
            "element": element(opcode, dict(fields), mismatch.expected_address, byte,
                               build.hardware),
            "expected": _value(mismatch.tap, mismatch.expected_data, byte),
            "got": _value(mismatch.tap, mismatch.got_data, byte),
        }
    return result
