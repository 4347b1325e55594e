"""Runs a program image on the golden functions: the reference of a whole simulation.

Works from the image's bytes alone: decodes instructions, unpacks the layouts, keeps every store of
the machine in numpy. Instructions run one after the other in program order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from compiler.image.layout import (
    pack_bits,
    signed4,
    unpack_bits,
    unpack_centroids,
    unpack_factors,
    unpack_function,
    unpack_parameters,
)
from compiler.image.program import (
    ACCUMULATOR_BANKS,
    ALPHA_ENTRIES,
    SCALE_ENTRIES,
    decode_program,
    memory_bytes,
    operand_rows,
)
from compiler.image.records import RecordFormat, unpack_records
from compiler.image.weights import WeightFormat, unpack_weights
from hw.config import ROW_ENTRIES, HardwareConfig
from hw.errors import LutripError
from hw.fixed import Ints
from hw.golden.activation import activate
from hw.golden.dequant import dequantize
from hw.golden.lookup import rowgen_sums, table_sums
from hw.golden.multiplier import group_sums
from hw.golden.quantize import quantize
from hw.golden.search import search
from hw.isa import LINE_BYTES, LutMode, Opcode, SimdMode

Fields = Mapping[str, int]
TAPS = ("load", "search", "quantize", "drain", "activate", "store")


@dataclass(frozen=True, kw_only=True)
class Beats:
    """What one engine writes, in order.

    address: int64 [n], words of its store (``store``: byte addresses); data: uint8 [n, bytes];
    mask: uint8 [n, nibbles], 1 where a nibble of the data is written, or None for all;
    instruction: int32 [n], index of the instruction in the program.
    """

    address: Ints
    data: Ints
    mask: Ints | None
    instruction: Ints

    def __len__(self) -> int:
        return len(self.address)


@dataclass(frozen=True, kw_only=True)
class FunctionalResult:
    """Memory after the last instruction, and the beats of every tap."""

    memory: bytes
    beats: Mapping[str, Beats]


class Machine:
    """Stores of the accelerator and what each instruction does to them."""

    def __init__(self, image: bytes, config: HardwareConfig) -> None:
        self.config = config
        self.memory = np.frombuffer(image, np.uint8).copy()
        self.vector = np.zeros((config.vector_words, config.word_elements), np.int16)
        self.operand = np.zeros((config.operand_words, config.word_elements), np.uint8)
        self.alphas = np.zeros((ALPHA_ENTRIES, config.chunks_per_word), np.uint8)
        self.scales = np.zeros(SCALE_ENTRIES, np.int64)
        self.accumulator = np.zeros(
            (ACCUMULATOR_BANKS, config.accumulator_words, config.lanes), np.int32
        )
        self.beats: dict[str, list[tuple[Ints, Ints, Ints | None, int]]] = {t: [] for t in TAPS}
        self.index = 0

    def run(self, program_address: int) -> FunctionalResult:
        """Run the program; raises LutripError naming the instruction that goes out of bounds."""
        program = decode_program(self.memory[program_address:].tobytes())
        for self.index, (opcode, fields) in enumerate(program):
            try:
                self.step(opcode, fields)
            except (IndexError, ValueError) as error:
                raise LutripError(f"instruction {self.index} ({opcode.name}): {error}") from None
        return FunctionalResult(
            memory=self.memory.tobytes(),
            beats={tap: self.collected(tap) for tap in TAPS},
        )

    def step(self, opcode: Opcode, fields: Fields) -> None:
        """Do what one instruction does."""
        steps: dict[Opcode, Callable[[Fields], None]] = {
            Opcode.LOAD: self.load, Opcode.SEARCH: self.search, Opcode.QUANTIZE: self.quantize,
            Opcode.LUT: self.lut, Opcode.SIMD: self.simd, Opcode.DRAIN: self.drain,
            Opcode.ACTIVATE: self.activate, Opcode.STORE: self.store,
        }
        steps[opcode](fields)

    def collected(self, tap: str) -> Beats:
        """All beats of a tap."""
        parts = self.beats[tap]
        width = self.operand.shape[1] if tap in ("search", "quantize") else self.config.port_bytes
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

    def emit(self, tap: str, address: Ints, data: Ints, mask: Ints | None = None) -> None:
        """Record the beats of the running instruction."""
        raw = np.ascontiguousarray(data).view(np.uint8).reshape(len(address), -1)
        self.beats[tap].append((address.astype(np.int64), raw, mask, self.index))

    def region(self, opcode: Opcode, fields: Fields) -> bytes:
        """Bytes that the instruction reads from memory."""
        start = fields["address"] * LINE_BYTES
        size = memory_bytes(opcode, fields, self.config)
        if start + size > len(self.memory):
            raise ValueError(f"reads beyond the {len(self.memory)} bytes of the image")
        return self.memory[start:start + size].tobytes()

    def rows(self, fields: Fields, start: str, words: int) -> Ints:
        """Vector memory addresses [tokens, words] of a tensor."""
        rows = np.arange(fields["tokens"]) * fields["stride"]
        return fields[start] + rows[:, None] + np.arange(words)

    def load(self, fields: Fields) -> None:
        """Memory to vector memory."""
        words = np.frombuffer(self.region(Opcode.LOAD, fields), "<i2")
        address = fields["destination"] + np.arange(fields["words"])
        self.vector[address] = words.reshape(len(address), -1)
        self.emit("load", address, self.vector[address])

    def store(self, fields: Fields) -> None:
        """Vector memory to memory."""
        data = self.vector[fields["source"] + np.arange(fields["words"])]
        start, size = fields["address"] * LINE_BYTES, data.nbytes
        if start + size > len(self.memory):
            raise ValueError(f"writes beyond the {len(self.memory)} bytes of the image")
        self.memory[start:start + size] = data.view(np.uint8).reshape(-1)
        self.emit("store", start + np.arange(len(data)) * self.config.port_bytes, data)

    def search(self, fields: Fields) -> None:
        """Nearest centroids into the operand store."""
        tokens, rounds = fields["tokens"], fields["rounds"]
        config = self.config
        data = self.region(Opcode.SEARCH, fields)
        x = self.vector[self.rows(fields, "source", rounds)]
        codes = search(
            x.reshape(tokens, -1, config.vector_length),
            np.ascontiguousarray(unpack_centroids(data, rounds, config)), bool(fields["l2"]),
        )
        words = np.zeros((rounds * tokens, config.word_elements), np.uint8)
        by_round = codes.reshape(tokens, rounds, -1).transpose(1, 0, 2)
        words[:, ::config.vector_length] = by_round.reshape(len(words), -1)
        address = fields["operands"] + np.arange(len(words))
        self.operand[address] = words
        self.emit("search", address, words, np.ones((len(words), 2 * words.shape[1]), np.uint8))

    def quantize(self, fields: Fields) -> None:
        """Integer activations, channel factors and token scales."""
        tokens, rounds, int4 = fields["tokens"], fields["rounds"], fields["int4"]
        factors = unpack_factors(self.region(Opcode.QUANTIZE, fields), rounds, self.config)
        x = self.vector[self.rows(fields, "source", rounds)].reshape(tokens, -1)
        q, peaks = quantize(x, factors.reshape(-1), 4 if int4 else 8)
        self.alphas[fields["alphas"] + np.arange(rounds)] = factors
        self.scales[fields["scales"] + np.arange(tokens)] = peaks
        words: Ints = q.view(np.uint8).reshape(tokens, rounds, -1)
        token = np.arange(tokens)[:, None]
        column = token // 2 if int4 else token
        address = fields["operands"] + np.arange(rounds) * operand_rows(tokens, int4 == 1) + column
        mask = np.ones((tokens, rounds, 2 * words.shape[2]), np.uint8)
        if int4:
            words = (words & 15) << (4 * (token % 2))[..., None].astype(np.uint8)
            # The even token clears the odd one's nibbles, so that every word is defined.
            mask[1::2, :, ::2] = 0
            keep = np.where(token % 2, 0x0F, 0).astype(np.uint8)[..., None]
            for t in range(tokens):
                self.operand[address[t]] = (self.operand[address[t]] & keep[t]) | words[t]
        else:
            self.operand[address] = words
        flat = rounds * tokens
        self.emit("quantize", address.reshape(-1), words.reshape(flat, -1), mask.reshape(flat, -1))

    def accumulate(self, fields: Fields, sums: Ints) -> None:
        """Add (or write) sums [tokens, columns] to the accumulator bank, 32 bits wrapping."""
        bank = self.accumulator[fields["bank"]]
        address = fields["accumulator"] + np.arange(fields["tokens"] * fields["blocks"])
        total = sums.reshape(len(address), -1).astype(np.int64)
        if not fields["first"]:
            total = total + bank[address]
        bank[address] = total.astype(np.int32)

    def lut(self, fields: Fields) -> None:
        """Sums of table rows or computed rows."""
        config, tokens, rounds = self.config, fields["tokens"], fields["rounds"]
        form = RecordFormat.of(fields, config)
        data = self.region(Opcode.LUT, fields)
        tables, indices = unpack_records(form, data, rounds, fields["port_stride"])
        if int(indices.max()) >= form.slices * ROW_ENTRIES:
            raise ValueError(f"index beyond the {form.slices * ROW_ENTRIES} entries of a row")
        # Copies: numba compiles once more for arrays that cannot be written.
        tables, indices = tables.copy(), indices.copy()
        group_columns = fields["blocks_per_group"] * config.lanes
        words = self.operand[fields["operands"] + np.arange(rounds * tokens)]
        by_token = words.reshape(rounds, tokens, -1).transpose(1, 0, 2)
        if form.mode == LutMode.ROWGEN:
            x = np.ascontiguousarray(by_token).view(np.int8)
            sums = rowgen_sums(
                x.reshape(tokens, -1, config.vector_length), tables, indices, group_columns
            )
        else:
            codes = np.ascontiguousarray(by_token[:, :, ::config.vector_length])
            if int(codes.max()) >= form.codes:
                raise ValueError(f"code {codes.max()} of {form.codes} centroids")
            sums = table_sums(codes.reshape(tokens, -1), tables, indices, group_columns)
        self.accumulate(fields, sums)

    def simd(self, fields: Fields) -> None:
        """Grouped dot products."""
        tokens, rounds = fields["tokens"], fields["rounds"]
        int4 = fields["mode"] == SimdMode.W4A4
        form = WeightFormat.of(fields, self.config)
        data = self.region(Opcode.SIMD, fields)
        weights, scales, minima = unpack_weights(form, data, fields["port_stride"])
        rows = operand_rows(tokens, int4)
        words = self.operand[fields["operands"] + np.arange(rounds * rows)]
        by_row = words.reshape(rounds, rows, -1).transpose(1, 0, 2).reshape(rows, -1)
        if int4:
            nibbles = unpack_bits(np.ascontiguousarray(by_row), 4).reshape(rows, -1, 2)
            pairs = signed4(nibbles.transpose(0, 2, 1))
            x = np.ascontiguousarray(pairs.reshape(2 * rows, -1)[:tokens])
        else:
            x = by_row.view(np.int8)
        alphas = self.alphas[fields["alphas"] + np.arange(rounds)].reshape(-1)
        group = fields["group_rounds"] * self.config.word_elements
        sums = group_sums(
            x.copy(), weights.copy(), alphas, scales, minima, group, fields["shift"]
        )
        self.accumulate(fields, sums)

    def drain(self, fields: Fields) -> None:
        """Accumulator to vector memory."""
        tokens, words, blocks = fields["tokens"], fields["words"], fields["blocks"]
        parameters = unpack_parameters(self.region(Opcode.DRAIN, fields), words, self.config)
        first = fields["accumulator"] + np.arange(tokens * blocks)
        sums = self.accumulator[fields["bank"]][first].reshape(tokens, -1)
        columns = words * self.config.word_elements
        if columns > sums.shape[1]:
            raise ValueError(f"drains {columns} columns of {sums.shape[1]}")
        scales = self.scales[fields["scales"] + np.arange(tokens)]
        y = dequantize(
            sums[:, :columns], *parameters, fields["shift1"], fields["shift2"],
            scales if fields["token_scale"] else None,
        )
        data = y.reshape(tokens, words, -1).transpose(1, 0, 2)
        address = self.rows(fields, "destination", words).T
        self.vector[address] = data
        self.emit("drain", address.reshape(-1), data)

    def activate(self, fields: Fields) -> None:
        """Function table and product."""
        base, delta = unpack_function(self.region(Opcode.ACTIVATE, fields))
        words = fields["words"]
        x = self.vector[self.rows(fields, "source", words)]
        gated = bool(fields["gated"])
        factor = self.vector[self.rows(fields, "factor", words)] if gated else None
        y = activate(x, base, delta, factor, fields["shift"])
        address = self.rows(fields, "destination", words)
        self.vector[address] = y
        self.emit("activate", address.reshape(-1), y)


def run_image(image: bytes, config: HardwareConfig, program_address: int) -> FunctionalResult:
    """Run the program at ``program_address`` of a memory image."""
    return Machine(image, config).run(program_address)


def mask_bytes(mask: Ints) -> Ints:
    """Nibble masks [n, nibbles] as bits, 8 nibbles a byte, nibble 0 lowest."""
    return np.packbits(mask, axis=1, bitorder="little")


def data_mask(mask: Ints) -> Ints:
    """Nibble masks [n, nibbles] as byte masks of the data: uint8 [n, nibbles / 2]."""
    return pack_bits(mask * 15, 4)
