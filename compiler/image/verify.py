"""Verifies an encoded program from its bytes: nothing of the compiler's own records is used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.errors import VerifyError
from compiler.image.bounds import Fields, InstructionCheck
from compiler.image.image import Image, Section
from compiler.image.layout import unpack_factors
from compiler.image.order import check_conflicts, check_tokens
from compiler.image.program import (
    ACCUMULATOR_BANKS,
    ALPHA_ENTRIES,
    Access,
    Space,
    decode_program,
    memory_bytes,
    space_words,
)
from compiler.image.records import RecordFormat, unpack_records
from compiler.image.weights import WeightFormat, unpack_weights
from compiler.ir.matmul import INT32_MAX, simd_bound
from hw.config import ALPHA_MAX, ROW_ENTRIES, HardwareConfig
from hw.isa import LINE_BYTES, LutMode, Opcode, SimdMode

ROWGEN_ENTRY_MAX = 2**16 - 1


def check_written(
    program: Sequence[tuple[Opcode, Fields]], touched: Sequence[Sequence[Access]],
    config: HardwareConfig,
) -> None:
    """Raise VerifyError when an instruction reads on-chip words that none before it wrote."""
    written = {space: np.zeros(space_words(space, config, 0), bool) for space in Space}
    for index, accesses in enumerate(touched):
        for access in accesses:
            if access.space != Space.MEMORY and not access.write:
                words = access.words()
                missing = words[~written[access.space][words]]
                if len(missing):
                    raise VerifyError(
                        f"instruction {index} ({program[index][0].name}): reads "
                        f"{access.space.name.lower()} word {missing[0]}, which nothing wrote")
        for access in accesses:
            if access.space != Space.MEMORY and access.write:
                written[access.space][access.words()] = True


class ContentCheck:
    """Rules that need the constants: indices, channel factors, sums within 32 bits."""

    def __init__(self, memory: bytes, config: HardwareConfig) -> None:
        self.memory, self.config = memory, config
        self.alphas = np.zeros((ALPHA_ENTRIES, config.chunks_per_word), np.uint8)
        self.bounds = np.zeros((ACCUMULATOR_BANKS, config.accumulator_words), np.int64)
        self.proved: dict[tuple[object, ...], int] = {}

    def region(self, opcode: Opcode, fields: Fields) -> bytes:
        """Bytes behind the address field."""
        start = fields["address"] * LINE_BYTES
        return self.memory[start:start + memory_bytes(opcode, fields, self.config)]

    def check(self, index: int, opcode: Opcode, fields: Fields) -> None:
        """Check one instruction after all before it."""
        where = f"instruction {index} ({opcode.name})"
        if opcode == Opcode.QUANTIZE:
            rounds = fields["rounds"]
            factors = unpack_factors(self.region(opcode, fields), rounds, self.config)
            if int(factors.max()) > ALPHA_MAX:
                raise VerifyError(f"{where}: a channel factor exceeds {ALPHA_MAX}")
            self.alphas[fields["alphas"]:fields["alphas"] + rounds] = factors
        elif opcode in (Opcode.LUT, Opcode.SIMD):
            bound = self.lut(where, fields) if opcode == Opcode.LUT else self.simd(where, fields)
            first = fields["accumulator"]
            words = slice(first, first + fields["tokens"] * fields["blocks"])
            bank = self.bounds[fields["bank"]]
            bank[words] = bound + (0 if fields["first"] else bank[words])
            if int(bank[words].max()) > INT32_MAX:
                raise VerifyError(f"{where}: sums reach {bank[words].max()}, more than the 32-bit "
                                  "accumulator holds")

    def lut(self, where: str, fields: Fields) -> int:
        """Largest sum of table or computed rows."""
        key = Opcode.LUT, fields["address"], fields["rounds"], fields["blocks"]
        if key not in self.proved:
            form = RecordFormat.of(fields, self.config)
            _, indices = unpack_records(form, self.region(Opcode.LUT, fields), fields["rounds"],
                                        fields["port_stride"])
            if int(indices.max()) >= form.slices * ROW_ENTRIES:
                raise VerifyError(f"{where}: an index exceeds the {form.slices * ROW_ENTRIES} "
                                  "entries of a row")
            entry = (1 << form.entry_bits) - 1
            if form.mode == LutMode.ROWGEN:
                entry = ROWGEN_ENTRY_MAX
            self.proved[key] = fields["rounds"] * self.config.positions * entry
        return self.proved[key]

    def simd(self, where: str, fields: Fields) -> int:
        """Largest scaled sum, from the weights themselves."""
        alphas = self.alphas[fields["alphas"]:fields["alphas"] + fields["rounds"]]
        group = fields["group_rounds"] * self.config.word_elements
        by_group = alphas.reshape(fields["rounds"] // fields["group_rounds"], -1).astype(int)
        if (by_group[:, 1:] > by_group[:, :-1]).any():
            raise VerifyError(f"{where}: channel factors rise within a weight group")
        key = Opcode.SIMD, fields["address"], fields["shift"], fields["mode"], alphas.tobytes()
        if key not in self.proved:
            form = WeightFormat.of(fields, self.config)
            weights, scales, minima = unpack_weights(
                form, self.region(Opcode.SIMD, fields), fields["port_stride"])
            bits = 4 if fields["mode"] == SimdMode.W4A4 else 8
            self.proved[key] = simd_bound(weights, alphas.reshape(-1), scales, minima, group,
                                          fields["shift"], bits)
        return self.proved[key]


def verify_program(
    memory: bytes, config: HardwareConfig, program_address: int, outputs: Section
) -> None:
    """Raise LutripError in one line unless the program is safe on this hardware.

    Checked: encoding; fields and bounds of every instruction; channel factors and indices; words
    read are written before; no deadlock, no token overflow, no tokens left over; conflicting
    accesses ordered by tokens; no sum can leave the 32-bit accumulator.
    """
    program = decode_program(memory[program_address:])
    touched = [
        InstructionCheck(index, opcode, fields, config).check(len(memory), outputs)
        for index, (opcode, fields) in enumerate(program)
    ]
    check_written(program, touched, config)
    order = check_tokens(program)
    check_conflicts(program, touched, order)
    contents = ContentCheck(memory, config)
    for index, (opcode, fields) in enumerate(program):
        contents.check(index, opcode, fields)


def verify_image(image: Image, config: HardwareConfig) -> None:
    """`verify_program` of an image, which must be for this hardware."""
    if image.digest != config.digest():
        raise VerifyError(f"the image is for hardware {image.digest}, not {config.name} "
                          f"({config.digest()}); compile it again")
    verify_program(image.data, config, image.program_address, image.sections["outputs"])
