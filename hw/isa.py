"""Instructions as data: field widths from which encoder, decoder and RTL layouts all derive.

An instruction is 256 bits, little-endian, fields from bit 0 upward in the order of declaration.
Every instruction starts with the header (opcode, wait, post, base); the rest is zero up to bit 255.
Engines take their instructions in program order and run beside each other. `wait` has a bit for
each producer engine, `post` a bit for each consumer engine: a token is a count held for each
(producer, consumer) pair. An instruction starts when every pair it waits for holds a token, takes
one from each, and puts one into each pair it posts when it is complete. (The dependence queues of
VTA, Moreau et al., "A Hardware-Software Blueprint for Flexible Deep Learning Specialization".)
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from hw.errors import LutripError

INSTRUCTION_BITS = 256
INSTRUCTION_BYTES = INSTRUCTION_BITS // 8
LINE_BYTES = 64
"""Addresses in instructions count lines of this many bytes."""
TOKEN_COUNT_BITS = 8
"""Width of a pair's token count."""
QUEUE_DEPTH = 16
"""Instructions that wait for one engine, the running one included: enough that one engine's long
list does not keep others' instructions behind it, and no more than the memory of 4 takes."""


class Engine(enum.IntEnum):
    """Hardware units that the program addresses; the value is the bit in wait and post masks."""

    LOAD = 0
    SEARCH = 1
    QUANTIZE = 2
    LINEAR = 3
    DRAIN = 4
    ACTIVATE = 5
    STORE = 6
    NORM = 7
    SOFTMAX = 8


class Opcode(enum.IntEnum):
    """What an instruction does."""

    END = 0
    LOAD = 1
    SEARCH = 2
    QUANTIZE = 3
    LUT = 4
    SIMD = 5
    DRAIN = 6
    ACTIVATE = 7
    STORE = 8
    GATHER = 9
    APPEND = 10
    NORM = 11
    ROPE = 12
    SOFTMAX = 13
    LOOP = 14
    ORDER = 15
    HADAMARD = 16


ENGINE_OF = {
    Opcode.LOAD: Engine.LOAD,
    Opcode.GATHER: Engine.LOAD,
    Opcode.SEARCH: Engine.SEARCH,
    Opcode.QUANTIZE: Engine.QUANTIZE,
    Opcode.LUT: Engine.LINEAR,
    Opcode.SIMD: Engine.LINEAR,
    Opcode.DRAIN: Engine.DRAIN,
    Opcode.ACTIVATE: Engine.ACTIVATE,
    Opcode.STORE: Engine.STORE,
    Opcode.APPEND: Engine.STORE,
    Opcode.NORM: Engine.NORM,
    Opcode.ROPE: Engine.NORM,
    Opcode.HADAMARD: Engine.NORM,
    Opcode.SOFTMAX: Engine.SOFTMAX,
    Opcode.ORDER: Engine.SOFTMAX,
}
"""Engine that runs an opcode; END and LOOP belong to instruction fetch."""

EARLY_READS = (Opcode.QUANTIZE, Opcode.DRAIN, Opcode.ACTIVATE, Opcode.NORM, Opcode.ROPE)
"""Opcodes whose memory is read before they start: factors, parameters, tables, rotations. No
program writes these, which the compiler's verifier checks."""


class LutMode(enum.IntEnum):
    """Where the lookup engine's rows come from."""

    STREAM = 0
    GATHER = 1
    ROWGEN = 2


class SimdMode(enum.IntEnum):
    """Operand widths of the multiplier array; W8L4 multiplies by shifts (log2 softmax).

    With W8L4 all scales are 1.
    """

    W4A4 = 0
    W4A8 = 1
    W8A8 = 2
    W8L4 = 3


class DrainMode(enum.IntEnum):
    """What becomes of dequantized sums."""

    VECTOR = 0
    RESIDUAL = 1
    ARGMAX = 2


class Base(enum.IntEnum):
    """What a loop adds to an instruction's address in each iteration."""

    ABSOLUTE = 0
    FIRST = 1
    SECOND = 2


HEADER: dict[str, int] = {"opcode": 5, "wait": 12, "post": 12, "base": 2}
ORDERED: dict[str, int] = {"ordered": 1, "order": 8, "order_tokens": 8}
"""Row t is that of token ``order[order + t]`` of the ``order_tokens`` of the last ORDER."""
IMPORTANCE: dict[str, int] = {"importance": 1, "fresh": 1, "entry": 8}
"""Row r adds to importance ``entry + r // heads``, which ``fresh`` sets to 0 at the first head."""
SPARSITY = ("thresholds", "lists", "sparse")
"""Flags of skipped positions: small inputs become 0, positions are listed, the list is used."""
ROUNDING = ("row_shift",)
"""Shift of computed row entries, on hardware that rounds them."""
PART = ("begin",)
"""First vector word of a drain's columns: those before belong to others."""
OPTIONAL = (*ORDERED, *IMPORTANCE, *SPARSITY, *ROUNDING, *PART)
"""Fields of the token rule, of sparsity, of rounding and of parts of a column block: 0 where
`encode` is not given them."""

FIELDS: dict[Opcode, dict[str, int]] = {
    Opcode.END: {},
    Opcode.LOAD: {"address": 32, "words": 16, "destination": 16},
    Opcode.SEARCH: {
        "address": 32, "rounds": 12, "tokens": 8, "source": 16, "stride": 12, "operands": 16,
        "l2": 1,
    },
    Opcode.QUANTIZE: {
        "address": 32, "rounds": 12, "tokens": 8, "heads": 8, "source": 16, "stride": 12,
        "head_stride": 12, "operands": 16, "alphas": 12, "scales": 8, "int4": 1,
        **ORDERED, "thresholds": 1, "lists": 1,
    },
    Opcode.LUT: {
        "address": 32, "port_stride": 24, "mode": 2, "int4": 1, "rounds": 12, "tokens": 8,
        "blocks": 8, "blocks_per_group": 8, "slices": 5, "rows_per_code": 12,
        "record_words": 16, "table_words": 16, "bundle_words": 8, "index_high": 2,
        "operands": 16, "accumulator": 12, "bank": 1, "first": 1, "sparse": 1,
        "row_shift": 4,
    },
    Opcode.SIMD: {
        "address": 32, "port_stride": 24, "mode": 2, "has_min": 1, "rounds": 12, "tokens": 8,
        "blocks": 8, "group_rounds": 8, "shift": 6, "operands": 16, "alphas": 12,
        "accumulator": 12, "bank": 1, "first": 1, "plain": 1, "volatile": 1,
    },
    Opcode.DRAIN: {
        "address": 32, "tokens": 8, "heads": 8, "blocks": 8, "words": 12, "accumulator": 12,
        "bank": 1, "destination": 16, "stride": 12, "head_stride": 12, "mode": 2, "uniform": 1,
        "compact": 1, "fresh": 1, "column": 24, "token_scale": 1, "scales": 8, **ORDERED,
        "begin": 8,
    },
    Opcode.ACTIVATE: {
        "address": 32, "tokens": 8, "words": 12, "source": 16, "factor": 16, "destination": 16,
        "stride": 12, "gated": 1,
    },
    Opcode.STORE: {"address": 32, "words": 16, "source": 16},
    Opcode.GATHER: {
        "address": 32, "ids": 32, "tokens": 8, "words": 12, "destination": 16, "stride": 12,
        "shift": 5, "add": 1, "direct": 1,
    },
    Opcode.APPEND: {
        "address": 32, "port_stride": 24, "offset": 24, "tokens": 8, "heads": 8, "words": 12,
        "source": 16, "stride": 12, "head_stride": 12, "cache_stride": 24, "slot": 12,
        "group_rounds": 8, "group_words": 24, "transpose": 1,
    },
    Opcode.NORM: {
        "address": 32, "tokens": 8, "heads": 8, "words": 12, "source": 16, "stride": 12,
        "head_stride": 12, "destination": 16, "destination_stride": 12,
        "destination_head_stride": 12, "wide": 1, "center": 1,
    },
    Opcode.ROPE: {
        "address": 32, "tokens": 8, "heads": 8, "words": 12, "source": 16, "stride": 12,
        "head_stride": 12,
    },
    Opcode.HADAMARD: {
        "tokens": 8, "heads": 8, "words": 12, "source": 16, "stride": 12, "head_stride": 12,
        "length_bits": 4, "shift": 4,
    },
    Opcode.SOFTMAX: {
        "tokens": 8, "heads": 8, "words": 12, "source": 16, "stride": 12, "operands": 16,
        "rounds": 12, "scales": 8, "position": 20, "window": 20, "slope": 24, "fraction": 4,
        "log2": 1, **IMPORTANCE,
    },
    Opcode.ORDER: {"tokens": 8, "low": 8, "pruned": 8},
    Opcode.LOOP: {"count": 12, "length": 12, "first_stride": 32, "second_stride": 32},
}
OPCODE_MASK = (1 << HEADER["opcode"]) - 1

for _fields in FIELDS.values():
    assert sum(HEADER.values()) + sum(_fields.values()) <= INSTRUCTION_BITS

ADDRESS_OFFSET = sum(HEADER.values())
"""First bit of the 32-bit address field in every instruction that has one."""


def fields_of(opcode: Opcode) -> dict[str, int]:
    """Header and operand fields with their widths, bit 0 first."""
    return HEADER | FIELDS[opcode]


def encode(opcode: Opcode, values: Mapping[str, int]) -> bytes:
    """Pack one instruction; raises LutripError when a value does not fit its field."""
    word, offset = 0, 0
    fields = fields_of(opcode)
    absent = {name: 0 for name in ("wait", "post", "base", *OPTIONAL) if name in fields}
    values = {**absent, **values, "opcode": int(opcode)}
    if unknown := set(values) - set(fields):
        raise ValueError(f"{opcode.name} has no field {', '.join(sorted(unknown))}")
    for name, width in fields.items():
        value = int(values[name])
        if not 0 <= value < 1 << width:
            raise LutripError(f"{opcode.name}: {name} = {value} does not fit {width} bits")
        word |= value << offset
        offset += width
    return word.to_bytes(INSTRUCTION_BYTES, "little")


def decode(data: bytes) -> tuple[Opcode, dict[str, int]]:
    """Unpack one instruction; raises LutripError for an unknown opcode or set padding bits."""
    word = int.from_bytes(data[:INSTRUCTION_BYTES], "little")
    try:
        opcode = Opcode(word & OPCODE_MASK)
    except ValueError:
        raise LutripError(f"unknown opcode {word & OPCODE_MASK}") from None
    values: dict[str, int] = {}
    for name, width in fields_of(opcode).items():
        values[name] = word & ((1 << width) - 1)
        word >>= width
    if word:
        raise LutripError(f"{opcode.name}: bits beyond the last field are set")
    del values["opcode"]
    return opcode, values
