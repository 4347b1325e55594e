"""Verifies encoded programs from their bytes: nothing of the compiler's own records is used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.errors import VerifyError
from compiler.image.access import Access, Space, space_words
from compiler.image.bounds import InstructionCheck
from compiler.image.contents import ContentCheck
from compiler.image.image import Image, Section
from compiler.image.layout import Buffer
from compiler.image.order import check_balance, check_conflicts, check_overflow, check_tokens
from compiler.image.program import Instruction, Step, decode_program, steps
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import LINE_BYTES, Opcode

ITERATIONS = 3
"""Iterations of a loop that stand for all in checks of order: first, middle and last."""
WRITABLE = ("outputs", "cache")
"""Sections of an image that instructions may write."""


def check_written(
    program: Sequence[Step], touched: Sequence[Sequence[Access]], config: HardwareConfig
) -> None:
    """Raise VerifyError when an instruction reads on-chip words that none before it wrote."""
    written = {space: np.zeros(space_words(space, config, 0), bool) for space in Space}
    for step, accesses in zip(program, touched, strict=True):
        for access in accesses:
            if access.space != Space.MEMORY and not access.write:
                if not access.view(written[access.space]).all():
                    words = access.words()
                    missing = words[~written[access.space][words]]
                    raise VerifyError(
                        f"instruction {step.index} ({step.opcode.name}): reads "
                        f"{access.space.name.lower()} word {missing[0]}, which nothing wrote")
        for access in accesses:
            if access.space != Space.MEMORY and access.write:
                access.view(written[access.space])[...] = True


def read_program(memory: Ints, address: int) -> list[Instruction]:
    """Stored instructions at a byte address."""
    if not 0 <= address < len(memory) or address % LINE_BYTES:
        raise VerifyError(f"no program can start at address {address:#x}")
    return decode_program(memory[address:])


class Verifier:
    """Rules of all programs of a memory; proofs about its contents serve every program."""

    def __init__(
        self, memory: Ints, config: HardwareConfig, writable: Sequence[Section]
    ) -> None:
        self.memory, self.config, self.writable = memory, config, writable
        self.contents = ContentCheck(memory, config)

    def check(self, program: Sequence[Instruction]) -> None:
        """Raise VerifyError unless the program is safe."""
        size = len(self.memory)
        few = list(steps(program, ITERATIONS))
        checked: dict[tuple[int, int], list[Access]] = {}
        for step in few:
            check = InstructionCheck(step.index, step.opcode, step.fields, self.config)
            checked[step.index, step.iteration] = check.check(size, self.writable)
        self.check_last(program)
        touched = [checked[step.index, step.iteration] for step in few]
        check_written(few, touched, self.config)
        check_balance(program)
        order = check_tokens(few)
        check_overflow(program)
        check_conflicts(few, touched, order)
        for step in steps(program):
            self.contents.check(step.index, step.opcode, step.fields)

    def check_last(self, program: Sequence[Instruction]) -> None:
        """Bounds of every loop's last iteration; addresses between lie between."""
        index = 0
        while index < len(program):
            opcode, fields = program[index]
            index += 1
            if opcode != Opcode.LOOP:
                continue
            last = fields["count"] - 1
            strides = 0, fields["first_stride"], fields["second_stride"]
            for inner in range(index, index + fields["length"]):
                own_opcode, own = program[inner]
                moved = dict(own)
                if "address" in own:
                    moved["address"] += last * strides[own["base"]]
                InstructionCheck(inner, own_opcode, moved, self.config).check(
                    len(self.memory), self.writable)
            index += fields["length"]


def verify_programs(
    memory: Buffer, config: HardwareConfig, programs: Sequence[int], writable: Sequence[Section]
) -> None:
    """Raise LutripError in one line unless every program is safe on this hardware.

    memory: the image (an array is not copied); programs: byte addresses; writable: sections that
    STORE and APPEND may write. Checked: encoding; fields and bounds of every instruction in every
    iteration; channel factors, indices, shifts; words read are written before; no deadlock, no
    token overflow, no tokens left over; conflicting accesses ordered by tokens; no sum can leave
    the accumulator's bits.
    """
    values = np.frombuffer(memory, np.uint8)
    verifier = Verifier(values, config, writable)
    for address in programs:
        program = read_program(values, address)
        try:
            verifier.check(program)
        except VerifyError as error:
            if len(programs) == 1:
                raise
            raise VerifyError(f"program at {address:#x}: {error}") from None


def verify_image(
    image: Image, config: HardwareConfig, programs: Sequence[int] | None = None
) -> None:
    """`verify_programs` of an image, which must be for this hardware."""
    if image.digest != config.digest():
        raise VerifyError(f"the image is for hardware {image.digest}, not {config.name} "
                          f"({config.digest()}); compile it again")
    writable = [image.sections[name] for name in WRITABLE if name in image.sections]
    addresses = [image.program_address] if programs is None else programs
    verify_programs(image.data, config, addresses, writable)
