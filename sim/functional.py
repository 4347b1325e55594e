"""Runs a program image on the golden functions: the reference of a whole simulation.

Works from the image's bytes alone: decodes instructions, unpacks the layouts, keeps every store of
the machine in numpy. Instructions run one after the other in program order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from compiler.image.layout import pack_bits
from compiler.image.program import decode_program, steps
from hw.config import HardwareConfig
from hw.errors import LutripError
from hw.fixed import Ints
from hw.isa import Opcode
from sim import engines, linear
from sim.stores import TAPS, Beats, Fields, Stores

ENGINES: Mapping[Opcode, Callable[[Stores, Fields], None]] = {
    Opcode.LOAD: engines.load, Opcode.GATHER: engines.gather, Opcode.SEARCH: engines.search,
    Opcode.QUANTIZE: engines.quantize, Opcode.LUT: linear.lut, Opcode.SIMD: linear.simd,
    Opcode.DRAIN: linear.drain, Opcode.ACTIVATE: engines.activate, Opcode.STORE: engines.store,
    Opcode.APPEND: engines.append, Opcode.NORM: engines.norm, Opcode.ROPE: engines.rope,
    Opcode.HADAMARD: engines.hadamard,
    Opcode.SOFTMAX: engines.softmax, Opcode.ORDER: engines.order,
}


@dataclass(frozen=True, kw_only=True)
class FunctionalResult:
    """Memory after the last instruction, and the beats of every tap."""

    memory: bytes
    beats: Mapping[str, Beats]


class Machine(Stores):
    """The accelerator: `run` programs one after the other on the same memory.

    memory: uint8, written in place; a memory map in copy-on-write mode will do. record: keep the
    beats. expanded: place in the stored program and loop iteration of every instruction of the
    last run, in the order in which they ran; `Beats.instruction` counts in it.
    Constants are unpacked once: nothing but the program may change what it does not write.
    """

    def __init__(self, memory: Ints, config: HardwareConfig, record: bool = True) -> None:
        super().__init__(memory, config, record)
        self.expanded: list[tuple[int, int]] = []

    def run(self, program_address: int) -> dict[str, Beats]:
        """Run the program at a byte address; returns the beats of this run by tap.

        Raises LutripError naming the instruction that goes out of bounds.
        """
        self.clear()
        self.expanded = []
        for step in steps(decode_program(self.memory[program_address:])):
            self.index = len(self.expanded)
            self.expanded.append((step.index, step.iteration))
            try:
                self.step(step.opcode, step.fields)
            except (IndexError, ValueError) as error:
                raise LutripError(
                    f"instruction {step.index} ({step.opcode.name}): {error}") from None
        return {tap: self.collected(tap) for tap in TAPS}

    def step(self, opcode: Opcode, fields: Fields) -> None:
        """Do what one instruction does."""
        ENGINES[opcode](self, fields)


def run_image(image: bytes, config: HardwareConfig, program_address: int) -> FunctionalResult:
    """Run the program at ``program_address`` of a copy of a memory image."""
    machine = Machine(np.frombuffer(image, np.uint8).copy(), config)
    beats = machine.run(program_address)
    return FunctionalResult(memory=machine.memory.tobytes(), beats=beats)


def mask_bytes(mask: Ints) -> Ints:
    """Nibble masks [n, nibbles] as bits, 8 nibbles a byte, nibble 0 lowest."""
    return np.packbits(mask, axis=1, bitorder="little")


def data_mask(mask: Ints) -> Ints:
    """Nibble masks [n, nibbles] as byte masks of the data: uint8 [n, nibbles / 2]."""
    return pack_bits(mask * 15, 4)
