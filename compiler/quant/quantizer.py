"""Quantize the linear layers of a block; layers with the same input share its quantization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compiler.errors import CompileError
from compiler.model import QuantizedBlocks
from compiler.quant.integer_input import integer_input
from compiler.quant.kmeans import Floats
from compiler.quant.lut2d import quantize_lut2d, search_input
from compiler.quant.quantized import IntegerInput, QuantizedLinear, SearchInput
from compiler.quant.rowgen import quantize_rowgen
from compiler.quant.scales import OutputScale, int16_scale
from compiler.quant.scheme import Lut2dScheme, RowgenScheme, Scheme
from compiler.quant.simd import quantize_simd, weight_group
from hw.config import HardwareConfig

ACTIVATION_BITS = 8
"""Activation width of ``rowgen``."""


@dataclass(frozen=True, kw_only=True)
class LinearSpec:
    """One linear layer to quantize.

    weight: float32 [M, D]; bias: float32 [M] or None; blocks: the file's own integers or None;
    input_name: layers with the same name read the same tensor.
    """

    name: str
    input_name: str
    weight: Floats
    bias: Floats | None
    blocks: QuantizedBlocks | None
    scheme: Scheme


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
    elif not hardware.simd:
        refuse("it has no multiplier array")
    else:
        group = weight_group(spec.blocks, scheme)
        if group > hardware.group_max or group % hardware.word_elements:
            refuse(f"weight groups of {group}, it takes multiples of {hardware.word_elements} "
                   f"up to {hardware.group_max}")


def quantize_input(
    spec: LinearSpec, x: Floats, x_scale: float, hardware: HardwareConfig, ordered: bool = True
) -> SearchInput | IntegerInput:
    """How the input of a layer becomes codes or integers.

    x: float32 [tokens, D]; ordered: channels may be put into another order (integers only).
    """
    scheme = spec.scheme
    if isinstance(scheme, Lut2dScheme):
        return search_input(x, x_scale, scheme)
    if isinstance(scheme, RowgenScheme):
        return integer_input(x, x_scale, ACTIVATION_BITS, hardware.word_elements, 0, hardware)
    return integer_input(x, x_scale, scheme.act_bits, weight_group(spec.blocks, scheme),
                         scheme.trip_max, hardware, ordered)


def input_key(spec: LinearSpec) -> tuple[object, ...]:
    """Layers with equal keys take the same input."""
    scheme = spec.scheme
    if isinstance(scheme, Lut2dScheme):
        return spec.input_name, scheme.act_codes, scheme.metric, scheme.seed
    if isinstance(scheme, RowgenScheme):
        return spec.input_name, ACTIVATION_BITS, 0, 0
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
    if isinstance(scheme, Lut2dScheme):
        assert isinstance(source, SearchInput)
        return quantize_lut2d(spec.name, spec.weight, spec.bias, source, x, scheme, y_scale, wide)
    assert isinstance(source, IntegerInput)
    if isinstance(scheme, RowgenScheme):
        return quantize_rowgen(spec.name, spec.weight, spec.bias, source, scheme, y_scale, wide)
    return quantize_simd(spec.name, spec.weight, spec.bias, spec.blocks, source, scheme, y_scale,
                         wide)


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
            inputs[key] = quantize_input(spec, x, scales[spec.input_name], hardware)
        y = x @ spec.weight.T
        y_scale = int16_scale(y if spec.bias is None else y + spec.bias)
        result[spec.name] = quantize_linear(spec, inputs[key], x, y_scale)
    return result
