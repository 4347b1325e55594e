"""Instructions of one linear layer for one tile of tokens: column tiles and input tiles."""

from __future__ import annotations

import functools

import numpy as np

from compiler.errors import CompileError
from compiler.image.access import operand_rows
from compiler.image.layout import align, pack_centroids, pack_parameters, pad_axis
from compiler.image.records import RecordFormat, pack_records
from compiler.image.weights import WeightFormat, pack_weights
from compiler.ir.matmul import LutMatmul, RowgenMatmul, SimdMatmul
from compiler.ir.ops import Dequantize, Quantize, Search
from compiler.lower.allocate import OutOfSpaceError
from compiler.lower.context import Context, Operand
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.golden.lookup import row_offset
from hw.isa import DrainMode, LutMode, Opcode, SimdMode

ROUNDS_MAX = 4095
BLOCKS_MAX = 255
DRAIN_WORDS_MAX = 4095
ROWS_PER_CODE_MAX = 4095
RECORD_WORDS_MAX = 65535
SEARCH_CHUNKS = 4
"""Parts of the rounds that are searched one after the other while the lookup engine works."""
CHUNK_ROUNDS_MIN = 4

Matmul = LutMatmul | RowgenMatmul | SimdMatmul


def column_tiles(blocks: int, group_blocks: int, most: int, groups: int) -> list[tuple[int, int]]:
    """Cut column blocks into tiles of at most ``most`` blocks that keep to groups.

    A tile is up to ``groups`` whole groups of ``group_blocks``, or a part of one group.
    """
    if most >= group_blocks:
        step = min(most // group_blocks, groups) * group_blocks
        return [(at, min(at + step, blocks)) for at in range(0, blocks, step)]
    return [
        (at, min(at + most, group + group_blocks, blocks))
        for group in range(0, blocks, group_blocks)
        for at in range(group, min(group + group_blocks, blocks), most)
    ]


def chunks(rounds: int, size: int) -> list[tuple[int, int]]:
    """Cut rounds into parts of ``size``."""
    return [(at, min(at + size, rounds)) for at in range(0, rounds, size)]


def drain_zero(zero: Ints, matmul: Matmul, config: HardwareConfig) -> Ints:
    """Zero that also takes off what filled-up positions of computed rows add."""
    if not isinstance(matmul, RowgenMatmul):
        return zero
    positions = matmul.codebooks.shape[0]
    extra = align(positions, config.positions) - positions
    wide = zero.astype(np.int64) - extra * row_offset(matmul.row_bits)
    if int(wide.min()) < -(2**31):
        raise CompileError(f"{matmul.name}: {positions} positions overflow the dequantizer's zero")
    return wide.astype(np.int32)


def common_zero(zero: Ints, multiplier: Ints, bias: Ints) -> int | None:
    """The one zero of all columns that give more than 0 if none has a bias, else None."""
    used = zero[multiplier != 0]
    if bias.any() or (used != used[:1]).any():
        return None
    return int(used[0]) if len(used) else 0


class LinearEmitter:
    """Emits LUT or SIMD and DRAIN instructions of one layer into a context.

    pieces: column tiles to cut at least where that reads no table twice, so that one is drained
    while the next is computed.
    """

    def __init__(
        self, context: Context, matmul: Matmul, dequantize: Dequantize, pieces: int = 1
    ) -> None:
        self.context, self.matmul, self.dequantize = context, matmul, dequantize
        self.config = context.config
        config, out = self.config, dequantize.out
        words = context.words[out.name]
        self.columns = out.shape[1]
        self.block_words = config.lanes // config.word_elements
        self.blocks = max(-(-self.columns // config.lanes), -(-words // self.block_words))
        self.words = words
        most = min(config.accumulator_words // context.tokens, BLOCKS_MAX,
                   DRAIN_WORDS_MAX // self.block_words)
        if not most:
            raise OutOfSpaceError("accumulator (accumulator_words)", context.tokens,
                             config.accumulator_words, 0)
        piece = -(-self.blocks // pieces)
        if isinstance(matmul, SimdMatmul):
            self.check_simd(matmul)
            most = min(most, piece)
            self.tiles = column_tiles(self.blocks, self.blocks, most, 1)
        else:
            self.group_blocks = self.blocks
            if matmul.group_columns < self.columns:
                self.group_blocks = matmul.group_columns // config.lanes
                if matmul.group_columns % config.lanes:
                    raise CompileError(
                        f"{matmul.name}: groups of {matmul.group_columns} columns are not a "
                        f"multiple of the {config.lanes} lanes of hardware {config.name}")
            self.check_lut(matmul)
            if isinstance(matmul, LutMatmul):
                piece = align(piece, self.group_blocks)
            most = min(most, config.index_blocks, piece)
            groups = self.most_groups(matmul)
            self.tiles = column_tiles(self.blocks, self.group_blocks, most, groups)

    def check_lut(self, matmul: LutMatmul | RowgenMatmul) -> None:
        """Raise CompileError when the lookup engine cannot run the layer."""
        config, name = self.config, matmul.name
        if isinstance(matmul, RowgenMatmul):
            if not config.rowgen:
                raise CompileError(f"{name}: hardware {config.name} has no row generator; use "
                                   "lut2d or simd there")
            if matmul.row_bits != config.row_bits:
                raise CompileError(f"{name}: rows of {matmul.row_bits} bits, hardware "
                                   f"{config.name} computes rows of {config.row_bits}")
            length, entries = matmul.codebooks.shape[3], matmul.codebooks.shape[2]
        else:
            search = self.context.made[matmul.codes.name]
            assert isinstance(search, Search)
            length, entries = search.centroids.shape[2], matmul.tables.shape[3]
            if matmul.gather and config.shared_ports:
                raise CompileError(f"{name}: hardware {config.name} fetches no rows (gather), as "
                                   f"lanes share its {config.weight_ports} weight_ports; use at "
                                   f"most {config.positions}")
            if search.l2 and not config.l2_search:
                raise CompileError(f"{name}: hardware {config.name} has no L2 search; use the "
                                   "chebyshev metric")
            if matmul.tables.shape[1] > config.act_codes_max:
                raise CompileError(
                    f"{name}: {matmul.tables.shape[1]} activation centroids, hardware "
                    f"{config.name} searches {config.act_codes_max}")
        if length != config.vector_length:
            raise CompileError(f"{name}: vectors of {length}, hardware {config.name} has "
                               f"vector_length {config.vector_length}")
        if entries > config.row_entries and not config.wide_indices:
            raise CompileError(f"{name}: {entries} weight centroids, hardware {config.name} "
                               f"takes {config.row_entries}")

    def check_simd(self, matmul: SimdMatmul) -> None:
        """Raise CompileError when the multiplier array cannot run the layer."""
        config, name = self.config, matmul.name
        if not config.simd:
            raise CompileError(f"{name}: hardware {config.name} has no multiplier array; use "
                               "lut2d or rowgen there")
        if matmul.group % config.word_elements or matmul.group > config.group_max:
            raise CompileError(f"{name}: weight groups of {matmul.group}, hardware {config.name} "
                               f"takes multiples of {config.word_elements} up to "
                               f"{config.group_max}")
        if matmul.x.shape[1] // matmul.alphas.shape[0] != config.simd_depth:
            raise CompileError(f"{name}: channel factors are for chunks of "
                               f"{matmul.x.shape[1] // matmul.alphas.shape[0]} inputs, hardware "
                               f"{config.name} takes {config.simd_depth}")
        if (matmul.weight_bits, matmul.act_bits) not in ((4, 4), (4, 8), (8, 8)):
            raise CompileError(f"{name}: the multiplier array has no W{matmul.weight_bits}"
                               f"A{matmul.act_bits} mode")

    def form(self, matmul: LutMatmul | RowgenMatmul, groups: int, blocks: int) -> RecordFormat:
        """Record format of a tile."""
        if isinstance(matmul, RowgenMatmul):
            mode, codes, bits = LutMode.ROWGEN, 1, 8
            entries = matmul.codebooks.shape[2]
        else:
            mode = LutMode.GATHER if matmul.gather else LutMode.STREAM
            codes, bits, entries = matmul.tables.shape[1], matmul.entry_bits, matmul.tables.shape[3]
        high = 0 if entries <= 16 else 1 if entries <= 64 else 2
        return RecordFormat(config=self.config, mode=mode, codes=codes, groups=groups,
                            slices=-(-entries // self.config.row_entries), entry_bits=bits,
                            blocks=blocks, high=high)

    def most_groups(self, matmul: LutMatmul | RowgenMatmul) -> int:
        """Column groups whose rows fit the table buffer and the instruction's fields."""
        groups = -(-self.blocks // self.group_blocks)
        while groups:
            form = self.form(matmul, groups, min(groups * self.group_blocks, self.blocks))
            gather = form.mode == LutMode.GATHER
            needed = form.bundle_words * self.context.tokens if gather else form.table_words
            if (needed <= self.config.table_words and form.bundle_words <= BLOCKS_MAX
                    and form.rows_per_code <= ROWS_PER_CODE_MAX
                    and form.record_words <= RECORD_WORDS_MAX):
                return groups
            groups -= 1
        if gather and self.context.tokens > 1:
            raise OutOfSpaceError("table buffer (table_words)", needed, self.config.table_words,
                                  0)
        raise CompileError(f"{matmul.name}: the rows of one column group take {needed} words, the "
                           f"table buffer of hardware {self.config.name} has "
                           f"{self.config.table_words} (table_words)")

    def emit(self, tokens: int) -> None:
        """Emit all column tiles for ``tokens`` tokens."""
        if self.context.dry and not self.streams_codes:
            return
        for first, last in self.tiles:
            self.emit_tile(tokens, first, last)

    def emit_tile(self, tokens: int, first: int, last: int) -> None:
        """Emit one of the column tiles."""
        if isinstance(self.matmul, LutMatmul):
            self.emit_searched(self.matmul, tokens, first, last)
        else:
            operand = self.context.operands[self.matmul.x.name]
            assert operand.start is not None
            if isinstance(self.matmul, RowgenMatmul):
                for r0, r1 in chunks(operand.rounds, ROUNDS_MAX):
                    start = operand.start + r0 * tokens
                    self.emit_lut(self.matmul, tokens, (first, last), (r0, r1), start)
            else:
                self.emit_simd(self.matmul, tokens, (first, last), operand)
        self.emit_drain(tokens, first, last)
        self.context.bank ^= 1

    @property
    def streams_codes(self) -> bool:
        """Whether codes are searched part by part, each in room of its own."""
        matmul = self.matmul
        return (isinstance(matmul, LutMatmul)
                and self.context.operands[matmul.codes.name].start is None)

    def emit_searched(self, matmul: LutMatmul, tokens: int, first: int, last: int) -> None:
        """SEARCH where the codes are not in the store yet, and LUT, part by part."""
        context = self.context
        operand = context.operands[matmul.codes.name]
        tile = first, last
        if operand.start is None:
            size = max(1, min(context.store.largest_gap() // (2 * context.tokens), ROUNDS_MAX))
            for part in chunks(operand.rounds, size):
                start = context.store.allocate(size * context.tokens)
                self.emit_search(matmul, tokens, part, start)
                self.emit_lut(matmul, tokens, tile, part, start)
                context.store.free(start)
            return
        size = ROUNDS_MAX
        if not operand.done:
            size = min(max(-(-operand.rounds // SEARCH_CHUNKS), CHUNK_ROUNDS_MIN), ROUNDS_MAX)
        for part in chunks(operand.rounds, size):
            start = operand.start + part[0] * tokens
            if not operand.done:
                self.emit_search(matmul, tokens, part, start)
            self.emit_lut(matmul, tokens, tile, part, start)
        operand.done = True

    def emit_search(
        self, matmul: LutMatmul, tokens: int, part: tuple[int, int], start: int
    ) -> None:
        """One SEARCH of some rounds."""
        context, config = self.context, self.config
        search = context.made[matmul.codes.name]
        assert isinstance(search, Search)
        centroids, (r0, r1) = context.graph.constants[search.centroids.name], part
        place = context.places[search.source.name]
        rows = centroids[r0 * config.positions:r1 * config.positions]
        region = context.constant(
            f"{search.name}.centroids[{r0}:{r1}]", functools.partial(pack_centroids, rows, config))
        context.emit(
            Opcode.SEARCH, search.name, region, rounds=r1 - r0, tokens=tokens,
            source=place.start + r0, stride=place.stride, operands=start, l2=int(search.l2))

    def emit_lut(
        self, matmul: LutMatmul | RowgenMatmul, tokens: int, tile: tuple[int, int],
        part: tuple[int, int], start: int,
    ) -> None:
        """One LUT over a column tile and some rounds."""
        context, config = self.context, self.config
        (first, last), (r0, r1) = tile, part
        blocks = last - first
        group_blocks = min(self.group_blocks, blocks)
        form = self.form(matmul, -(-blocks // group_blocks), blocks)
        sparse = (isinstance(matmul, RowgenMatmul) and tokens == 1
                  and matmul.x.name == context.listed)

        def pack() -> bytes:
            rowgen = isinstance(matmul, RowgenMatmul)
            name = matmul.codebooks.name if isinstance(matmul, RowgenMatmul) else matmul.tables.name
            inputs = slice(r0 * config.positions, r1 * config.positions)
            group = first // self.group_blocks
            groups = slice(group, group + form.groups)
            table = context.graph.constants[name][inputs]
            table = table[:, groups] if rowgen else table[:, :, groups]
            columns = slice(first * config.lanes, last * config.lanes)
            indices = context.graph.constants[matmul.indices.name][inputs, columns]
            positions = (r1 - r0) * config.positions
            return pack_records(form, pad_axis(np.ascontiguousarray(table), 0, positions),
                                pad_axis(indices, 0, positions))

        context.emit(
            Opcode.LUT, matmul.name,
            context.constant(f"{matmul.name}[{first}:{last}][{r0}:{r1}]", pack),
            port_stride=form.port_stride(r1 - r0), mode=int(form.mode),
            int4=int(form.entry_bits == 4), rounds=r1 - r0, tokens=tokens, blocks=blocks,
            blocks_per_group=group_blocks, slices=form.slices, rows_per_code=form.rows_per_code,
            record_words=form.record_words, table_words=form.table_words,
            bundle_words=form.bundle_words, index_high=form.high, operands=start, accumulator=0,
            bank=context.bank, first=int(r0 == 0), sparse=int(sparse),
            row_shift=matmul.row_shift if isinstance(matmul, RowgenMatmul) else 0)

    def emit_simd(
        self, matmul: SimdMatmul, tokens: int, tile: tuple[int, int], operand: Operand
    ) -> None:
        """SIMD over a column tile, split where the rounds exceed the field."""
        context, config = self.context, self.config
        first, last = tile
        group_rounds = matmul.group // config.word_elements
        mode = {(4, 4): SimdMode.W4A4, (4, 8): SimdMode.W4A8, (8, 8): SimdMode.W8A8}[
            matmul.weight_bits, matmul.act_bits]
        rows = operand_rows(tokens, mode == SimdMode.W4A4)
        assert operand.start is not None
        for r0, r1 in chunks(operand.rounds, ROUNDS_MAX // group_rounds * group_rounds):
            g0, g1 = r0 // group_rounds, r1 // group_rounds
            form = WeightFormat(config=config, blocks=last - first, groups=g1 - g0,
                                group_rounds=group_rounds, weight_bits=matmul.weight_bits,
                                has_min=matmul.minima is not None)
            pack = functools.partial(self.pack_simd, matmul, form, first, g0)
            context.emit(
                Opcode.SIMD, matmul.name,
                context.constant(f"{matmul.name}[{first}:{last}][{r0}:{r1}]", pack),
                port_stride=form.port_stride, mode=int(mode), has_min=int(form.has_min),
                rounds=r1 - r0, tokens=tokens, blocks=form.blocks, group_rounds=group_rounds,
                shift=matmul.shift, operands=operand.start + r0 * rows,
                alphas=operand.alphas + r0, accumulator=0, bank=context.bank, first=int(r0 == 0),
                plain=0, volatile=0)

    def pack_simd(
        self, matmul: SimdMatmul, form: WeightFormat, first: int, group: int
    ) -> bytes:
        """Weights of a column tile and some groups."""
        constants = self.context.graph.constants
        columns = slice(first * self.config.lanes, (first + form.blocks) * self.config.lanes)
        inputs = slice(group * matmul.group, (group + form.groups) * matmul.group)
        groups = slice(group, group + form.groups)
        minima = None
        if matmul.minima is not None:
            minima = constants[matmul.minima.name][groups, columns]
        return pack_weights(form, constants[matmul.weights.name][columns, inputs],
                            constants[matmul.scales.name][groups, columns], minima)

    def emit_drain(self, tokens: int, first: int, last: int) -> None:
        """DRAIN of a column tile."""
        context, config, op = self.context, self.config, self.dequantize
        constants, target = context.graph.constants, self.drain_fields(first)
        words = min(self.words - first * self.block_words, (last - first) * self.block_words)
        columns = slice(first * config.lanes,
                        first * config.lanes + words * config.word_elements)
        zero = drain_zero(constants[op.zero.name], self.matmul, config)[columns]
        multiplier, bias = constants[op.multiplier.name][columns], constants[op.bias.name][columns]
        common = common_zero(zero, multiplier, bias)
        # Only parameters of their own make filled-up columns less than all others.
        least = (target.get("mode") == DrainMode.ARGMAX
                 and len(multiplier) < words * config.word_elements)
        compact = common is not None and not least
        if compact:
            zero = np.full(words * config.word_elements, common, np.int32)
        region = context.constant(
            f"{op.name}[{first}:{last}]",
            functools.partial(pack_parameters, zero, multiplier, bias, words, config,
                              shift1=op.shift1, shift2=op.shift2, bias_shift=op.bias_shift,
                              least=least, compact=compact))
        scales = 0
        if op.peaks is not None:
            made = context.made[op.peaks.name]
            assert isinstance(made, Quantize)
            scales = context.operands[made.out.name].scales
        context.emit(
            Opcode.DRAIN, op.name, region, **{
                "tokens": tokens, "heads": 1, "blocks": last - first, "words": words,
                "accumulator": 0, "bank": context.bank, "head_stride": 0,
                "mode": int(DrainMode.VECTOR), "uniform": 0,
                "compact": int(compact), "fresh": 0, "column": 0,
                "token_scale": int(op.peaks is not None), "scales": scales, **target})

    def drain_fields(self, first: int) -> dict[str, int]:
        """Where the results of column blocks ``first...`` go: destination, stride, mode."""
        place = self.context.places[self.dequantize.out.name]
        return {"destination": place.start + first * self.block_words, "stride": place.stride}
