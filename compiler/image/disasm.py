"""Readable text of a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compiler.build import Build
from compiler.image.layout import Buffer
from compiler.image.program import Instruction, decode_program, engine_names
from hw.isa import ENGINE_OF, LINE_BYTES, Base, DrainMode, LutMode, Opcode, SimdMode

Fields = Mapping[str, int]
MODES = {Opcode.LUT: LutMode, Opcode.SIMD: SimdMode, Opcode.DRAIN: DrainMode}
FLAGS = ("first", "l2", "int4", "has_min", "gated", "token_scale", "plain", "volatile", "uniform",
         "compact", "fresh", "add", "direct", "transpose", "wide", "center", "log2", "ordered",
         "importance", "thresholds", "lists", "sparse")


def region_names(build: Build) -> dict[int, str]:
    """Name of the region at each byte address."""
    return {address: name for name, (address, _) in build.metadata["regions"].items()}


def describe(opcode: Opcode, fields: Fields) -> str:
    """Fields that are not the header or the address; modes by name, flags only where set.

    A base, shift of rows or first column that is 0 is left out.
    """
    parts = []
    for name, value in fields.items():
        if name in ("wait", "post", "address") or (
                name in ("base", "row_shift", "begin") and not value):
            continue
        if name == "base":
            parts.append(f"base={Base(value).name.lower()}")
        elif name == "mode":
            parts.append(MODES[opcode](value).name.lower())
        elif name in FLAGS:
            if value:
                parts.append(name)
        else:
            parts.append(f"{name}={value}")
    return " ".join(parts)


def program_lines(
    program: Sequence[Instruction], ops: Sequence[str], names: Mapping[int, str]
) -> list[str]:
    """One line for each instruction: index, opcode, engine, address, region, fields, tokens.

    ops: operation of every stored instruction; names: region at a byte address. The instructions
    of a loop are indented.
    """
    lines: list[str] = []
    loop_end = 0
    for index, (opcode, fields) in enumerate(program):
        if index == 0 or ops[index] != ops[index - 1]:
            lines.append(f"; {ops[index]}")
        tokens = "".join(
            f" {mark}{','.join(engine_names(fields[name]))}"
            for name, mark in (("wait", "<-"), ("post", "->")) if fields[name]
        )
        place, region = "", ""
        if "address" in fields:
            address = fields["address"] * LINE_BYTES
            place, region = f"@{address:#08x}", names.get(address, "")
        engine = "fetch" if opcode == Opcode.LOOP else ENGINE_OF[opcode].name.lower()
        indent = "  " if index < loop_end else ""
        lines.append(f"{index:5} {indent}{opcode.name:<8} {engine:<8} {place:<9} {region:<24} "
                     f"{describe(opcode, fields)}{tokens}".rstrip())
        if opcode == Opcode.LOOP:
            loop_end = index + 1 + fields["length"]
    lines.append(f"{len(program):5} END")
    return lines


def disasm(build: Build) -> str:
    """Program of a build."""
    program = decode_program(build.image.section("program"))
    title = (f"; {len(program)} instructions at {build.image.program_address:#x}, "
             f"hardware {build.hardware.name} ({build.image.digest}), "
             f"image {len(build.image.data)} bytes")
    lines = program_lines(program, build.instruction_ops, region_names(build))
    return "\n".join([title, *lines]) + "\n"


def disasm_passes(memory: Buffer, metadata: Mapping[str, Any]) -> str:
    """Programs of all passes of a decoder build."""
    view = np.frombuffer(memory, np.uint8)
    names = {part["address"]: part["name"] for part in metadata["memory_map"]}
    lines = []
    for item in metadata["passes"]:
        address = item["program_address"]
        program = decode_program(view[address:])
        lines.append(f"; {item['name']}: {len(program)} instructions at {address:#x}, hardware "
                     f"{metadata['hardware']['name']} ({metadata['hardware_digest']})")
        lines += program_lines(program, item["instructions"], names)
    return "\n".join(lines) + "\n"
