"""Checks each instruction of an encoded program by itself: fields, hardware, stores, memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler.errors import VerifyError
from compiler.image.image import Section
from compiler.image.program import Access, Space, accesses, space_words
from compiler.image.records import RecordFormat
from compiler.image.weights import WeightFormat
from hw.config import ROW_ENTRIES, HardwareConfig
from hw.isa import ENGINE_OF, LINE_BYTES, Engine, LutMode, Opcode, SimdMode

Fields = Mapping[str, int]
COUNTS = ("tokens", "rounds", "words", "blocks", "blocks_per_group", "slices", "group_rounds",
          "record_words")


class InstructionCheck:
    """Rules of one instruction; every broken one raises VerifyError with its index."""

    def __init__(self, index: int, opcode: Opcode, fields: Fields, config: HardwareConfig) -> None:
        self.index, self.opcode, self.fields, self.config = index, opcode, fields, config

    def require(self, holds: bool, message: str) -> None:
        """Raise VerifyError unless the rule holds."""
        if not holds:
            raise VerifyError(f"instruction {self.index} ({self.opcode.name}): {message}")

    def check(self, memory_bytes: int, outputs: Section) -> list[Access]:
        """Check everything and return the accesses."""
        fields, config = self.fields, self.config
        for name in COUNTS:
            self.require(fields.get(name, 1) > 0, f"{name} is 0")
        own = ENGINE_OF[self.opcode]
        for name in ("wait", "post"):
            self.require(fields[name] < 1 << len(Engine), f"{name} names an engine that is not "
                         "there")
            self.require(not fields[name] >> own & 1, f"{name} names its own engine")
        tokens = fields.get("tokens", 1)
        self.require(tokens <= config.tokens_max,
                     f"{tokens} tokens, the hardware takes {config.tokens_max}")
        if self.opcode == Opcode.LUT:
            self.check_lut()
        elif self.opcode == Opcode.SIMD:
            self.check_simd()
        elif self.opcode == Opcode.SEARCH:
            self.require(config.l2_search or not fields["l2"], "the hardware has no L2 search")
        if "accumulator" in fields:
            end = fields["accumulator"] + tokens * fields["blocks"]
            self.require(end <= config.accumulator_words,
                         f"accumulator words up to {end} of {config.accumulator_words}")
        if self.opcode == Opcode.DRAIN:
            self.require(
                fields["words"] * config.word_elements <= fields["blocks"] * config.lanes,
                f"{fields['words']} vector words from {fields['blocks']} column blocks")
        if self.opcode in (Opcode.DRAIN, Opcode.ACTIVATE):
            self.require(tokens == 1 or fields["stride"] >= fields["words"],
                         "rows of its result overlap")
        touched = accesses(self.opcode, fields, config)
        for access in touched:
            size = space_words(access.space, config, memory_bytes)
            self.require(access.stop <= size,
                         f"{access.space.name.lower()} words up to {access.stop} of {size}")
        if self.opcode == Opcode.ACTIVATE:
            self.check_in_place(touched)
        if self.opcode == Opcode.STORE:
            written = next(a for a in touched if a.space == Space.MEMORY)
            first, last = outputs.address, outputs.address + outputs.size
            self.require(
                first <= written.start * LINE_BYTES and written.stop * LINE_BYTES <= last,
                "writes outside the image's outputs")
        return touched

    def check_in_place(self, touched: list[Access]) -> None:
        """A function writes over what it reads word for word, or elsewhere."""
        result = next(a for a in touched if a.space == Space.VECTOR and a.write)
        written = result.words()
        for access in touched:
            if access.space == Space.VECTOR and not access.write:
                self.require(access.start == result.start
                             or not np.isin(access.words(), written).any(),
                             "its result overlaps what it reads")

    def check_lut(self) -> None:
        """Modes and buffers of the lookup engine."""
        fields, config = self.fields, self.config
        modes = [mode.value for mode in LutMode]
        self.require(fields["mode"] in modes, f"mode {fields['mode']} is unknown")
        mode = LutMode(fields["mode"])
        self.require(config.rowgen or mode != LutMode.ROWGEN, "the hardware has no row generator")
        self.require(fields["index_high"] <= 2, f"index_high {fields['index_high']} is unknown")
        self.require(fields["slices"] * ROW_ENTRIES <= ROW_ENTRIES << 2 * fields["index_high"],
                     f"{fields['slices']} slices with index_high {fields['index_high']}")
        self.require(config.rowgen or fields["slices"] == 1, "the hardware has no slices")
        self.require(fields["blocks"] <= config.index_blocks,
                     f"{fields['blocks']} column blocks, the index buffer holds "
                     f"{config.index_blocks}")
        form = RecordFormat.of(fields, config)
        for name in ("table_words", "record_words", "rows_per_code", "bundle_words"):
            self.require(fields[name] == getattr(form, name),
                         f"{name} is {fields[name]}, its other fields say {getattr(form, name)}")
        words = form.table_words
        if mode == LutMode.GATHER:
            words = form.bundle_words * fields["tokens"]
        self.require(words <= config.table_words,
                     f"{words} table words, the buffer holds {config.table_words}")
        self.check_stride(fields["rounds"] * config.positions_per_port * form.record_words
                          * config.port_bytes)

    def check_simd(self) -> None:
        """Modes and groups of the multiplier array."""
        fields, config = self.fields, self.config
        self.require(config.simd, "the hardware has no multiplier array")
        self.require(fields["mode"] in [mode.value for mode in SimdMode],
                     f"mode {fields['mode']} is unknown")
        self.require(fields["rounds"] % fields["group_rounds"] == 0,
                     f"{fields['rounds']} rounds are not whole groups of {fields['group_rounds']}")
        group = fields["group_rounds"] * config.word_elements
        self.require(group <= config.group_max,
                     f"weight groups of {group}, the hardware takes {config.group_max}")
        form = WeightFormat.of(fields, config)
        self.check_stride(form.blocks * form.groups * form.group_bytes)

    def check_stride(self, region_bytes: int) -> None:
        """Regions of the weight ports do not overlap."""
        self.require(self.config.weight_ports == 1
                     or self.fields["port_stride"] * LINE_BYTES >= region_bytes,
                     f"port regions of {region_bytes} bytes overlap")
