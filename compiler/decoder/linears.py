"""Linears that share an input: its scale, its channel exponents, scale moved into the weights."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from compiler.decoder.quantized import FloatLinear
from compiler.decoder.scaling import activation_scale
from compiler.expression import Floats
from compiler.fit_sums import fit_sums
from compiler.quant.activation_codebooks import search_divisors
from compiler.quant.quantized import IntegerInput, QuantizedLinear, SearchInput
from compiler.quant.quantizer import (
    LinearSpec,
    check_fits,
    input_key,
    quantize_input,
    quantize_linear,
)
from compiler.quant.scales import OutputScale
from compiler.quant.scheme import Lut2dScheme, RowgenScheme, Scheme, SimdScheme
from compiler.quant.simd import runs_native
from compiler.quant.weights import VectorWeights
from compiler.rounded_rows import round_rows
from hw.config import HardwareConfig

STRENGTHS = (0.0, 0.45, 0.6, 0.75, 0.9)
"""Exponents of a channel's activations against its weights that are tried."""
TOKENS, COLUMNS = 96, 256
"""Calibration tokens and output columns on which they are compared."""
QUANTILE, RARE = 0.99, 0.5
"""A channel's size: this quantile of its share of tokens' peaks, or this part of its largest."""
ROOMS = (np.inf, 64.0, 16.0)
"""How far above other tokens' peaks a massive activation may stay, which widens the int16 step."""
SINK_WEIGHT = 32
SPREAD = 5.0
"""A channel's divisor is within ``2**+-SPREAD`` of the typical one."""
INT8_MAX = 127


def migrates(scheme: Scheme, spec: LinearSpec) -> bool:
    """Whether scale may move into the weights: only int8 ones made from floats bear it."""
    return (isinstance(scheme, SimdScheme) and scheme.weight_bits == 8
            and not runs_native(spec.blocks, scheme))


def searches(spec: LinearSpec) -> bool:
    """Whether the input takes the codebooks to which the weights were fitted."""
    return isinstance(spec.weights, VectorWeights) and spec.weights.centroids is not None


def rounded(x: Floats, width: int) -> Floats:
    """``x`` as int8 with a step for each ``width`` values of a row."""
    parts = np.pad(x, ((0, 0), (0, -x.shape[1] % width))).reshape(len(x), -1, width)
    step = np.abs(parts).max(axis=2, keepdims=True) / INT8_MAX
    step = np.where(step > 0, step, 1)
    y: Floats = (np.round(parts / step) * step).reshape(len(x), -1)[:, :x.shape[1]]
    return y


def migration_of(x: Floats, specs: Sequence[LinearSpec]) -> Floats:
    """What to divide every channel by, so that outlier channels do not set the tokens' steps.

    SmoothQuant (Xiao et al., equation 4): ``size(x)**a / size(w)**(1 - a)``; here a channel's size
    is a quantile of its share of a token's peak, so that the massive activations of single tokens
    count less, and ``a`` is the one with the least output error on a sample (int16 and int8
    rounding). A massive channel is divided further where that helps. The first token
    counts for many: it is an attention sink (Xiao et al., "Efficient Streaming Language Models
    with Attention Sinks"), whose errors every later token sees.
    Ones where a linear does not allow it.
    """
    ones = np.ones(x.shape[1], np.float32)
    if specs and all(searches(spec) for spec in specs):
        length = max(spec.scheme.vector_length for spec in specs
                     if isinstance(spec.scheme, Lut2dScheme))
        return search_divisors([spec.weight for spec in specs], length)
    if not specs or not all(migrates(spec.scheme, spec) for spec in specs):
        return ones
    token_peaks = np.abs(x).max(axis=1, keepdims=True)
    of_peak = np.abs(x) / np.where(token_peaks > 0, token_peaks, 1)
    shares = np.maximum(np.quantile(of_peak, QUANTILE, axis=0), of_peak.max(axis=0) * RARE)
    weights = np.max([np.abs(spec.weight).max(axis=0) for spec in specs], axis=0)
    there = (shares > 0) & (weights > 0)
    if not there.any():
        return ones
    weight = np.concatenate([spec.weight for spec in specs])
    weight = weight[:: -(-len(weight) // COLUMNS)]
    group = max(spec.scheme.group for spec in specs if isinstance(spec.scheme, SimdScheme))
    sample = x[:: -(-len(x) // TOKENS)]
    y = sample @ weight.T
    sizes = np.maximum((y**2).sum(axis=1, keepdims=True), 1e-30)
    best, best_error = ones, np.inf
    usual = max(float(np.quantile(token_peaks, QUANTILE)), 1e-30)
    massive = np.abs(x).max(axis=0) / usual
    for strength, room in itertools.product(STRENGTHS, ROOMS):
        logs = np.zeros(len(shares))
        if strength:
            logs[there] = (strength * np.log2(shares[there])
                           - (1 - strength) * np.log2(weights[there]))
            logs[there] -= np.median(logs[there])
        divisors = np.exp2(np.clip(logs, -SPREAD, SPREAD)).astype(np.float32)
        divisors = np.maximum(divisors, massive / room).astype(np.float32)
        step = activation_scale(x / divisors)
        steps = np.round(sample / divisors / step) * step
        made = rounded(steps, x.shape[1]) @ rounded(weight * divisors, group).T
        errors = ((made - y) ** 2).sum(axis=1) / sizes[:, 0]
        error = float(errors.sum() + SINK_WEIGHT * errors[0])
        if error < best_error:
            best, best_error = divisors, error
    return best


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
        self.hardware, self.ordered, self.specs = hardware, ordered, specs
        self.migration = migration_of(x, specs) if fixed is None else fixed
        self.x = (x / self.migration).astype(np.float32)
        self.x_scale = max(activation_scale(self.x), least_scale)
        self.sources: dict[tuple[object, ...], SearchInput | IntegerInput] = {}

    def scaled(self, spec: LinearSpec) -> LinearSpec:
        """The linear for the divided input."""
        return dataclasses.replace(spec, weight=spec.weight * self.migration, input_name="x",
                                   divisors=self.migration)

    def quantize(self, spec: LinearSpec, y_scale: OutputScale, wide: bool) -> QuantizedLinear:
        """One of the linears; raises CompileError when it does not fit the hardware."""
        check_fits(spec, self.hardware)
        scaled = self.scaled(spec)
        made = quantize_linear(scaled, self.source(scaled), self.x, y_scale, wide)
        return fit_sums(round_rows(made, self.x, self.hardware), self.hardware, spec.name)

    def source(self, spec: LinearSpec) -> SearchInput | IntegerInput:
        """The input as a linear's scheme wants it; linears that agree share one."""
        key = input_key(spec)
        if key not in self.sources:
            sharing = [self.scaled(other) for other in self.specs
                       if input_key(other)[1:] == key[1:]]
            self.sources[key] = quantize_input(spec, self.x, self.x_scale, self.hardware,
                                               self.ordered, sharing)
        return self.sources[key]

    def exact(self, spec: LinearSpec, y_scale: Floats) -> FloatLinear:
        """The linear in float."""
        bias = np.zeros(len(spec.weight), np.float32) if spec.bias is None else spec.bias
        scaled, skip = self.scaled(spec), None
        if isinstance(spec.scheme, RowgenScheme) and spec.scheme.skips:
            check_fits(spec, self.hardware)
            source = self.source(scaled)
            assert isinstance(source, IntegerInput)
            skip = source.skip
        return FloatLinear(weight=scaled.weight, bias=bias, x_scale=self.x_scale,
                           y_scale=y_scale, skip=skip)
