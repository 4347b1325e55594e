"""What each instruction reads and writes, on chip and in memory."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from compiler.image.cache import append_extent
from compiler.image.layout import FUNCTION_BYTES, NORM_WORDS, align, parameter_words
from compiler.image.records import RecordFormat
from compiler.image.weights import WeightFormat
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.golden.importance import ORDER_ENTRIES
from hw.isa import LINE_BYTES, DrainMode, Opcode, SimdMode

Fields = Mapping[str, int]
ALPHA_ENTRIES = 4096
SCALE_ENTRIES = 256
ACCUMULATOR_BANKS = 2


class Space(enum.IntEnum):
    """Stores that instructions share; the unit of MEMORY is a line, else the store's word."""

    VECTOR = 0
    OPERAND = 1
    ALPHAS = 2
    SCALES = 3
    ACCUMULATOR = 4
    MEMORY = 5
    IMPORTANCE = 6
    ORDER = 7
    LISTS = 8


@dataclass(frozen=True)
class Access:
    """``outer`` times ``rows`` runs of ``count`` words, ``outer_stride`` and ``stride`` apart."""

    space: Space
    write: bool
    start: int
    count: int
    rows: int = 1
    stride: int = 0
    outer: int = 1
    outer_stride: int = 0

    @property
    def stop(self) -> int:
        """Word behind the last one."""
        last = (self.outer - 1) * self.outer_stride + (self.rows - 1) * self.stride
        return self.start + last + self.count

    def words(self) -> Ints:
        """Every word touched."""
        runs = np.arange(self.outer)[:, None] * self.outer_stride
        runs = runs + np.arange(self.rows) * self.stride
        return (self.start + runs[..., None] + np.arange(self.count)).reshape(-1)

    def view(self, values: Ints) -> Ints:
        """The words touched of an array [words], without a copy."""
        if self.outer == self.rows == 1:
            return values[self.start:self.stop]
        step = values.strides[0]
        return np.lib.stride_tricks.as_strided(
            values[self.start:self.stop], (self.outer, self.rows, self.count),
            (self.outer_stride * step, self.stride * step, step))


def space_words(space: Space, config: HardwareConfig, image_bytes: int) -> int:
    """Size of a store."""
    return {
        Space.VECTOR: config.vector_words,
        Space.OPERAND: config.operand_words,
        Space.ALPHAS: ALPHA_ENTRIES,
        Space.SCALES: SCALE_ENTRIES,
        Space.ACCUMULATOR: ACCUMULATOR_BANKS * config.accumulator_words,
        Space.MEMORY: image_bytes // LINE_BYTES,
        Space.IMPORTANCE: ORDER_ENTRIES,
        Space.ORDER: ORDER_ENTRIES,
        Space.LISTS: config.list_rounds,
    }[space]


def operand_rows(rows: int, int4: bool) -> int:
    """Operand store words of one round."""
    return (rows + 1) // 2 if int4 else rows


def row_count(fields: Fields) -> int:
    """Rows of an instruction: its tokens, each with its heads."""
    return fields["tokens"] * fields.get("heads", 1)


def port_region(opcode: Opcode, fields: Fields, config: HardwareConfig) -> int:
    """Most bytes that a weight port reads for a LUT or SIMD."""
    if opcode == Opcode.LUT:
        form = RecordFormat.of(fields, config)
        return fields["rounds"] * form.round_words * config.port_bytes
    weights = WeightFormat.of(fields, config)
    return weights.blocks * weights.groups * weights.group_bytes


def region_ports(opcode: Opcode, config: HardwareConfig) -> int:
    """Weight ports with a region of their own for a LUT or SIMD."""
    return config.weight_ports if opcode == Opcode.LUT else config.lane_ports


def memory_bytes(opcode: Opcode, fields: Fields, config: HardwareConfig) -> int:
    """Bytes behind the address field; of a GATHER's table, one row; of an APPEND, up to its end."""
    port = config.port_bytes
    words = fields.get("words", 0)
    if opcode in (Opcode.LOAD, Opcode.STORE, Opcode.GATHER):
        return words * port
    if opcode == Opcode.ROPE:
        return fields["tokens"] * words * port
    if opcode == Opcode.SEARCH:
        return fields["rounds"] * config.act_codes_max * port
    if opcode == Opcode.QUANTIZE:
        factors = align((fields["rounds"] * config.chunks_per_word + 1) // 2, port)
        return factors + (fields["rounds"] * port if fields.get("thresholds") else 0)
    if opcode == Opcode.DRAIN:
        return LINE_BYTES + port * parameter_words(words, fields["uniform"], fields["compact"])
    if opcode == Opcode.ACTIVATE:
        return FUNCTION_BYTES
    if opcode == Opcode.NORM:
        return LINE_BYTES + words * NORM_WORDS * port
    if opcode == Opcode.APPEND:
        extent = append_extent(fields, config)
        lines = (extent.last_port * fields["port_stride"]
                 + (fields["heads"] - 1) * fields["cache_stride"])
        return lines * LINE_BYTES + extent.last
    if opcode in (Opcode.LUT, Opcode.SIMD):
        stride = (region_ports(opcode, config) - 1) * fields["port_stride"] * LINE_BYTES
        return stride + port_region(opcode, fields, config)
    return 0


def two_levels(
    write: bool, fields: Fields, start: str, count: int, prefix: str = ""
) -> Access:
    """Vector memory words of all rows of an instruction; of ordered ones, of all that there are."""
    if fields.get("ordered"):
        return Access(Space.VECTOR, write, fields[start], count, 1, 0, fields["order_tokens"],
                      fields["stride"])
    return Access(
        Space.VECTOR, write, fields[start], count, fields.get("heads", 1),
        fields.get(f"{prefix}head_stride", 0), fields["tokens"], fields[f"{prefix}stride"])


def order_read(fields: Fields) -> list[Access]:
    """Order entries that QUANTIZE and DRAIN take their rows from."""
    if not fields.get("ordered"):
        return []
    return [Access(Space.ORDER, False, fields["order"], fields["tokens"])]


def linear_memory(opcode: Opcode, fields: Fields, config: HardwareConfig) -> Access:
    """Lines from the address field on."""
    lines = align(memory_bytes(opcode, fields, config), LINE_BYTES) // LINE_BYTES
    return Access(Space.MEMORY, opcode == Opcode.STORE, fields["address"], lines)


def transfer(opcode: Opcode, fields: Fields, config: HardwareConfig) -> list[Access]:
    """LOAD and STORE."""
    words = fields["words"]
    vector = (Access(Space.VECTOR, True, fields["destination"], words) if opcode == Opcode.LOAD
              else Access(Space.VECTOR, False, fields["source"], words))
    return [linear_memory(opcode, fields, config), vector]


def gather(opcode: Opcode, fields: Fields, config: HardwareConfig) -> list[Access]:
    """GATHER; rows that token ids choose are not known, and nothing writes the table."""
    tokens, words = fields["tokens"], fields["words"]
    result = [two_levels(True, fields, "destination", 2 * words)]
    if fields["direct"]:
        size = memory_bytes(opcode, fields, config)
        first = fields["address"] * LINE_BYTES + fields["ids"] * size
        result.append(byte_lines(False, first, first + tokens * size))
    else:
        result.append(Access(Space.MEMORY, False, fields["ids"], tokens))
        result.append(linear_memory(opcode, fields, config))
    if fields["add"]:
        result.append(two_levels(False, fields, "destination", 2 * words))
    return result


def byte_lines(
    write: bool, first: int, last: int, rows: int = 1, stride: int = 0, outer: int = 1,
    outer_stride: int = 0,
) -> Access:
    """Lines of bytes ``first..last-1``; rows are ``stride`` lines apart."""
    line = first // LINE_BYTES
    return Access(Space.MEMORY, write, line, -(-last // LINE_BYTES) - line, rows, stride, outer,
                  outer_stride)


def append(opcode: Opcode, fields: Fields, config: HardwareConfig) -> list[Access]:
    """APPEND; whole lines between the first and the last byte of each head's and port's region."""
    extent, stride = append_extent(fields, config), fields["port_stride"]
    base = (fields["address"] + extent.first_port * stride) * LINE_BYTES
    return [
        byte_lines(True, base + extent.first, base + extent.last,
                   extent.last_port - extent.first_port + 1, stride, fields["heads"],
                   fields["cache_stride"]),
        two_levels(False, fields, "source", fields["words"]),
    ]


def prepare(opcode: Opcode, fields: Fields, config: HardwareConfig) -> list[Access]:
    """SEARCH and QUANTIZE."""
    rounds, rows = fields["rounds"], row_count(fields)
    words = rounds * operand_rows(rows, bool(fields.get("int4")))
    result = [
        linear_memory(opcode, fields, config),
        two_levels(False, fields, "source", rounds),
        Access(Space.OPERAND, True, fields["operands"], words),
        *order_read(fields),
    ]
    if opcode == Opcode.QUANTIZE:
        result.append(Access(Space.ALPHAS, True, fields["alphas"], rounds))
        result.append(Access(Space.SCALES, True, fields["scales"], rows))
    if fields.get("lists"):
        result.append(Access(Space.LISTS, True, 0, rounds))
    return result


def linear(opcode: Opcode, fields: Fields, config: HardwareConfig) -> list[Access]:
    """LUT and SIMD."""
    tokens, rounds = fields["tokens"], fields["rounds"]
    int4 = opcode == Opcode.SIMD and fields["mode"] == SimdMode.W4A4
    first = fields["bank"] * config.accumulator_words + fields["accumulator"]
    sums = first, tokens * fields["blocks"]
    lines = align(port_region(opcode, fields, config), LINE_BYTES) // LINE_BYTES
    result = [
        Access(Space.MEMORY, False, fields["address"], lines, region_ports(opcode, config),
               fields["port_stride"]),
        Access(Space.LISTS, False, 0, rounds) if fields.get("sparse") else
        Access(Space.OPERAND, False, fields["operands"], rounds * operand_rows(tokens, int4)),
        Access(Space.ACCUMULATOR, True, *sums),
    ]
    if not fields["first"]:
        result.append(Access(Space.ACCUMULATOR, False, *sums))
    if opcode == Opcode.SIMD and not fields["plain"]:
        result.append(Access(Space.ALPHAS, False, fields["alphas"], rounds))
    return result


def drain(opcode: Opcode, fields: Fields, config: HardwareConfig) -> list[Access]:
    """DRAIN; the running maximum of ARGMAX is the engine's own."""
    words, rows, mode = fields["words"], row_count(fields), fields["mode"]
    first = fields["bank"] * config.accumulator_words + fields["accumulator"]
    columns = (fields.get("begin", 0) + words) * config.word_elements
    used = align(columns, config.lanes) // config.lanes
    result = [
        linear_memory(opcode, fields, config),
        Access(Space.ACCUMULATOR, False, first, used, rows, fields["blocks"]),
        *order_read(fields),
    ]
    if mode == DrainMode.ARGMAX:
        result.append(Access(Space.VECTOR, True, fields["destination"], 1))
    else:
        count = 2 * words if mode == DrainMode.RESIDUAL else words
        result.append(two_levels(True, fields, "destination", count))
        if mode == DrainMode.RESIDUAL:
            result.append(two_levels(False, fields, "destination", count))
    if fields["token_scale"]:
        result.append(Access(Space.SCALES, False, fields["scales"], rows))
    return result


def activate(opcode: Opcode, fields: Fields, config: HardwareConfig) -> list[Access]:
    """ACTIVATE."""
    words = fields["words"]
    result = [linear_memory(opcode, fields, config), two_levels(False, fields, "source", words),
              two_levels(True, fields, "destination", words)]
    if fields["gated"]:
        result.append(two_levels(False, fields, "factor", words))
    return result


def norm(opcode: Opcode, fields: Fields, config: HardwareConfig) -> list[Access]:
    """NORM and ROPE."""
    words, memory = fields["words"], linear_memory(opcode, fields, config)
    if opcode == Opcode.ROPE:
        return [memory, two_levels(False, fields, "source", words),
                two_levels(True, fields, "source", words)]
    return [memory, two_levels(False, fields, "source", words * (1 + fields["wide"])),
            two_levels(True, fields, "destination", words, "destination_")]


def hadamard(opcode: Opcode, fields: Fields, config: HardwareConfig) -> list[Access]:
    """HADAMARD; it has no address."""
    return [two_levels(write, fields, "source", fields["words"]) for write in (False, True)]


def softmax(opcode: Opcode, fields: Fields, config: HardwareConfig) -> list[Access]:
    """SOFTMAX; it has no address."""
    rows = row_count(fields)
    kept: list[Access] = []
    if fields.get("importance"):
        kept = [Access(Space.IMPORTANCE, write, fields["entry"], fields["tokens"])
                for write in ((True,) if fields["fresh"] else (False, True))]
    return [
        *kept,
        Access(Space.VECTOR, False, fields["source"], fields["words"], rows, fields["stride"]),
        Access(Space.OPERAND, True, fields["operands"], fields["rounds"] * rows),
        Access(Space.SCALES, True, fields["scales"], rows),
    ]


def order(opcode: Opcode, fields: Fields, config: HardwareConfig) -> list[Access]:
    """ORDER; it has no address."""
    return [Access(Space.IMPORTANCE, False, 0, fields["tokens"]),
            Access(Space.ORDER, True, 0, fields["tokens"])]


ACCESSES: dict[Opcode, Callable[[Opcode, Fields, HardwareConfig], list[Access]]] = {
    Opcode.LOAD: transfer, Opcode.STORE: transfer, Opcode.GATHER: gather, Opcode.APPEND: append,
    Opcode.SEARCH: prepare, Opcode.QUANTIZE: prepare, Opcode.LUT: linear, Opcode.SIMD: linear,
    Opcode.DRAIN: drain, Opcode.ACTIVATE: activate, Opcode.NORM: norm, Opcode.ROPE: norm,
    Opcode.HADAMARD: hadamard,
    Opcode.SOFTMAX: softmax, Opcode.ORDER: order,
}


def accesses(opcode: Opcode, fields: Fields, config: HardwareConfig) -> list[Access]:
    """What an instruction reads and writes; nothing for END and LOOP."""
    if opcode not in ACCESSES:
        return []
    return ACCESSES[opcode](opcode, fields, config)
