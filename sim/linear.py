"""What the linear and drain engines do, by the golden functions."""

from __future__ import annotations

import numpy as np

from compiler.image.access import operand_rows, row_count
from compiler.image.layout import signed4, unpack_bits, unpack_parameters
from compiler.image.records import RecordFormat, unpack_records
from compiler.image.weights import WeightFormat, unpack_weights
from hw.fixed import Ints, saturate16, wrapped
from hw.golden import residual
from hw.golden.dequant import dequantize32
from hw.golden.lookup import rowgen_sums, table_sums
from hw.golden.multiplier import group_sums
from hw.golden.softmax import log2_weights
from hw.isa import DrainMode, LutMode, Opcode, SimdMode
from sim.stores import Fields, Stores

RECORD_FIELDS = ("port_stride", "mode", "int4", "rounds", "blocks", "blocks_per_group", "slices",
                 "rows_per_code", "table_words", "index_high")
WEIGHT_FIELDS = ("port_stride", "mode", "has_min", "rounds", "blocks", "group_rounds")


def accumulate(stores: Stores, fields: Fields, sums: Ints) -> None:
    """Add (or write) sums [tokens, columns] to the accumulator bank; sums wrap around."""
    bank = stores.accumulator[fields["bank"]]
    address = fields["accumulator"] + np.arange(fields["tokens"] * fields["blocks"])
    total = sums.reshape(len(address), -1).astype(np.int64)
    if not fields["first"]:
        total = total + bank[address]
    bank[address] = wrapped(total, stores.config.sum_bits)


def lut(stores: Stores, fields: Fields) -> None:
    """Sums of table rows or computed rows."""
    config, tokens, rounds = stores.config, fields["tokens"], fields["rounds"]
    form = RecordFormat.of(fields, config)

    def unpack(data: Ints) -> tuple[Ints, Ints]:
        tables, indices = unpack_records(form, data, rounds, fields["port_stride"])
        if int(indices.max()) >= form.entries:
            raise ValueError(f"index beyond the {form.entries} entries of a row")
        # Copies: numba compiles once more for arrays that cannot be written.
        return tables.copy(), indices.copy()

    tables, indices = stores.constant(Opcode.LUT, fields, RECORD_FIELDS, unpack)
    group_columns = fields["blocks_per_group"] * config.lanes
    words = stores.operand[fields["operands"] + np.arange(rounds * tokens)]
    if fields["sparse"]:
        words = stores.listed
    by_token = words.reshape(rounds, tokens, -1).transpose(1, 0, 2)
    if form.mode == LutMode.ROWGEN:
        x = np.ascontiguousarray(by_token).view(np.int8)
        sums = rowgen_sums(
            x.reshape(tokens, -1, config.vector_length), tables, indices, group_columns,
            config.row_bits, fields["row_shift"])
    else:
        codes = np.ascontiguousarray(by_token[:, :, ::config.vector_length])
        if int(codes.max()) >= form.codes:
            raise ValueError(f"code {codes.max()} of {form.codes} centroids")
        sums = table_sums(codes.reshape(tokens, -1), tables, indices, group_columns)
    accumulate(stores, fields, sums)


def simd_operands(stores: Stores, fields: Fields) -> Ints:
    """Activations [tokens, inputs] of the array: int8, or powers of two as int16."""
    tokens, rounds = fields["tokens"], fields["rounds"]
    int4 = fields["mode"] == SimdMode.W4A4
    rows = operand_rows(tokens, int4)
    words = stores.operand[fields["operands"] + np.arange(rounds * rows)]
    by_row = np.ascontiguousarray(
        words.reshape(rounds, rows, -1).transpose(1, 0, 2).reshape(rows, -1))
    if int4:
        nibbles = unpack_bits(by_row, 4).reshape(rows, -1, 2)
        pairs = signed4(nibbles.transpose(0, 2, 1))
        return np.ascontiguousarray(pairs.reshape(2 * rows, -1)[:tokens])
    if fields["mode"] == SimdMode.W8L4:
        return log2_weights(by_row).astype(np.int16)
    return by_row.view(np.int8)


def simd(stores: Stores, fields: Fields) -> None:
    """Grouped dot products."""
    rounds, config = fields["rounds"], stores.config
    form = WeightFormat.of(fields, config)

    def unpack(data: Ints) -> tuple[Ints, Ints, Ints]:
        return unpack_weights(form, data, fields["port_stride"])

    if fields["volatile"]:
        weights, scales, minima = unpack(stores.region(Opcode.SIMD, fields))
    else:
        weights, scales, minima = stores.constant(Opcode.SIMD, fields, WEIGHT_FIELDS, unpack)
    alphas = stores.alphas[fields["alphas"] + np.arange(rounds)].reshape(-1)
    if fields["plain"]:
        alphas = np.zeros(rounds * config.chunks_per_word, np.uint8)
    accumulate(stores, fields, group_sums(
        simd_operands(stores, fields), weights, alphas, scales, minima,
        fields["group_rounds"] * config.word_elements, fields["shift"]))


def drain(stores: Stores, fields: Fields) -> None:
    """Accumulator to vector memory, to the residual, or to the largest logit."""
    rows, words, blocks = row_count(fields), fields["words"], fields["blocks"]
    config, uniform, compact = stores.config, bool(fields["uniform"]), bool(fields["compact"])
    table = stores.constant(
        Opcode.DRAIN, fields, ("words", "uniform", "compact"),
        lambda data: unpack_parameters(data, words, config, uniform, compact))
    first = fields["accumulator"] + np.arange(rows * blocks)
    sums = stores.accumulator[fields["bank"]][first].reshape(rows, -1)
    begin = fields["begin"] * config.word_elements
    end = begin + words * config.word_elements
    if end > sums.shape[1]:
        raise ValueError(f"drains {end} columns of {sums.shape[1]}")
    scales = stores.scales[fields["scales"] + np.arange(rows)] if fields["token_scale"] else None
    y = dequantize32(sums[:, begin:end], table.zero, table.multiplier, table.bias, table.shift1,
                     table.shift2, scales, table.bias_shift, config.sum_bits)
    if fields["mode"] == DrainMode.ARGMAX:
        largest(stores, fields, y)
        return
    if fields["mode"] == DrainMode.RESIDUAL:
        address = stores.rows(fields, "destination", 2 * words)
        total = residual.add(residual.from_pairs(stores.vector[address]), y)
        data = residual.to_pairs(total, config.word_elements)
    else:
        address = stores.rows(fields, "destination", words)
        data = saturate16(y).reshape(rows, words, -1)
    stores.vector[address] = data
    # Word by word, all rows of each; the two halves of a residual word stay together.
    by_word = address.reshape(rows, words, -1).transpose(1, 0, 2)
    stores.emit("drain", by_word, data.reshape(rows, *by_word.shape[::2], -1).transpose(1, 0, 2, 3))


def largest(stores: Stores, fields: Fields, y: Ints) -> None:
    """Keep the largest value of one row, the lowest column on ties, and write both."""
    place = int(y[0].argmax())
    found = fields["column"] + place, int(y[0, place])
    if fields["fresh"] or found[1] > stores.best[1]:
        stores.best = found
    word = np.zeros((1, stores.config.word_elements), np.int16)
    word[0, :4] = np.array(stores.best, "<i4").view("<i2")
    address = np.array([fields["destination"]])
    stores.vector[address] = word
    stores.emit("drain", address, word)
