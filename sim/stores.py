"""Stores of the accelerator as arrays, and a record of every write to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from compiler.image.access import (
    ACCUMULATOR_BANKS,
    ALPHA_ENTRIES,
    SCALE_ENTRIES,
    memory_bytes,
)
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.golden.importance import ORDER_ENTRIES
from hw.isa import LINE_BYTES, Opcode

Fields = Mapping[str, int]
Constant = TypeVar("Constant")
TAPS = ("load", "gather", "search", "quantize", "drain", "activate", "norm", "rope",
        "hadamard", "softmax",
        "order", "store")
OPERAND_TAPS = ("search", "quantize", "softmax")
"""Taps of the operand store: a byte for each element."""
CONSTANT_BYTES = 4 << 30
"""Memory that unpacked constants may take; more are unpacked again each time."""


@dataclass(frozen=True, kw_only=True)
class Beats:
    """What one engine writes, in order.

    address: int64 [n], words of its store (``store``: byte addresses); data: uint8 [n, bytes], 0
    where the mask is; mask: uint8 [n, nibbles], 1 where a nibble of the data is written, or None
    for all; instruction: int32 [n], place of the instruction in the expanded program.
    """

    address: Ints
    data: Ints
    mask: Ints | None
    instruction: Ints

    def __len__(self) -> int:
        return len(self.address)


def size_of(value: Any) -> int:
    """Bytes of the arrays in a constant."""
    parts = value if isinstance(value, tuple) else vars(value).values()
    return sum(part.nbytes for part in parts if isinstance(part, np.ndarray))


class Stores:
    """State between instructions.

    memory: uint8, written in place; it may be a memory map. record: keep beats. best: index and
    value of the largest logit so far. listed: operand words that the position lists hold. index:
    place of the running instruction in the expanded program.
    """

    def __init__(self, memory: Ints, config: HardwareConfig, record: bool = True) -> None:
        self.config, self.memory, self.record = config, np.asarray(memory), record
        self.vector = np.zeros((config.vector_words, config.word_elements), np.int16)
        self.operand = np.zeros((config.operand_words, config.word_elements), np.uint8)
        self.alphas = np.zeros((ALPHA_ENTRIES, config.chunks_per_word), np.uint8)
        self.scales = np.zeros(SCALE_ENTRIES, np.int64)
        self.listed = np.zeros((0, config.word_elements), np.uint8)
        self.importance = np.zeros(ORDER_ENTRIES, np.int64)
        self.order = np.zeros(ORDER_ENTRIES, np.int64)
        self.accumulator = np.zeros(
            (ACCUMULATOR_BANKS, config.accumulator_words, config.lanes), np.int32)
        self.best = 0, 0
        self.index = 0
        self.parts: dict[str, list[tuple[Ints, Ints, Ints | None, int]]] = {}
        self.constants: dict[tuple[Any, ...], Any] = {}
        self.constant_bytes = 0
        self.clear()

    def clear(self) -> None:
        """Forget all beats."""
        self.parts = {tap: [] for tap in TAPS}

    def emit(self, tap: str, address: Ints, data: Ints, mask: Ints | None = None) -> None:
        """Record the beats of the running instruction; addresses in order, any shape."""
        if not self.record:
            return
        raw = np.array(data, order="C").view(np.uint8).reshape(address.size, -1)
        self.parts[tap].append((address.reshape(-1).astype(np.int64), raw, mask, self.index))

    def collected(self, tap: str) -> Beats:
        """All beats of a tap."""
        parts = self.parts[tap]
        config = self.config
        width = config.word_elements if tap in OPERAND_TAPS else config.port_bytes
        masks = [mask for _, _, mask, _ in parts if mask is not None]
        return Beats(
            address=np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)]),
            data=np.concatenate([np.zeros((0, width), np.uint8), *(part[1] for part in parts)]),
            mask=np.concatenate(masks) if masks else None,
            instruction=np.concatenate([
                np.zeros(0, np.int32),
                *(np.full(len(part[0]), part[3], np.int32) for part in parts),
            ]),
        )

    def bytes_at(self, start: int, size: int) -> Ints:
        """Bytes of memory, not copied; raises ValueError beyond its end."""
        if start + size > len(self.memory):
            raise ValueError(f"reads beyond the {len(self.memory)} bytes of the image")
        return self.memory[start:start + size]

    def region(self, opcode: Opcode, fields: Fields) -> Ints:
        """Bytes that the instruction reads from memory, not copied."""
        return self.bytes_at(
            fields["address"] * LINE_BYTES, memory_bytes(opcode, fields, self.config))

    def constant(
        self, opcode: Opcode, fields: Fields, names: tuple[str, ...],
        unpack: Callable[[Ints], Constant],
    ) -> Constant:
        """What ``unpack`` makes of the instruction's region; kept while there is room.

        names: fields that the result depends on beside the address.
        """
        key = opcode, fields["address"], *(fields[name] for name in names)
        if key in self.constants:
            found: Constant = self.constants[key]
            return found
        value = unpack(self.region(opcode, fields))
        size = size_of(value)
        if self.constant_bytes + size <= CONSTANT_BYTES:
            self.constants[key] = value
            self.constant_bytes += size
        return value

    def rows(self, fields: Fields, start: str, words: int, prefix: str = "") -> Ints:
        """Vector memory addresses [rows, words] of an instruction's rows."""
        token = np.arange(fields["tokens"])[:, None]
        if fields.get("ordered"):
            token = self.order[fields["order"] + token]
        token = token * fields[f"{prefix}stride"]
        head = np.arange(fields.get("heads", 1)) * fields.get(f"{prefix}head_stride", 0)
        address: Ints = fields[start] + (token + head).reshape(-1, 1) + np.arange(words)
        return address
