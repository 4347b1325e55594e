"""Checks each instruction of an encoded program by itself: fields, hardware, stores, memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.errors import VerifyError
from compiler.image.access import (
    Access,
    Fields,
    Space,
    accesses,
    port_region,
    row_count,
    space_words,
)
from compiler.image.image import Section
from compiler.image.records import RecordFormat
from compiler.image.weights import WeightFormat
from hw.config import HardwareConfig
from hw.golden.hadamard import LENGTH_BITS_MAX
from hw.golden.softmax import FRACTION_BITS
from hw.isa import (
    EARLY_READS,
    ENGINE_OF,
    LINE_BYTES,
    Base,
    DrainMode,
    Engine,
    LutMode,
    Opcode,
    SimdMode,
)
from hw.units.row_limits import norm_words_max, rope_words_max

COUNTS = ("tokens", "heads", "rounds", "words", "blocks", "blocks_per_group", "slices",
          "group_rounds", "record_words")
EMBED_SHIFT_MAX = 16
MANY_ROWS = (Opcode.NORM, Opcode.ROPE, Opcode.HADAMARD, Opcode.GATHER, Opcode.SOFTMAX,
             Opcode.APPEND)
"""Opcodes whose rows only the stores limit."""


TRANSFORMER = (Opcode.GATHER, Opcode.APPEND, Opcode.NORM, Opcode.ROPE, Opcode.SOFTMAX)
"""Opcodes whose engines only come with the multiplier array."""


class InstructionCheck:
    """Rules of one instruction; every broken one raises VerifyError with its index."""

    def __init__(self, index: int, opcode: Opcode, fields: Fields, config: HardwareConfig) -> None:
        self.index, self.opcode, self.fields, self.config = index, opcode, fields, config

    def require(self, holds: bool, message: str) -> None:
        """Raise VerifyError unless the rule holds."""
        if not holds:
            raise VerifyError(f"instruction {self.index} ({self.opcode.name}): {message}")

    def check(self, memory_bytes: int, writable: Sequence[Section]) -> list[Access]:
        """Check everything and return the accesses."""
        fields, config = self.fields, self.config
        for name in COUNTS:
            self.require(fields.get(name, 1) > 0, f"{name} is 0")
        own = ENGINE_OF[self.opcode]
        for name in ("wait", "post"):
            self.require(fields[name] < 1 << len(Engine), f"{name} names an engine that is not "
                         "there")
            self.require(not fields[name] >> own & 1, f"{name} names its own engine")
        self.require(fields["base"] < len(Base), f"base {fields['base']} is unknown")
        self.check_rows()
        self.check_order()
        if self.opcode == Opcode.LUT:
            self.check_lut()
        elif self.opcode == Opcode.SIMD:
            self.check_simd()
        elif self.opcode == Opcode.SEARCH:
            self.require(config.l2_search or not fields["l2"], "the hardware has no L2 search")
        elif self.opcode == Opcode.DRAIN:
            self.check_drain()
        elif self.opcode == Opcode.SOFTMAX:
            self.check_softmax()
        elif self.opcode == Opcode.APPEND:
            self.check_append()
        elif self.opcode == Opcode.HADAMARD:
            self.check_hadamard()
        elif self.opcode == Opcode.QUANTIZE:
            self.check_quantize()
        elif self.opcode == Opcode.ORDER:
            parts = fields["low"] + fields["pruned"]
            self.require(parts <= fields["tokens"],
                         f"parts of {parts} of {fields['tokens']} tokens")
        elif self.opcode == Opcode.GATHER:
            self.require(fields["shift"] <= EMBED_SHIFT_MAX,
                         f"shift {fields['shift']}, at most {EMBED_SHIFT_MAX} is allowed")
        touched = accesses(self.opcode, fields, config)
        for access in touched:
            size = space_words(access.space, config, memory_bytes)
            self.require(access.stop <= size,
                         f"{access.space.name.lower()} words up to {access.stop} of {size}")
        for access in touched:
            if access.space == Space.VECTOR and access.write:
                words = access.words()
                self.require(len(np.unique(words)) == len(words), "rows of its result overlap")
        if self.opcode in (Opcode.ACTIVATE, Opcode.NORM):
            self.check_in_place(touched)
        if self.opcode in TRANSFORMER:
            self.require(config.simd, "the hardware has no such engine (simd is false)")
        for limited, most in ((Opcode.NORM, norm_words_max), (Opcode.ROPE, rope_words_max)):
            if self.opcode == limited:
                self.require(fields["words"] <= most(config),
                             f"rows of {fields['words']} words, the engine keeps parameters for "
                             f"{most(config)}")
        self.check_memory(touched, writable)
        return touched

    def check_rows(self) -> None:
        """Rows and accumulator words."""
        fields, config = self.fields, self.config
        if "tokens" not in fields:
            return
        rows = row_count(fields)
        if self.opcode not in MANY_ROWS:
            what = "rows" if "heads" in fields else "tokens"
            self.require(rows <= config.tokens_max,
                         f"{rows} {what}, the hardware takes {config.tokens_max}")
        if "accumulator" in fields:
            end = fields["accumulator"] + rows * fields["blocks"]
            self.require(end <= config.accumulator_words,
                         f"accumulator words up to {end} of {config.accumulator_words}")

    def check_order(self) -> None:
        """Rows in the order of their tokens, and what makes that order."""
        fields = self.fields
        ordered = bool(fields.get("ordered"))
        if ordered or fields.get("importance") or self.opcode == Opcode.ORDER:
            self.require(self.config.orders_tokens, "the hardware keeps no order of tokens "
                         "(token_order is false)")
        if not ordered:
            return
        self.require(fields["heads"] == 1, f"{fields['heads']} heads, ordered rows have one")
        end = fields["order"] + fields["tokens"]
        self.require(end <= fields["order_tokens"],
                     f"places up to {end} in an order of {fields['order_tokens']} tokens")
        self.require(self.opcode != Opcode.DRAIN or fields["mode"] == DrainMode.RESIDUAL,
                     "only residual rows can be drained in order")

    def check_memory(self, touched: Sequence[Access], writable: Sequence[Section]) -> None:
        """Writes stay in writable sections; what may be read ahead stays out of them."""
        ahead = self.opcode in (Opcode.LUT, *EARLY_READS) or (
            self.opcode == Opcode.SIMD and not self.fields["volatile"])
        for access in touched:
            if access.space != Space.MEMORY or not (access.write or ahead):
                continue
            first, last = access.start * LINE_BYTES, access.stop * LINE_BYTES
            if access.write:
                self.require(
                    any(section.address <= first and last <= section.address + section.size
                        for section in writable), "writes outside the image's outputs and cache")
            else:
                self.require(
                    all(last <= section.address or section.address + section.size <= first
                        for section in writable),
                    "may be read ahead, but lies in a section that is written")

    def check_in_place(self, touched: list[Access]) -> None:
        """The result is written over what is read word for word, or elsewhere."""
        result = next(a for a in touched if a.space == Space.VECTOR and a.write)
        written = result.words()
        for access in touched:
            if access.space == Space.VECTOR and not access.write:
                same = (access.start, access.stride, access.outer_stride, access.count) == (
                    result.start, result.stride, result.outer_stride, result.count)
                self.require(same or not np.isin(access.words(), written).any(),
                             "its result overlaps what it reads")

    def check_drain(self) -> None:
        """Modes and shape of a drain."""
        fields, config = self.fields, self.config
        self.require(fields["mode"] in [mode.value for mode in DrainMode],
                     f"mode {fields['mode']} is unknown")
        last = fields["begin"] + fields["words"]
        self.require(
            last * config.word_elements <= fields["blocks"] * config.lanes,
            f"{last} vector words from {fields['blocks']} column blocks")
        self.require(fields["begin"] * config.word_elements < config.lanes,
                     f"its columns begin behind {fields['begin']} vector words, not in the first "
                     "block")
        rows = row_count(fields)
        self.require(rows == 1 or fields["mode"] != DrainMode.ARGMAX,
                     f"{rows} rows, ARGMAX takes one")

    def check_softmax(self) -> None:
        """Formats, and that every row sees scores only."""
        fields, config = self.fields, self.config
        self.require(fields["fraction"] <= FRACTION_BITS,
                     f"{fields['fraction']} fraction bits, at most {FRACTION_BITS} are allowed")
        self.require(config.log2_softmax or not fields["log2"],
                     "the hardware has no log2 softmax")
        self.require(fields["words"] <= fields["rounds"],
                     f"{fields['words']} words of scores for {fields['rounds']} rounds")
        last = fields["position"] + fields["tokens"] - 1
        columns = fields["words"] * config.word_elements
        self.require(last < columns, f"position {last} of {columns} scores")

    def check_hadamard(self) -> None:
        """The unit is there, and rows are whole blocks."""
        fields, config = self.fields, self.config
        self.require(config.rotates, "the hardware has no Hadamard unit")
        bits = fields["length_bits"]
        self.require(1 <= bits <= LENGTH_BITS_MAX,
                     f"blocks of 2**{bits} elements, 2 to {1 << LENGTH_BITS_MAX} are allowed")
        self.require(fields["words"] * config.word_elements % (1 << bits) == 0,
                     f"{fields['words']} words are not whole blocks of {1 << bits} elements")

    def check_append(self) -> None:
        """One column block of keys, or one weight group of values in it."""
        fields, config = self.fields, self.config
        end = fields["slot"] + fields["tokens"]
        if fields["transpose"]:
            group = fields["group_rounds"] * config.word_elements
            self.require(end <= group, f"slots up to {end} of {group} in a group of values")
            self.require(config.value_bits == 8 or fields["slot"] % 2 == 0,
                         f"slot {fields['slot']} is in the middle of a byte")
            columns = fields["words"] * config.word_elements
            self.require(columns <= config.lanes,
                         f"{columns} columns of a value, a block has {config.lanes}")
        else:
            self.require(end <= config.lanes, f"slots up to {end} of {config.lanes} in a block "
                         "of keys")

    def check_quantize(self) -> None:
        """Thresholds and position lists."""
        fields, config = self.fields, self.config
        if fields["thresholds"] or fields["lists"]:
            self.require(config.skips_positions, "the hardware does not skip positions")
            self.require(not fields["int4"], "thresholds and lists are for int8")
        if fields["lists"]:
            rows, rounds = row_count(fields), fields["rounds"]
            self.require(rows == 1, f"{rows} rows, lists are of one")
            self.require(rounds <= config.list_rounds,
                         f"{rounds} rounds, lists hold {config.list_rounds}")

    def check_sparse(self) -> None:
        """An instruction that follows the position lists."""
        fields = self.fields
        self.require(self.config.skips_positions, "the hardware does not skip positions")
        self.require(fields["mode"] == LutMode.ROWGEN and fields["tokens"] == 1
                     and fields["first"] == 1,
                     "position lists are for computed rows of one token, from the first round on")

    def check_lut(self) -> None:
        """Modes and buffers of the lookup engine."""
        fields, config = self.fields, self.config
        if fields["sparse"]:
            self.check_sparse()
        modes = [mode.value for mode in LutMode]
        self.require(fields["mode"] in modes, f"mode {fields['mode']} is unknown")
        mode = LutMode(fields["mode"])
        self.require(config.rowgen or mode != LutMode.ROWGEN, "the hardware has no row generator")
        self.require(fields["index_high"] <= 2, f"index_high {fields['index_high']} is unknown")
        self.require(fields["slices"] <= 1 << 2 * fields["index_high"],
                     f"{fields['slices']} slices with index_high {fields['index_high']}")
        self.require(config.wide_indices or not fields["index_high"],
                     f"the hardware takes indices of {config.index_low_bits} bits")
        self.require(fields["blocks"] <= config.index_blocks,
                     f"{fields['blocks']} column blocks, the index buffer holds "
                     f"{config.index_blocks}")
        most = config.row_shift_max if mode == LutMode.ROWGEN else 0
        self.require(fields["row_shift"] <= most,
                     f"row_shift is {fields['row_shift']}, at most {most} here")
        form = RecordFormat.of(fields, config)
        for name in ("table_words", "record_words", "rows_per_code", "bundle_words"):
            self.require(fields[name] == getattr(form, name),
                         f"{name} is {fields[name]}, its other fields say {getattr(form, name)}")
        words = form.table_words
        if mode == LutMode.GATHER:
            words = form.bundle_words * fields["tokens"]
        self.require(words <= config.table_words,
                     f"{words} table words, the buffer holds {config.table_words}")
        self.require(mode != LutMode.GATHER or not config.shared_ports,
                     "rows are fetched, the hardware has ports that lanes share")
        self.check_stride(port_region(Opcode.LUT, fields, config))

    def check_simd(self) -> None:
        """Modes and groups of the multiplier array."""
        fields, config = self.fields, self.config
        self.require(config.simd, "the hardware has no multiplier array")
        self.require(fields["mode"] in [mode.value for mode in SimdMode],
                     f"mode {fields['mode']} is unknown")
        self.require(config.log2_softmax or fields["mode"] != SimdMode.W8L4,
                     "the hardware has no log2 softmax")
        self.require(fields["rounds"] % fields["group_rounds"] == 0,
                     f"{fields['rounds']} rounds are not whole groups of {fields['group_rounds']}")
        group = fields["group_rounds"] * config.word_elements
        self.require(group <= config.group_max,
                     f"weight groups of {group}, the hardware takes {config.group_max}")
        if fields["volatile"]:
            self.require(fields["mode"] != SimdMode.W4A4 and not fields["has_min"],
                         "volatile weights have no minima, and activations of 8 bits or log2")
        form = WeightFormat.of(fields, config)
        self.require(not fields["volatile"]
                     or form.weight_bits in (config.key_bits, config.value_bits),
                     f"volatile weights of {form.weight_bits} bits, keys have {config.key_bits} "
                     f"and values {config.value_bits}")
        self.check_stride(form.blocks * form.groups * form.group_bytes)

    def check_stride(self, region_bytes: int) -> None:
        """Regions of the weight ports do not overlap."""
        self.require(self.config.weight_ports == 1
                     or self.fields["port_stride"] * LINE_BYTES >= region_bytes,
                     f"port regions of {region_bytes} bytes overlap")
