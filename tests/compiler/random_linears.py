"""Random quantized layers: any integers that the formats allow, results spread over int16."""

from __future__ import annotations

import dataclasses

import numpy as np

from compiler.ir.matmul import simd_bound
from compiler.lower.linear import Floats
from compiler.quant.quantized import (
    Dequantization,
    IntegerInput,
    Lut2dLinear,
    QuantizedLinear,
    RowgenLinear,
    SearchInput,
    SimdLinear,
)
from compiler.rounded_rows import rounded, rounding_of
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.golden.dequant import dequantize
from hw.golden.lookup import ROW_OFFSET, rowgen_sums, table_sums
from hw.golden.multiplier import group_sums
from hw.golden.quantize import quantize
from hw.golden.search import search

KINDS = ("stream", "stream4", "gather", "gather4", "rowgen", "rowgen64", "w8a8", "w4a8", "w4a4")
TOKEN_SCALE_SHIFT = 19


def steps(rng: np.random.Generator, columns: int, zero: int, bound: int, token: bool,
          ) -> Dequantization:
    """Multipliers that spread sums up to ``bound`` over int16."""
    total = max(0, int(bound).bit_length())
    return Dequantization(
        zero=np.full(columns, zero, np.int32),
        multiplier=rng.integers(0, 32768, columns, dtype=np.int16),
        bias=rng.integers(-500, 500, columns, dtype=np.int16),
        shift1=total if token else max(total - 4, 0),
        shift2=TOKEN_SCALE_SHIFT - 4 if token else 0,
        token_scale=token,
    )


def search_input(rng: np.random.Generator, inputs: int, config: HardwareConfig) -> SearchInput:
    """Random centroids; coordinates of filled-up inputs are zero."""
    length = config.vector_length
    positions = -(-inputs // length)
    codes = int(rng.integers(1, config.act_codes_max + 1))
    centroids = rng.integers(-32767, 32768, (positions, codes, length)).astype(np.int16)
    centroids.transpose(0, 2, 1).reshape(positions * length, codes)[inputs:] = 0
    if inputs % length:
        centroids[-1, :, inputs % length:] = 0
    return SearchInput(x_scale=1.0, centroids=centroids,
                       l2=bool(rng.integers(2)) and config.l2_search)


def integer_input(
    rng: np.random.Generator, inputs: int, config: HardwareConfig, bits: int, group: int,
    ordered: bool,
) -> IntegerInput:
    """Random exponents falling within groups; an order that stays within groups."""
    unit = max(group, config.word_elements)
    padded = -(-inputs // unit) * unit
    order = np.arange(padded)
    alphas = np.zeros(padded // config.simd_depth, np.uint8)
    if ordered:
        order = rng.permuted(order.reshape(-1, unit), axis=1).reshape(-1)
        by_group = rng.integers(0, 5, (padded // unit, unit // config.simd_depth))
        alphas = np.sort(by_group, axis=1)[:, ::-1].astype(np.uint8).reshape(-1)
    return IntegerInput(x_scale=1.0, alphas=alphas,
                        order=np.where(order < inputs, order, -1), bits=bits)


def random_input(
    rng: np.random.Generator, kind: str, inputs: int, config: HardwareConfig, group: int,
) -> SearchInput | IntegerInput:
    """Input that a kind of layer takes."""
    if kind.startswith(("stream", "gather")):
        return search_input(rng, inputs, config)
    if kind.startswith("rowgen"):
        return integer_input(rng, inputs, config, 8, config.word_elements, ordered=False)
    return integer_input(rng, inputs, config, 4 if kind == "w4a4" else 8, group, ordered=True)


def random_linear(
    rng: np.random.Generator, kind: str, inputs: int, columns: int, config: HardwareConfig,
    shared: SearchInput | IntegerInput | None = None, group_lanes: int = 1,
) -> QuantizedLinear:
    """A layer of one of `KINDS`; ``group_lanes``: column groups in lanes (0: one group)."""
    group = config.word_elements * 2
    source = shared or random_input(rng, kind, inputs, config, group)
    group_columns = group_lanes * config.lanes or columns
    groups = -(-columns // group_columns)
    if isinstance(source, SearchInput):
        bits = 4 if kind.endswith("4") else 8
        positions, codes, _ = source.centroids.shape
        entries = int(rng.integers(1, config.row_entries + 1))
        return Lut2dLinear(
            input=source,
            tables=rng.integers(0, 1 << bits, (positions, codes, groups, entries), dtype=np.uint8),
            indices=rng.integers(0, entries, (positions, columns), dtype=np.uint8),
            group_columns=group_columns, entry_bits=bits, gather=kind.startswith("gather"),
            y_scale=1.0,
            dequantization=steps(rng, columns, -positions * (1 << bits - 1), positions << bits,
                                 False),
        )
    if kind.startswith("rowgen"):
        positions = -(-inputs // config.vector_length)
        entries = int(rng.integers(17, 65)) if kind == "rowgen64" else int(
            rng.integers(2, config.row_entries + 1))
        shape = (positions, groups, entries, config.vector_length)
        books = rng.integers(-128, 128, shape).astype(np.int8)
        linear = RowgenLinear(
            input=source, codebooks=books,
            indices=rng.integers(0, entries, (positions, columns), dtype=np.uint8),
            group_columns=group_columns, y_scale=1.0,
            dequantization=steps(rng, columns, -positions * ROW_OFFSET, positions << 12, True),
        )
        if not config.rounds_rows:
            return linear
        return rounded(linear, config.row_bits, int(rng.integers(config.row_shift_max + 1)))
    weight_bits = 8 if kind == "w8a8" else 4
    limit = 1 << weight_bits - 1
    padded = len(source.order)
    weights = rng.integers(-limit, limit, (columns, padded)).astype(np.int8)
    weights[:, source.order < 0] = 0
    shape = (padded // group, columns)
    scales = rng.integers(-32768, 32768, shape).astype(np.int16)
    minima = rng.integers(-32768, 32768, shape).astype(np.int16) if rng.integers(2) else None
    shift = 0
    while (bound := simd_bound(weights, source.alphas, scales, minima, group, shift,
                               source.bits)) >= 2**31:
        shift += 1
    return SimdLinear(
        input=source, weights=weights, weight_bits=weight_bits, scales=scales, minima=minima,
        group=group, shift=shift, y_scale=1.0,
        dequantization=steps(rng, columns, 0, bound >> 4, True),
    )


def random_activations(rng: np.random.Generator, tokens: int, inputs: int) -> Floats:
    """Integers as floats: steps of scale 1."""
    return rng.integers(-32767, 32768, (tokens, inputs)).astype(np.float32)


def random_mlp(
    rng: np.random.Generator, kinds: tuple[str, str, str], width: int, hidden: int,
    config: HardwareConfig, group_lanes: int,
) -> dict[str, QuantizedLinear]:
    """Gate, up and down whose scales suit an activation table."""
    gate = random_linear(rng, kinds[0], width, hidden, config, group_lanes=group_lanes)
    shared = gate.input if kinds[1] == kinds[0] else None
    up = random_linear(rng, kinds[1], width, hidden, config, shared, group_lanes)
    down = random_linear(rng, kinds[2], hidden, width, config, group_lanes=group_lanes)
    return {
        "gate": dataclasses.replace(gate, y_scale=2.0**-12),
        "up": dataclasses.replace(up, y_scale=2.0**-12),
        "down": dataclasses.replace(down, input=dataclasses.replace(down.input, x_scale=2.0**-9)),
    }


def direct(linear: QuantizedLinear, x: Ints) -> Ints:
    """What a layer computes on int16 [T, D], by the golden functions and nothing else."""
    steps, tokens = linear.dequantization, len(x)
    peaks = None
    if isinstance(linear, Lut2dLinear):
        positions, _, length = linear.input.centroids.shape
        padded = np.zeros((tokens, positions * length), np.int16)
        padded[:, :x.shape[1]] = x
        codes = search(padded.reshape(tokens, positions, length), linear.input.centroids,
                       linear.input.l2)
        sums = table_sums(codes, linear.tables, linear.indices, linear.group_columns)
    else:
        order = linear.input.order
        ordered = np.where(order >= 0, x[:, order], 0).astype(np.int16)
        q, peaks = quantize(ordered, linear.input.alphas, linear.input.bits)
        if isinstance(linear, RowgenLinear):
            positions, _, _, length = linear.codebooks.shape
            vectors = np.ascontiguousarray(q[:, :positions * length])
            sums = rowgen_sums(vectors.reshape(tokens, positions, length), linear.codebooks,
                               linear.indices, linear.group_columns, *rounding_of(linear))
        else:
            minima = np.zeros_like(linear.scales) if linear.minima is None else linear.minima
            sums = group_sums(q, linear.weights, linear.input.alphas, linear.scales, minima,
                              linear.group, linear.shift)
    return dequantize(sums, steps.zero, steps.multiplier, steps.bias, steps.shift1, steps.shift2,
                      peaks)
