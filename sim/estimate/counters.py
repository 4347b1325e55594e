"""What the circuit's counters show after an instruction, by its fields.

Words and steps follow from the layouts and loops of docs/architecture.md and are exact, but for
positions that data would let a sparse instruction skip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from compiler.image.access import row_count
from compiler.image.cache import burst_words, token_bundles
from compiler.mixed.counters import MODELS, Timing, instruction_counters
from hw.config import HardwareConfig
from hw.control.fetch import LINE_INSTRUCTIONS
from hw.isa import LINE_BYTES, DrainMode, Opcode
from hw.units.header_line import header_words
from sim.estimate.machine import table_words

Fields = Mapping[str, int]


def _norm(fields: Fields, config: HardwareConfig) -> dict[str, int]:
    results, passes = row_count(fields) * fields["words"], 3 + fields["center"]
    return {"norm_steps": results, "vector_writes": results,
            "vector_reads": results * (1 + fields["wide"]) * passes,
            "read_words_aux": header_words(config) + 2 * fields["words"]}


def _softmax(fields: Fields, config: HardwareConfig) -> dict[str, int]:
    steps, reads = row_count(fields) * fields["rounds"], 0
    for token in range(fields["tokens"]):
        position = fields["position"] + token
        window = fields["window"]
        lowest = position - window + 1 if window and position >= window else 0
        final = min(position // config.word_elements, fields["words"] - 1)
        reads += 2 * fields["heads"] * (final - lowest // config.word_elements + 1)
    return {"softmax_steps": steps, "operand_writes": steps, "vector_reads": reads}


def _gather(fields: Fields, config: HardwareConfig) -> dict[str, int]:
    pairs = 2 * fields["tokens"] * fields["words"]
    ids = 0 if fields["direct"] else LINE_BYTES // config.port_bytes
    return {"gather_steps": pairs, "vector_writes": pairs, "vector_reads": pairs * fields["add"],
            "read_words_aux": fields["tokens"] * (fields["words"] + ids)}


def other_counters(opcode: Opcode, fields: Fields, config: HardwareConfig) -> dict[str, int]:
    """Counters of an instruction that belongs to no linear layer."""
    words = fields.get("words", 0)
    moved = row_count(fields) * words if "tokens" in fields else words
    if opcode == Opcode.LOAD:
        return {"read_words_aux": words, "vector_writes": words}
    if opcode == Opcode.STORE:
        return {"write_words": words, "vector_reads": words}
    if opcode == Opcode.GATHER:
        return _gather(fields, config)
    if opcode == Opcode.APPEND:
        bundles = len(token_bundles(fields, config))
        writes = fields["heads"] * bundles * words * burst_words(fields, config)
        return {"append_steps": writes, "write_words": writes, "vector_reads": moved}
    if opcode == Opcode.NORM:
        return _norm(fields, config)
    if opcode == Opcode.ROPE:
        return {"rope_steps": moved, "vector_reads": moved, "vector_writes": moved,
                "read_words_aux": fields["tokens"] * words}
    if opcode == Opcode.HADAMARD:
        return {"hadamard_steps": moved, "vector_reads": moved, "vector_writes": moved}
    if opcode == Opcode.ACTIVATE:
        steps = config.word_elements // config.activation_lanes
        return {"activate_steps": moved * steps, "vector_reads": moved * (1 + fields["gated"]),
                "vector_writes": moved,
                "read_words_aux": header_words(config) + table_words(config)}
    return _softmax(fields, config) if opcode == Opcode.SOFTMAX else {}


def counters_of(opcode: Opcode, fields: Fields, config: HardwareConfig) -> Counter[str]:
    """Counters that an instruction adds to, without cycles and those of instruction fetch."""
    if opcode not in MODELS:
        return Counter(other_counters(opcode, fields, config))
    found = instruction_counters(opcode, fields, config, Timing())
    found.pop("cycles", None)
    if opcode == Opcode.DRAIN and fields["mode"] == DrainMode.ARGMAX:
        found["vector_writes"] = 1
    return found


def fetch_words(instructions: int, config: HardwareConfig) -> int:
    """Port words of the lines that hold so many instructions."""
    return -(-instructions // LINE_INSTRUCTIONS) * (LINE_BYTES // config.port_bytes)
