"""Lowering of linear layers to operations; layers that share an input share its preparation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compiler.errors import CompileError
from compiler.image.layout import pad_axis
from compiler.ir.graph import GraphBuilder
from compiler.ir.matmul import LutMatmul, RowgenMatmul, SimdMatmul, simd_bound
from compiler.ir.ops import Dequantize, Load, Quantize, Search, Store, Tensor
from compiler.quant.quantized import (
    IntegerInput,
    Lut2dLinear,
    QuantizedLinear,
    RowgenLinear,
    SearchInput,
    SimdLinear,
    same_skip,
)
from compiler.rounded_rows import rounding_of
from hw.fixed import Ints, saturate16

Floats = NDArray[np.float32]


def channel_order(linear: QuantizedLinear, inputs: int) -> Ints:
    """Input channel at each place, without the filled-up places at the end."""
    if isinstance(linear.input, SearchInput):
        return np.arange(inputs)
    order = linear.input.order
    if sorted(order[order >= 0]) != list(range(inputs)):
        raise ValueError("the channel order is not a permutation of the inputs")
    return np.asarray(order[:int(np.flatnonzero(order >= 0)[-1]) + 1])


def input_count(linear: QuantizedLinear, inputs: int, name: str) -> None:
    """Raise CompileError when a linear does not take this many inputs."""
    if isinstance(linear.input, SearchInput):
        positions, _, length = linear.input.centroids.shape
        fits = (positions - 1) * length < inputs <= positions * length
    else:
        fits = int((linear.input.order >= 0).sum()) == inputs
    if not fits:
        raise CompileError(f"{name}: its input has {inputs} channels, not what it was "
                           "quantized for")


def columns_of(linear: QuantizedLinear) -> int:
    """Output columns M."""
    return len(linear.dequantization.multiplier)


def permute_columns(linear: QuantizedLinear, order: Ints, name: str) -> QuantizedLinear:
    """The same layer with column ``order[i]`` at place i; -1 is a column of zeros.

    Raises CompileError when a column would leave the group that shares its codebook.
    """
    if np.array_equal(order, np.arange(columns_of(linear))):
        return linear
    there = order >= 0
    source = np.where(there, order, 0)

    def pick(values: Ints) -> Ints:
        return np.ascontiguousarray(np.where(there, values[..., source], 0), values.dtype)

    old = linear.dequantization
    dequantization = dataclasses.replace(
        old, zero=pick(old.zero), multiplier=pick(old.multiplier), bias=pick(old.bias)
    )
    if isinstance(linear, SimdLinear):
        return dataclasses.replace(
            linear, weights=np.ascontiguousarray(pick(linear.weights.T).T),
            scales=pick(linear.scales), dequantization=dequantization,
            minima=None if linear.minima is None else pick(linear.minima),
        )
    group_columns = linear.group_columns
    if group_columns >= columns_of(linear):
        group_columns = max(group_columns, len(order))
    places = np.arange(len(order)) // group_columns
    if (source // group_columns != places)[there].any():
        raise CompileError(f"{name}: the next layer's channel order crosses its groups of "
                           f"{linear.group_columns} columns; use longer column groups there or "
                           "trip_max 0 in the next layer")
    groups = int(places[-1]) + 1
    if isinstance(linear, RowgenLinear):
        return dataclasses.replace(
            linear, indices=pick(linear.indices), dequantization=dequantization,
            group_columns=group_columns,
            codebooks=pad_axis(linear.codebooks, 1, max(groups, linear.codebooks.shape[1])),
        )
    return dataclasses.replace(
        linear, indices=pick(linear.indices), dequantization=dequantization,
        group_columns=group_columns,
        tables=pad_axis(linear.tables, 2, max(groups, linear.tables.shape[2])),
    )


@dataclass
class Lowering:
    """Builds a graph layer by layer and remembers prepared inputs.

    sources: float activations [T, D] by name, the graph's inputs.
    """

    sources: Mapping[str, Floats]
    builder: GraphBuilder = field(default_factory=GraphBuilder)
    loads: dict[tuple[str, float, bytes], Tensor] = field(default_factory=dict)
    codes: list[tuple[SearchInput, Tensor, Tensor]] = field(default_factory=list)
    integers: list[tuple[IntegerInput, Tensor, Tensor, Tensor, Tensor]] = field(
        default_factory=list
    )

    def load(self, source: str, linear: QuantizedLinear, name: str) -> Tensor:
        """Activations of a source in the steps and the channel order that a layer wants."""
        x = self.sources[source]
        input_count(linear, x.shape[1], name)
        order, scale = channel_order(linear, x.shape[1]), linear.input.x_scale
        key = source, scale, order.tobytes()
        if key not in self.loads:
            made = sum(known[0] == source for known in self.loads)
            base = f"{source}.{made}" if made else source
            steps = saturate16(np.round(x.astype(np.float64) / scale).astype(np.int64))
            given = self.builder.input(f"{base}.activations", steps, scale)
            places = self.builder.constant(f"{base}.order", order.astype(np.int64))
            self.loads[key] = self.builder.add(Load(
                name=f"{base}.load", source=given, order=places,
                out=Tensor(base, (len(x), len(order))),
            ), scale)
        return self.loads[key]

    def search(self, source: Tensor, wanted: SearchInput) -> Tensor:
        """Centroid codes of a tensor."""
        for known, tensor, codes in self.codes:
            if tensor == source and known.l2 == wanted.l2 and (
                known is wanted or np.array_equal(known.centroids, wanted.centroids)
            ):
                return codes
        made = sum(tensor == source for _, tensor, _ in self.codes)
        name = f"{source.name}.search" + (f".{made}" if made else "")
        positions = wanted.centroids.shape[0]
        codes = self.builder.add(Search(
            name=name, source=source, l2=wanted.l2,
            centroids=self.builder.constant(f"{name}.centroids", wanted.centroids),
            out=Tensor(f"{name}.codes", (source.shape[0], positions), "uint8"),
        ))
        self.codes.append((wanted, source, codes))
        return codes

    def quantize(self, source: Tensor, wanted: IntegerInput) -> tuple[Tensor, Tensor, Tensor]:
        """Integer activations of a tensor, the peaks of its tokens, the channel factors."""
        for known, tensor, out, peaks, alphas in self.integers:
            if tensor == source and known.bits == wanted.bits and (
                known is wanted or (np.array_equal(known.alphas, wanted.alphas)
                                    and same_skip(known.skip, wanted.skip))
            ):
                return out, peaks, alphas
        made = sum(tensor == source for _, tensor, *_ in self.integers)
        name = f"{source.name}.quantize" + (f".{made}" if made else "")
        tokens = source.shape[0]
        alphas = self.builder.constant(f"{name}.alphas", wanted.alphas)
        out = Tensor(f"{name}.out", (tokens, len(wanted.order)), "int8")
        peaks = Tensor(f"{name}.peaks", (tokens,), "int64")
        skip, thresholds = wanted.skip, None
        if skip is not None and skip.thresholds is not None:
            thresholds = self.builder.constant(f"{name}.thresholds", skip.thresholds)
        self.builder.add(Quantize(
            name=name, source=source, alphas=alphas, bits=wanted.bits, out=out, peaks=peaks,
            thresholds=thresholds, vector_length=1 if skip is None else skip.vector_length,
            lists=skip is not None))
        self.integers.append((wanted, source, out, peaks, alphas))
        return out, peaks, alphas

    def linear(self, name: str, linear: QuantizedLinear, source: Tensor) -> Tensor:
        """One linear layer: prepared input, products, dequantization."""
        constant, tokens = self.builder.constant, source.shape[0]
        columns, steps = columns_of(linear), linear.dequantization
        peaks: Tensor | None = None
        if isinstance(linear, Lut2dLinear):
            codes = self.search(source, linear.input)
            sums = self.builder.add(LutMatmul(
                name=f"{name}.lut", codes=codes,
                tables=constant(f"{name}.tables", linear.tables),
                indices=constant(f"{name}.indices", linear.indices),
                group_columns=linear.group_columns, entry_bits=linear.entry_bits,
                gather=linear.gather, out=Tensor(f"{name}.sums", (tokens, columns), "int32"),
            ))
        elif isinstance(linear, RowgenLinear):
            x, peaks, _ = self.quantize(source, linear.input)
            row_bits, row_shift = rounding_of(linear)
            sums = self.builder.add(RowgenMatmul(
                name=f"{name}.rowgen", x=x,
                codebooks=constant(f"{name}.codebooks", linear.codebooks),
                indices=constant(f"{name}.indices", linear.indices),
                group_columns=linear.group_columns, row_bits=row_bits, row_shift=row_shift,
                out=Tensor(f"{name}.sums", (tokens, columns), "int32"),
            ))
        else:
            x, peaks, alphas = self.quantize(source, linear.input)
            minima = linear.minima
            sums = self.builder.add(SimdMatmul(
                name=f"{name}.simd", x=x, alphas=alphas,
                weights=constant(f"{name}.weights", linear.weights),
                scales=constant(f"{name}.scales", linear.scales),
                minima=None if minima is None else constant(f"{name}.minima", minima),
                group=linear.group, shift=linear.shift, weight_bits=linear.weight_bits,
                act_bits=linear.input.bits, out=Tensor(f"{name}.sums", (tokens, columns), "int64"),
                bound=simd_bound(linear.weights, linear.input.alphas, linear.scales, minima,
                                 linear.group, linear.shift, linear.input.bits),
            ))
        return self.builder.add(Dequantize(
            name=f"{name}.dequantize", sums=sums, zero=constant(f"{name}.zero", steps.zero),
            multiplier=constant(f"{name}.multiplier", steps.multiplier),
            bias=constant(f"{name}.bias", steps.bias),
            peaks=peaks if steps.token_scale else None, shift1=steps.shift1, shift2=steps.shift2,
            bias_shift=steps.bias_shift, out=Tensor(f"{name}.y", (tokens, columns)),
        ), linear.y_scale)

    def store(self, name: str, source: Tensor) -> Tensor:
        """Keep a tensor as the output ``name``."""
        out = Tensor(name, source.shape)
        return self.builder.add(Store(name=f"{name}.store", source=source, out=out),
                                self.builder.scales[source.name])


def lower_linear(lowering: Lowering, name: str, linear: QuantizedLinear, source: str) -> Tensor:
    """One linear layer of a source, stored as ``name``."""
    x = lowering.load(source, linear, name)
    return lowering.store(name, lowering.linear(name, linear, x))
