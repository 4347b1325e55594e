"""The register map as data: circuit, host software and documentation all read it here."""

from __future__ import annotations

from dataclasses import dataclass

from hw.config import HardwareConfig
from hw.isa import Engine

IDENTITY = 0x4C555452
"""The letters LUTR."""
VERSION = 2
WATCHDOG_LIMIT = 1 << 20
"""Cycles without progress after reset, until the host writes another limit."""
COUNTERS_OFFSET = 0x100
COUNTER_BITS = 64
SKIPPED_BITS = 16
"""Counts the positions of the longest input that can be listed."""
ADDRESS_SPACE = 1 << 12

STATUS_BITS = {"running": 0, "done": 1, "error": 2, "hang": 3}
"""Flags of the status register."""
STATUS_BUSY, STATUS_WAITING = 8, 20
"""First bit of the engine masks in the status register."""
HANG_BUSY, HANG_WAITING = 0, 16
"""First bit of the engine masks in the hang register."""
ERROR_BITS = {"program": 0, "read": 1, "write": 2, "hang": 3}
"""Causes in the error register."""


@dataclass(frozen=True)
class Register:
    """One register.

    name: what software calls it.
    offset: byte address; the upper half of a 64-bit register is 4 bytes further.
    access: r (read), w (write; reads 0) or rw.
    description: what it holds.
    bits: 32 or 64.
    """

    name: str
    offset: int
    access: str
    description: str
    bits: int = 32


def counters(config: HardwareConfig) -> dict[str, int]:
    """Counters besides ``cycles``: name and bits of what is added each cycle."""
    ports = [f"w{number}" for number in range(config.weight_ports)] + ["centroid", "aux"]
    engines = [engine.name.lower() for engine in Engine]
    wide = ("rowgen_rows", "row_reads", "table_words", "weight_words", "prefetched_words")
    return {
        **{f"busy_{engine}": 1 for engine in engines},
        **{f"waiting_{engine}": 1 for engine in engines},
        **{f"read_words_{port}": 1 for port in ports},
        "write_words": 1,
        **{name: 8 if name in wide else 1 for name in WORK},
        "skipped_rows": SKIPPED_BITS,
    }


WORK = {
    "search_steps": "vectors compared with their centroids",
    "centroid_words": "port words of centroids loaded",
    "quantize_steps": "words quantized",
    "lut_steps": "cycles in which positions x lanes table entries were added",
    "rowgen_rows": "table rows computed from codebooks",
    "row_reads": "rows read from table buffers",
    "skipped_rows": "positions that sparse instructions did not read",
    "table_words": "port words written into table and index buffers",
    "simd_steps_w4a4": "multiplier array steps, int4 weights and int4 activations",
    "simd_steps_w4a8": "multiplier array steps, int4 weights and int8 activations",
    "simd_steps_w8a8": "multiplier array steps, int8 weights and int8 activations",
    "simd_steps_w8l4": "multiplier array steps, int8 weights and 4-bit powers of two",
    "scaler_steps": "group sums scaled, words of lanes",
    "weight_words": "port words written into weight buffers",
    "prefetched_words": "weight port words that arrived before their instruction started",
    "accumulator_steps": "accumulator words updated",
    "drain_steps": "vector words drained",
    "activate_steps": "steps of the activation unit",
    "norm_steps": "vector words written by norms",
    "rope_steps": "vector words written by rotations",
    "hadamard_steps": "vector words written by Hadamard transforms",
    "softmax_steps": "operand words written by softmax",
    "gather_steps": "vector words written by gathers",
    "append_steps": "port words written by appends",
    "vector_reads": "vector memory words read",
    "vector_writes": "vector memory words written",
    "operand_reads": "operand store words read",
    "operand_writes": "operand store words written",
}
"""Counted work of the engines and memories."""


def _describe(counter: str) -> str:
    if counter in WORK:
        return WORK[counter]
    kind, _, rest = counter.rpartition("_")
    return {
        "busy": f"cycles in which {rest} ran an instruction",
        "waiting": f"cycles in which the next instruction of {rest} lacked tokens",
        "read_words": f"words read through port {rest}",
        "write": "words written",
    }[kind]


def register_map(config: HardwareConfig) -> list[Register]:
    """All registers of an accelerator, by offset."""
    flags = ", ".join(f"bit {bit} {name}" for name, bit in STATUS_BITS.items())
    causes = ", ".join(f"bit {bit} {name}" for name, bit in ERROR_BITS.items())
    last = len(Engine) - 1
    fixed = [
        Register("id", 0x00, "r", f"{IDENTITY:#010x}, the letters LUTR"),
        Register("version", 0x04, "r", f"version of this map, {VERSION}"),
        Register("configuration", 0x08, "r", "digest of the hardware configuration", 64),
        Register("control", 0x10, "w", "bit 0 starts the program; ignored while one runs"),
        Register("status", 0x14, "r", f"{flags}, {STATUS_BUSY}..{STATUS_BUSY + last} busy "
                 f"engines, {STATUS_WAITING}..{STATUS_WAITING + last} waiting engines"),
        Register("program", 0x18, "rw", "byte address of the first instruction, on 64 bytes", 64),
        Register("watchdog_limit", 0x20, "rw",
                 "cycles without progress that are a hang; 0 is no limit"),
        Register("errors", 0x24, "r", f"causes of the error flag: {causes}"),
        Register("hang_engines", 0x28, "r", f"engines at a hang: {HANG_BUSY}..{HANG_BUSY + last} "
                 f"busy, {HANG_WAITING}..{HANG_WAITING + last} waiting"),
    ]
    descriptions = {"cycles": "cycles from start to the end of the program"}
    descriptions |= {name: _describe(name) for name in counters(config)}
    step = COUNTER_BITS // 8
    return fixed + [
        Register(name, COUNTERS_OFFSET + step * index, "r", text, COUNTER_BITS)
        for index, (name, text) in enumerate(descriptions.items())
    ]


def register_map_markdown(config: HardwareConfig) -> str:
    """The map as a Markdown document."""
    masks = ", ".join(f"{engine.name.lower()} {int(engine)}" for engine in Engine)
    rows = "\n".join(
        f"| {register.offset:#05x} | {register.name} | {register.bits} | {register.access} "
        f"| {register.description} |"
        for register in register_map(config)
    )
    return (
        f"# Registers of {config.name}\n\n"
        f"AXI4-Lite, 32-bit words. Configuration digest {config.digest()}. A 64-bit register is "
        "two words, the lower half first. Counters start from 0 at a start and count while a "
        "program runs; read them when it has ended, the halves are not read at once. The "
        "interrupt is high while done, error or hang is set. A start clears these; after a hang "
        "reset the accelerator first.\n\n"
        f"Bits of engine masks: {masks}.\n\n"
        "| offset | name | bits | access | what |\n|---|---|---|---|---|\n"
        f"{rows}\n"
    )
