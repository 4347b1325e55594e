"""Linears that share an input: its scale, its channel exponents, scale moved into the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from compiler.decoder.migration import migration_of
from compiler.decoder.quantized import FloatLinear
from compiler.decoder.scaling import activation_scale
from compiler.expression import Floats
from compiler.quant.quantized import IntegerInput, QuantizedLinear, SearchInput
from compiler.quant.quantizer import (
    LinearSpec,
    check_fits,
    input_key,
    quantize_input,
    quantize_linear,
)
from compiler.quant.scales import OutputScale
from hw.config import HardwareConfig


class LinearGroup:
    """Linears of one input.

    x: float input [tokens, D] of the calibration text. ordered: its channels may be reordered.
    fixed: what divides the input's channels is given. least_scale: what the step is at least.
    migration: what every channel of the input is divided by, and the weights multiplied by.
    x_scale: int16 step of the divided input.
    """

    def __init__(
        self, hardware: HardwareConfig, x: Floats, specs: Sequence[LinearSpec],
        ordered: bool = False, fixed: Floats | None = None, least_scale: float = 0.0,
    ) -> None:
        self.hardware, self.ordered = hardware, ordered
        self.migration = migration_of(x, specs) if fixed is None else fixed
        self.x = (x / self.migration).astype(np.float32)
        self.x_scale = max(activation_scale(self.x), least_scale)
        self.sources: dict[tuple[object, ...], SearchInput | IntegerInput] = {}

    def scaled(self, spec: LinearSpec) -> LinearSpec:
        """The linear for the divided input."""
        return dataclasses.replace(spec, weight=spec.weight * self.migration, input_name="x")

    def quantize(self, spec: LinearSpec, y_scale: OutputScale, wide: bool) -> QuantizedLinear:
        """One of the linears; raises CompileError when it does not fit the hardware."""
        check_fits(spec, self.hardware)
        scaled = self.scaled(spec)
        return quantize_linear(scaled, self.source(scaled), self.x, y_scale, wide)

    def source(self, spec: LinearSpec) -> SearchInput | IntegerInput:
        """The input as a linear's scheme wants it; linears that agree share one."""
        key = input_key(spec)
        if key not in self.sources:
            self.sources[key] = quantize_input(spec, self.x, self.x_scale, self.hardware,
                                               self.ordered)
        return self.sources[key]

    def exact(self, spec: LinearSpec, y_scale: Floats) -> FloatLinear:
        """The linear in float."""
        bias = np.zeros(len(spec.weight), np.float32) if spec.bias is None else spec.bias
        return FloatLinear(weight=self.scaled(spec).weight, bias=bias, x_scale=self.x_scale,
                           y_scale=y_scale)
