"""Checks what a program's constants hold: indices, factors, shifts, sums that fit."""

from __future__ import annotations

import numpy as np

from compiler.errors import VerifyError
from compiler.image.access import ALPHA_ENTRIES, Fields, memory_bytes
from compiler.image.cache import cached_max
from compiler.image.layout import (
    NORM_HEADER,
    DrainParameters,
    split_regions,
    unpack_factors,
    unpack_function,
    unpack_parameters,
    unpack_thresholds,
)
from compiler.image.records import RecordFormat, unpack_records
from compiler.image.sums import Ranges, SumCheck
from compiler.image.weights import WeightFormat, unpack_weights
from compiler.ir.matmul import CENTROID_SUM_MAX, rowgen_bounds, simd_bounds
from compiler.ir.ops import BIAS_SHIFT_MAX, SHIFT_MAX
from hw.config import ALPHA_MAX, HardwareConfig
from hw.fixed import Ints
from hw.golden.lookup import row_offset
from hw.golden.softmax import LOG2_BITS
from hw.isa import LINE_BYTES, LutMode, Opcode, SimdMode

INT8_MAX = 127
LOG2_ACT_BITS = LOG2_BITS + 2
"""Signed bits of a power of two that a log2 code stands for."""


class ContentCheck:
    """Rules that need the constants; ``memory``: uint8. Proofs are kept by address."""

    def __init__(self, memory: Ints, config: HardwareConfig) -> None:
        self.memory, self.config = memory, config
        self.alphas = np.zeros((ALPHA_ENTRIES, config.chunks_per_word), np.uint8)
        self.sums = SumCheck(config)
        self.proved: dict[tuple[object, ...], Ranges] = {}
        self.tables: dict[tuple[object, ...], DrainParameters | None] = {}
        self.factors: dict[tuple[int, int], Ints] = {}
        self.order_tokens = 0
        self.listed = 0, 0

    def region(self, opcode: Opcode, fields: Fields) -> Ints:
        """Bytes behind the address field, not copied."""
        start = fields["address"] * LINE_BYTES
        return self.memory[start:start + memory_bytes(opcode, fields, self.config)]

    def check(self, index: int, opcode: Opcode, fields: Fields) -> None:
        """Check one instruction after all before it."""
        where = f"instruction {index} ({opcode.name})"
        if opcode == Opcode.ORDER:
            self.order_tokens = fields["tokens"]
        elif fields.get("ordered") and fields["order_tokens"] != self.order_tokens:
            raise VerifyError(f"{where}: rows of {fields['order_tokens']} tokens in an order of "
                              f"{self.order_tokens}")
        if opcode == Opcode.QUANTIZE:
            self.quantize(where, fields)
        elif opcode in (Opcode.LUT, Opcode.SIMD):
            key = self.lut(where, fields) if opcode == Opcode.LUT else self.simd(where, fields)
            self.sums.add(key, self.proved[key], fields)
        elif opcode in (Opcode.DRAIN, Opcode.ACTIVATE, Opcode.NORM):
            key = (opcode, fields["address"], fields["words"], fields.get("uniform"),
                   fields.get("compact"))
            if key not in self.tables:
                self.tables[key] = self.parameters(where, opcode, fields)
            if (table := self.tables[key]) is not None:
                self.sums.drain(where, key, table, fields)

    def quantize(self, where: str, fields: Fields) -> None:
        """Channel factors."""
        rounds = fields["rounds"]
        key = fields["address"], rounds
        if fields["lists"]:
            self.listed = rounds, fields["operands"]
        if fields["thresholds"]:
            region = self.region(Opcode.QUANTIZE, fields)
            if int(unpack_thresholds(region, rounds, self.config).min()) < 0:
                raise VerifyError(f"{where}: a threshold is negative")
        if key not in self.factors:
            factors = unpack_factors(self.region(Opcode.QUANTIZE, fields), rounds, self.config)
            if int(factors.max()) > ALPHA_MAX:
                raise VerifyError(f"{where}: a channel factor exceeds {ALPHA_MAX}")
            self.factors[key] = factors
        self.alphas[fields["alphas"]:fields["alphas"] + rounds] = self.factors[key]

    def parameters(self, where: str, opcode: Opcode, fields: Fields) -> DrainParameters | None:
        """Header lines: shifts; multipliers are not negative. Returns those of a DRAIN."""
        data, words, drain = self.region(opcode, fields), fields["words"], None
        if opcode == Opcode.DRAIN:
            drain = unpack_parameters(data, words, self.config, bool(fields["uniform"]),
                                      bool(fields["compact"]))
            shifts = max(drain.shift1, drain.shift2)
            if drain.bias_shift > BIAS_SHIFT_MAX:
                raise VerifyError(f"{where}: bias shift {drain.bias_shift} exceeds "
                                  f"{BIAS_SHIFT_MAX}")
            if int(drain.multiplier.min()) < 0:
                raise VerifyError(f"{where}: a multiplier is negative")
        elif opcode == Opcode.ACTIVATE:
            shifts = unpack_function(data)[2]
        else:
            shifts, columns, _, _ = NORM_HEADER.unpack(data[:NORM_HEADER.size].tobytes())
            if not 0 < columns <= words * self.config.word_elements:
                raise VerifyError(f"{where}: {columns} columns in {words} words")
        if shifts > SHIFT_MAX:
            raise VerifyError(f"{where}: shift {shifts} exceeds {SHIFT_MAX}")
        return drain

    def lut(self, where: str, fields: Fields) -> tuple[object, ...]:
        """Key of the ranges of sums of table or computed rows."""
        if fields["sparse"] and self.listed != (fields["rounds"], fields["operands"]):
            raise VerifyError(f"{where}: the position lists are of another input")
        key = (Opcode.LUT, fields["address"], fields["port_stride"], fields["rounds"],
               fields["blocks"], fields["blocks_per_group"], fields["mode"], fields["int4"],
               fields["record_words"], fields["row_shift"])
        if key not in self.proved:
            form = RecordFormat.of(fields, self.config)
            tables, indices = unpack_records(
                form, self.region(Opcode.LUT, fields), fields["rounds"], fields["port_stride"])
            if int(indices.max()) >= form.entries:
                raise VerifyError(f"{where}: an index exceeds the {form.entries} "
                                  "entries of a row")
            positions = fields["rounds"] * self.config.positions
            low, high = np.zeros(1, np.int64), np.array([positions * ((1 << form.entry_bits) - 1)])
            if form.mode == LutMode.ROWGEN:
                sums = np.abs(tables.astype(np.int16)).sum(axis=3, dtype=np.int16)
                if int(sums.max()) > CENTROID_SUM_MAX:
                    raise VerifyError(f"{where}: a computed row can exceed 16 bits")
                most = rowgen_bounds(
                    tables, indices, fields["blocks_per_group"] * self.config.lanes,
                    self.config.row_bits, fields["row_shift"])
                middle = positions * row_offset(self.config.row_bits)
                low, high = middle - most, middle + most
            self.proved[key] = low, high
        return key

    def simd(self, where: str, fields: Fields) -> tuple[object, ...]:
        """Key of the ranges of scaled sums: of the weights, or of their shape where they change."""
        rounds = fields["rounds"]
        alphas = self.alphas[fields["alphas"]:fields["alphas"] + rounds]
        if fields["plain"]:
            alphas = np.zeros((rounds, self.config.chunks_per_word), np.uint8)
        group = fields["group_rounds"] * self.config.word_elements
        by_group = alphas.reshape(rounds // fields["group_rounds"], -1)
        if (by_group[:, 1:] > by_group[:, :-1]).any():
            raise VerifyError(f"{where}: channel factors rise within a weight group")
        key = (Opcode.SIMD, fields["address"], fields["port_stride"], fields["blocks"],
               fields["has_min"], fields["group_rounds"], fields["shift"], fields["mode"],
               fields["volatile"], alphas.tobytes())
        if key not in self.proved:
            form = WeightFormat.of(fields, self.config)
            data = self.region(Opcode.SIMD, fields)
            if fields["volatile"]:
                most = np.array([self.volatile(where, form, data, fields, int(alphas.max()))])
            else:
                weights, scales, minima = unpack_weights(form, data, fields["port_stride"])
                self.unit_scales(where, fields, scales)
                bits = {SimdMode.W4A4: 4, SimdMode.W8L4: LOG2_ACT_BITS}.get(
                    SimdMode(fields["mode"]), 8)
                most = simd_bounds(weights, alphas.reshape(-1), scales, minima, group,
                                   fields["shift"], bits)
            self.proved[key] = -most, most
        return key

    def unit_scales(self, where: str, fields: Fields, scales: Ints) -> None:
        """The array multiplies its widest products by nothing else."""
        if fields["mode"] == SimdMode.W8L4 and (scales != 1).any():
            raise VerifyError(f"{where}: scales of log2 products must be 1")

    def volatile(
        self, where: str, form: WeightFormat, data: Ints, fields: Fields, alpha: int
    ) -> int:
        """Largest sum of any weights that APPEND leaves under the scales that are there."""
        rows = split_regions(data, self.config.lane_ports, fields["port_stride"],
                             form.blocks * form.groups * form.group_bytes)
        groups = rows.reshape(-1, form.group_bytes)[:, :form.scale_bytes]
        scales = np.ascontiguousarray(groups).view("<i2").astype(np.int64)
        self.unit_scales(where, fields, scales)
        scale = int(np.abs(scales).max())
        limit = 1 << LOG2_BITS if fields["mode"] == SimdMode.W8L4 else INT8_MAX
        inputs = form.group_rounds * self.config.word_elements
        dot = inputs * cached_max(form.weight_bits, self.config) * (limit << alpha) * scale
        return form.groups * ((dot >> fields["shift"]) + 1)
