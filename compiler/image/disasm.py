"""Readable text of a program."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.build import Build
from compiler.image.program import decode_program, engine_names
from hw.isa import ENGINE_OF, LINE_BYTES, LutMode, Opcode, SimdMode

Fields = Mapping[str, int]


def region_names(build: Build) -> dict[int, str]:
    """Name of the region at each byte address."""
    return {address: name for name, (address, _) in build.metadata["regions"].items()}


def describe(opcode: Opcode, fields: Fields) -> str:
    """Fields that are not the header or the address; modes by name, flags only where set."""
    parts = []
    for name, value in fields.items():
        if name in ("wait", "post", "address"):
            continue
        if name == "mode":
            modes = LutMode if opcode == Opcode.LUT else SimdMode
            parts.append(modes(value).name.lower())
        elif name in ("first", "l2", "int4", "has_min", "gated", "token_scale"):
            if value:
                parts.append(name)
        else:
            parts.append(f"{name}={value}")
    return " ".join(parts)


def disasm(build: Build) -> str:
    """One line for each instruction: index, engine tokens, opcode, region, fields, operation."""
    names, ops = region_names(build), build.instruction_ops
    program = decode_program(build.image.section("program"))
    title = (f"; {len(program)} instructions at {build.image.program_address:#x}, "
             f"hardware {build.hardware.name} ({build.image.digest}), "
             f"image {len(build.image.data)} bytes")
    lines = [title]
    for index, (opcode, fields) in enumerate(program):
        if index == 0 or ops[index] != ops[index - 1]:
            lines.append(f"; {ops[index]}")
        address = fields["address"] * LINE_BYTES
        tokens = "".join(
            f" {mark}{','.join(engine_names(fields[name]))}"
            for name, mark in (("wait", "<-"), ("post", "->")) if fields[name]
        )
        region = names.get(address, "")
        lines.append(f"{index:5} {opcode.name:<8} {ENGINE_OF[opcode].name.lower():<8} "
                     f"@{address:#08x} {region:<24} {describe(opcode, fields)}{tokens}".rstrip())
    lines.append(f"{len(program):5} END")
    return "\n".join(lines) + "\n"
