"""Quantize the linear layers of a block; layers with the same input share its quantization."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compiler.errors import CompileError
from compiler.model import QuantizedBlocks
from compiler.quant.integer_input import integer_input
from compiler.quant.kmeans import Floats
from compiler.quant.lut2d import fitted_search, quantize_lut2d, search_input
from compiler.quant.methods import quantize_weights
from compiler.quant.quantized import IntegerInput, QuantizedLinear, SearchInput
from compiler.quant.rowgen import quantize_rowgen
from compiler.quant.scales import OutputScale, int16_scale
from compiler.quant.scheme import Lut2dScheme, RowgenScheme, Scheme, SimdScheme
from compiler.quant.simd import own_blocks, runs_native, simd_linear, weight_group
from compiler.quant.sparsity import position_skip
from compiler.quant.weights import GroupedWeights, QuantizedWeights, VectorWeights
from hw.config import HardwareConfig

ACTIVATION_BITS = 8
"""Activation width of ``rowgen``."""


@dataclass(frozen=True, kw_only=True)
class LinearSpec:
    """One linear layer to quantize.

    weight: float32 [M, D]; bias: float32 [M] or None; blocks: the file's own integers or None;
    input_name: layers with the same name read the same tensor. weights: what a method made of
    the weight before, or None; divisors: what the input has been divided by since, [D], or None.
    """

    name: str
    input_name: str
    weight: Floats
    bias: Floats | None
    blocks: QuantizedBlocks | None
    scheme: Scheme
    weights: QuantizedWeights | None = None
    divisors: Floats | None = None


def check_fits(spec: LinearSpec, hardware: HardwareConfig) -> None:
    """Raise CompileError in one line when the hardware cannot run the scheme."""
    scheme = spec.scheme

    def refuse(reason: str) -> None:
        raise CompileError(
            f"{spec.name}: scheme {scheme.name} does not fit hardware {hardware.name}: {reason}"
        )

    if isinstance(scheme, Lut2dScheme | RowgenScheme):
        if scheme.vector_length != hardware.vector_length:
            refuse(f"vector_length is {scheme.vector_length}, the hardware's "
                   f"{hardware.vector_length}")
        if scheme.group_columns % hardware.lanes:
            refuse(f"group_columns {scheme.group_columns} is not a multiple of its "
                   f"{hardware.lanes} lanes")
    if isinstance(scheme, Lut2dScheme):
        if scheme.act_codes > hardware.act_codes_max:
            refuse(f"{scheme.act_codes} activation centroids, it searches "
                   f"{hardware.act_codes_max}")
        if scheme.metric == "l2" and not hardware.l2_search:
            refuse("it has no L2 search")
    elif isinstance(scheme, RowgenScheme):
        if not hardware.rowgen:
            refuse("it has no row generator")
        if scheme.skips and not hardware.skips_positions:
            refuse("it does not skip positions (sparse is false)")
        rounds = -(-spec.weight.shape[1] // hardware.word_elements)
        if scheme.skips and rounds > hardware.list_rounds:
            refuse(f"{rounds} rounds of inputs, its position lists hold {hardware.list_rounds}")
    elif not hardware.simd:
        refuse("it has no multiplier array")
    else:
        group = weight_group(spec.blocks, scheme)
        if group > hardware.group_max or group % hardware.word_elements:
            refuse(f"weight groups of {group}, it takes multiples of {hardware.word_elements} "
                   f"up to {hardware.group_max}")


def quantize_input(
    spec: LinearSpec, x: Floats, x_scale: float, hardware: HardwareConfig, ordered: bool = True,
    sharing: Sequence[LinearSpec] = (),
) -> SearchInput | IntegerInput:
    """How the input of a layer becomes codes or integers.

    x: float32 [tokens, D]; ordered: channels may be put into another order (integers only).
    sharing: layers of the same scheme that take the same input, of which ``spec`` may be one.
    """
    scheme = spec.scheme
    if isinstance(scheme, Lut2dScheme):
        if isinstance(spec.weights, VectorWeights) and spec.weights.centroids is not None:
            return fitted_search(spec.weights.centroids, spec.divisors, x_scale, scheme)
        return search_input(x, x_scale, scheme)
    if isinstance(scheme, RowgenScheme):
        made = integer_input(x, x_scale, ACTIVATION_BITS, hardware.word_elements, 0, hardware)
        if not scheme.skips:
            return made
        weights = [other.weight for other in sharing or (spec,)]
        return dataclasses.replace(made, skip=position_skip(
            x, x_scale, weights, scheme.vector_length, scheme.sparsity, len(made.order)))
    behind = np.concatenate([other.weight for other in sharing or (spec,)])
    return integer_input(x, x_scale, scheme.act_bits, weight_group(spec.blocks, scheme),
                         scheme.trip_max, hardware, ordered, behind)


def input_key(spec: LinearSpec) -> tuple[object, ...]:
    """Layers with equal keys take the same input."""
    scheme = spec.scheme
    if isinstance(scheme, Lut2dScheme):
        return spec.input_name, scheme.act_codes, scheme.metric, scheme.seed
    if isinstance(scheme, RowgenScheme):
        return spec.input_name, ACTIVATION_BITS, 0, 0, scheme.skip_zeros, scheme.sparsity
    group = weight_group(spec.blocks, scheme)
    return spec.input_name, scheme.act_bits, group, scheme.trip_max


def quantize_linear(
    spec: LinearSpec, source: SearchInput | IntegerInput, x: Floats, y_scale: OutputScale,
    wide: bool = False,
) -> QuantizedLinear:
    """One layer on a prepared input; x: its float input, on which tables are fitted.

    y_scale, wide: as for `compiler.quant.scales.dequantization`. Raises CompileError for weights
    that are not finite.
    """
    scheme = spec.scheme
    if not np.isfinite(spec.weight).all():
        raise CompileError(f"{spec.name}: weights are not finite")
    if isinstance(scheme, SimdScheme) and runs_native(spec.blocks, scheme):
        assert isinstance(source, IntegerInput)
        assert spec.blocks is not None
        return simd_linear(spec.name, own_blocks(spec.blocks), spec.bias, source,
                           scheme.weight_bits, y_scale, wide)
    weights = spec.weights
    if weights is None:
        moments: Floats = (x.T @ x)[None]
        weights = quantize_weights(scheme, spec.weight, moments)
    if isinstance(scheme, Lut2dScheme):
        assert isinstance(source, SearchInput)
        assert isinstance(weights, VectorWeights)
        return quantize_lut2d(spec.name, weights, spec.bias, source, x, spec.divisors, scheme,
                              y_scale, wide)
    assert isinstance(source, IntegerInput)
    if isinstance(scheme, RowgenScheme):
        assert isinstance(weights, VectorWeights)
        return quantize_rowgen(spec.name, weights, spec.bias, source, y_scale, wide)
    assert isinstance(weights, GroupedWeights)
    return simd_linear(spec.name, weights, spec.bias, source, scheme.weight_bits, y_scale, wide)


def quantize_linears(
    specs: Sequence[LinearSpec], calibration: Mapping[str, Floats], hardware: HardwareConfig
) -> dict[str, QuantizedLinear]:
    """Quantize layers from float inputs.

    calibration: by input name, float32 [tokens, D], from text that is not evaluated.
    Raises CompileError for a scheme that the hardware cannot run or weights that are not finite.
    """
    inputs: dict[tuple[object, ...], SearchInput | IntegerInput] = {}
    scales = {name: int16_scale(x) for name, x in calibration.items()}
    result: dict[str, QuantizedLinear] = {}
    for spec in specs:
        check_fits(spec, hardware)
        x, key = calibration[spec.input_name], input_key(spec)
        if key not in inputs:
            inputs[key] = quantize_input(
                spec, x, scales[spec.input_name], hardware,
                sharing=[other for other in specs if input_key(other) == key])
        y = x @ spec.weight.T
        y_scale = int16_scale(y if spec.bias is None else y + spec.bias)
        result[spec.name] = quantize_linear(spec, inputs[key], x, y_scale)
    return result
