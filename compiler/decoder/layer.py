"""Quantize one decoder layer from its float tensors on the calibration text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compiler.activation_table import (
    FACTORS,
    function_of,
    function_table,
    gated_table,
    int16_inputs,
)
from compiler.decoder import heads
from compiler.decoder.balance import best_headroom, key_divisors
from compiler.decoder.gate import gate_range
from compiler.decoder.linears import LinearGroup, migrates
from compiler.decoder.quantized import (
    ActivationParameters,
    AttentionParameters,
    FloatLinear,
    HadamardParameters,
    NormParameters,
    QuantizedLayer,
    Rescale,
)
from compiler.decoder.scaling import (
    activation_scale,
    check_softmax,
    mix_shift,
    norm_parameters,
    rescale,
)
from compiler.decoder.token_rule import layer_rule
from compiler.errors import CompileError
from compiler.expression import Floats
from compiler.fit_sums import check_scores
from compiler.float_layer import Weights
from compiler.image.cache import cached_max
from compiler.lower.linear import channel_order
from compiler.model import Architecture, QuantizedBlocks
from compiler.orthogonal import hadamard_blocks
from compiler.quant.quantized import QuantizedLinear
from compiler.quant.quantizer import LinearSpec
from compiler.quant.scales import int16_scale
from compiler.quant.scheme import SchemeMap
from compiler.quant.weights import QuantizedWeights
from hw.config import ALPHA_MAX, HardwareConfig
from hw.fixed import INT16_MAX, Ints
from hw.golden.cache import cache_max, cache_shift
from hw.golden.softmax import (
    FRACTION_BITS,
    LOG2_BITS,
    LOG2_RECIPROCAL_BITS,
    NUMERATOR_MAX,
    RECIPROCAL_BITS,
)

INT8_MAX = 127
QUERY_HEADROOM = 2.5
SCORE_HEADROOM = 1.5
VALUE_FLOOR = 0.01
"""An element of the values counts as at least this part of the largest."""


@dataclass(frozen=True, kw_only=True)
class LayerContext:
    """What all layers share.

    residual_scale: step of the residual. stride: places of a head. exact: linears stay float;
    with ``both`` they are quantized beside.
    """

    architecture: Architecture
    scheme: SchemeMap
    hardware: HardwareConfig
    capacity: int
    residual_scale: float
    stride: int
    exact: bool
    both: bool = False


def not_zero(peaks: Floats) -> Floats:
    """Peaks from which steps can be made, even where the calibration text is silent."""
    return np.maximum(peaks, 1e-6 * max(float(peaks.max()), 1e-6)).astype(np.float64)


def cache_steps(values: Floats, peaks: Floats, weights: Floats, bits: int) -> Floats:
    """int16 steps of keys or values by head, from `best_headroom`'s arguments."""
    peaks = not_zero(peaks)
    headroom = best_headroom(values, peaks, weights, bits)
    return peaks * headroom / (cache_max(bits) << cache_shift(bits))


class LayerQuantizer:
    """Quantizes the parts of one layer.

    weights: the layer's tensors; blocks: the file's own integers by linear, None where it has
    floats; made: float tensors of the calibration text (`compiler.float_layer.run_layer`); ready:
    weights that `compiler.decoder.weights` has quantized.
    """

    def __init__(
        self, context: LayerContext, index: int, weights: Weights,
        blocks: Mapping[str, QuantizedBlocks | None], made: Mapping[str, Floats],
        ready: Mapping[str, QuantizedWeights],
    ) -> None:
        self.context, self.index, self.name = context, index, f"layers.{index}"
        self.weights, self.blocks, self.made, self.ready = weights, blocks, made, ready
        self.linears: dict[str, QuantizedLinear] = {}
        self.exact: dict[str, FloatLinear] = {}

    def spec(self, linear: str, rows: Ints, columns: Ints | None = None) -> LinearSpec:
        """A linear with its rows (and input columns) at their places; -1 is a place of zeros."""
        weight, blocks = self.weights[f"{linear}.weight"], self.blocks[linear]
        bias = self.weights.get(f"{linear}.bias")
        weight = heads.take(weight, rows)
        if columns is not None and not np.array_equal(columns, np.arange(weight.shape[1])):
            weight, blocks = np.ascontiguousarray(heads.take(weight.T, columns).T), None
        return LinearSpec(
            name=f"{self.name}.{linear}", input_name=linear, weight=weight,
            bias=None if bias is None else heads.take(bias, rows),
            blocks=heads.take_blocks(blocks, rows),
            scheme=self.context.scheme.of(linear, self.index), weights=self.ready.get(linear))

    def add(self, group: LinearGroup, linear: str, spec: LinearSpec, y_scale: Floats,
            wide: bool = False) -> None:
        """Quantize a linear on its group's input, or keep it float, or both."""
        if self.context.exact:
            self.exact[linear] = group.exact(spec, y_scale)
        if not self.context.exact or self.context.both:
            self.linears[linear] = group.quantize(spec, y_scale, wide)

    def norm(self, name: str, migration: Floats, y_scale: float) -> NormParameters:
        """A norm of the residual whose channels are divided by ``migration``."""
        architecture, bias = self.context.architecture, self.weights.get(f"{name}.bias")
        return norm_parameters(
            self.weights[name] / migration, None if bias is None else bias / migration,
            x_scale=self.context.residual_scale, y_scale=y_scale,
            epsilon=architecture.norm_epsilon, center=architecture.norm == "layer",
            name=f"{self.name}.{name}")

    def head_norm(self, name: str, x_scale: float, y_scale: float) -> NormParameters:
        """A norm of every query or key."""
        architecture = self.context.architecture
        order = heads.element_order(architecture, architecture.head_width, rotary=True)
        bias = self.weights.get(f"{name}_norm.bias")
        return norm_parameters(
            self.weights[f"{name}_norm"][order], None if bias is None else bias[order],
            x_scale=x_scale, y_scale=y_scale, epsilon=architecture.norm_epsilon, center=False,
            name=f"{self.name}.{name}_norm")

    def head_peaks(self, name: str, divisors: Floats) -> Floats:
        """Largest magnitudes of q or k, behind its norm, by key-value head.

        divisors: what its elements are divided by, [kv heads, head width].
        """
        names = [f"{name}_normed", f"{name}_rotated"]
        shared = self.made[names[0]].shape[1] // len(divisors)
        by_head = np.repeat(divisors, shared, axis=0)
        peaks = np.max([np.abs(self.made[part] / by_head).max(axis=(0, 2)) for part in names],
                       axis=0)
        peaks = peaks.reshape(self.context.architecture.kv_heads, -1).max(axis=1)
        if self.context.architecture.qk_norm:
            peaks = np.full_like(peaks, peaks.max())
        return not_zero(peaks)

    def value_divisors(self, o: LinearSpec) -> Floats:
        """What every element of the key-value heads' values is divided by, [kv heads, stride].

        Its peak, so that each has int8 steps of its own, where o's weights can take it back.
        """
        stride = self.context.stride
        divisors = np.ones((self.context.architecture.kv_heads, stride), np.float32)
        if migrates(o.scheme, o):
            peaks = np.abs(self.made["v"]).max(axis=0)
            peaks = np.maximum(peaks, VALUE_FLOOR * (float(peaks.max()) or 1.0))
            divisors[:, :peaks.shape[1]] = peaks / np.median(peaks)
        return divisors

    def attention(self) -> tuple[NormParameters, NormParameters | None, NormParameters | None,
                                 AttentionParameters]:
        """q, k, v, o and everything between; their norms."""
        context, architecture = self.context, self.context.architecture
        stride, width = context.stride, architecture.head_width
        rotary = heads.element_order(architecture, stride, rotary=True)
        plain = heads.element_order(architecture, stride, rotary=False)
        specs = {
            name: self.spec(name, heads.head_rows(order, count, width))
            for name, order, count in (("q", rotary, architecture.heads),
                                       ("k", rotary, architecture.kv_heads),
                                       ("v", plain, architecture.kv_heads))}
        of_keys = np.ones((architecture.kv_heads, width), np.float32)
        if not architecture.qk_norm:
            of_keys = key_divisors(architecture, self.made["q_rotated"], self.made["k_rotated"],
                                   context.hardware.key_bits)
        queries = np.square(self.made["q_rotated"]).mean(axis=0)
        queries = np.sqrt(queries.reshape(len(of_keys), -1, width).mean(axis=1)) * of_keys
        steps = {"q": self.head_peaks("q", 1 / of_keys) * QUERY_HEADROOM / INT16_MAX,
                 "k": cache_steps(self.made["k_rotated"] / of_keys, self.head_peaks("k", of_keys),
                                  queries, context.hardware.key_bits)}
        placed = np.where(rotary >= 0, of_keys[:, rotary], 1)
        columns = heads.head_rows(plain, architecture.heads, width)
        o = self.spec("o", np.arange(architecture.width), columns)
        mixed = heads.take(self.made["attention_output"].T, columns).T
        sharing = architecture.heads // architecture.kv_heads
        of_values = self.value_divisors(o)
        out = LinearGroup(context.hardware, mixed, [o],
                          fixed=np.repeat(of_values, sharing, axis=0).reshape(-1))
        values = self.made["v"] / of_values[:, :width]
        steps["v"] = cache_steps(values, np.abs(values).max(axis=(0, 2)), of_values[:, :width],
                                 context.hardware.value_bits)
        norms: dict[str, NormParameters | None] = {"q": None, "k": None}
        group = LinearGroup(context.hardware, self.made["attention_input"], list(specs.values()))
        for name, spec in specs.items():
            step, count = steps[name], architecture.heads if name == "q" else architecture.kv_heads
            if architecture.qk_norm and name in "qk":
                before = activation_scale(self.made[name])
                norms[name] = self.head_norm(name, before, float(step[0]))
                step = np.full_like(step, before)
            by_head = np.repeat(step, count // len(step))[:, None]
            order = plain if name == "v" else rotary
            if name == "q":
                by_head = by_head / np.repeat(placed, sharing, axis=0)
            else:
                by_head = by_head * (of_values if name == "v" else placed)
            self.add(group, name, spec, np.where(order >= 0, by_head, np.inf).reshape(-1))
        self.add(out, "o", o, np.full(architecture.width, context.residual_scale), wide=True)
        return (self.norm("attention_norm", group.migration, group.x_scale), norms["q"],
                norms["k"], self.attention_parameters(steps, out.x_scale))

    def attention_parameters(
        self, steps: Mapping[str, Floats], mixed_scale: float
    ) -> AttentionParameters:
        """Rescaling of scores and mixtures; steps: of q, k and v by key-value head."""
        context, architecture = self.context, self.context.architecture
        log2 = context.scheme.softmax == "log2"
        hardware = context.hardware
        check_softmax(context.scheme, hardware)
        peak = max(float(self.made["score_peak"].max()), 1e-3) * SCORE_HEADROOM
        fraction = max(0, min(FRACTION_BITS, math.floor(math.log2(INT16_MAX / peak))))
        unit = math.log2(math.e) / math.sqrt(architecture.head_width) * 2.0**fraction
        unit *= (1 << cache_shift(hardware.key_bits)) / (INT8_MAX * 2**ALPHA_MAX)
        score_bound = check_scores(context.stride, context.hardware, f"{self.name}.scores")
        mix_bound = float(context.capacity * (1 << LOG2_BITS if log2 else NUMERATOR_MAX)
                          * cached_max(hardware.value_bits, hardware))
        shift = mix_shift(context.capacity, log2, context.hardware)
        share = 2.0 ** (shift + cache_shift(hardware.value_bits)
                       - (LOG2_RECIPROCAL_BITS if log2 else RECIPROCAL_BITS))

        def each(factors: Floats, bound: float, what: str) -> Sequence[Rescale]:
            return [rescale(float(factor), bound, f"{self.name}.{what}") for factor in factors]

        return AttentionParameters(
            score=each(steps["q"] * steps["k"] * unit, score_bound, "scores"),
            mix=each(steps["v"] * share / mixed_scale, mix_bound / 2**shift, "mix"),
            fraction=fraction, window=architecture.window, log2=log2, mix_shift=shift,
            slopes=heads.slopes(architecture))

    def mlp(self) -> tuple[NormParameters, ActivationParameters]:
        """gate, up and down, the function between, and their norm."""
        context, architecture = self.context, self.context.architecture
        activated, rotation = self.activated(), architecture.hidden_rotation
        hidden = hadamard_blocks(activated, rotation) if rotation else activated
        down = self.spec("down", np.arange(architecture.width))
        names = ("gate", "up") if architecture.gated else ("up",)
        folds, least, fixed = np.ones(architecture.ffn_width), 0.0, None
        if architecture.gated:
            factor, of_factor = self.made["up"], FACTORS.get(self.function)
            gate_scale, folds = gate_range(
                function_of(self.function), self.made["gate"],
                factor if of_factor is None else of_factor(factor))
            scales = {"gate": gate_scale}
        else:
            scales = {"up": int16_scale(self.made["up"])}
            fixed = np.ones(architecture.ffn_width, np.float32)
            # The table has values for every input, whatever the calibration text reaches.
            values = function_of(self.function)(int16_inputs() * scales["up"])
            least = float(np.abs(values).max()) / (INT16_MAX - 2)
        if rotation:
            # Scales and an order of the channels would come before the rotation.
            fixed = np.ones(architecture.ffn_width, np.float32)
        out = LinearGroup(context.hardware, hidden, [down], ordered=not rotation, fixed=fixed,
                          least_scale=least / math.sqrt(rotation or 1))
        self.add(out, "down", down, np.full(architecture.width, context.residual_scale), wide=True)
        order = np.arange(architecture.ffn_width)
        if "down" in self.linears:
            order = channel_order(self.linears["down"], architecture.ffn_width)
        if context.both:
            of_floats = self.exact["down"]
            self.exact["down"] = dataclasses.replace(
                of_floats, weight=np.ascontiguousarray(of_floats.weight[:, order]))
        specs = {name: self.ordered(self.spec(name, order), order) for name in names}
        group = LinearGroup(context.hardware, self.made["mlp_input"], list(specs.values()))
        if architecture.gated:
            scales["up"] = activation_scale(self.made["up"] * (folds / out.migration))
        for name, spec in specs.items():
            y_scale = np.full(len(order), scales[name])
            if name == "gate":
                y_scale *= folds[order]
            elif architecture.gated:
                y_scale *= (out.migration / folds)[order]
            self.add(group, name, spec, y_scale)
        return (self.norm("mlp_norm", group.migration, group.x_scale),
                self.activation(scales, out.x_scale, max(least, activation_scale(activated))))

    def ordered(self, spec: LinearSpec, order: Ints) -> LinearSpec:
        """The spec with its quantized weights' rows in down's order of the channels."""
        if spec.weights is None or np.array_equal(order, np.arange(len(order))):
            return spec
        try:
            return dataclasses.replace(spec, weights=spec.weights.rows(order))
        except ValueError:
            raise CompileError(
                f"{spec.name}: down's channel order does not keep the groups of "
                f"{spec.scheme.name}; give it larger group_columns, or down trip_max 0") from None

    @property
    def function(self) -> str:
        """Name or expression of the MLP's function."""
        return self.context.scheme.activation or self.context.architecture.activation

    def activated(self) -> Floats:
        """Result of the MLP's function, which the scheme may choose, on the calibration text."""
        name, rotation = self.context.scheme.activation, self.context.architecture.hidden_rotation
        if name is None:
            hidden = self.made["mlp_hidden"]
            return hadamard_blocks(hidden, rotation) if rotation else hidden
        function, of_factor = function_of(name), FACTORS.get(name)
        if not self.context.architecture.gated:
            return function(self.made["up"]).astype(np.float32)
        up = self.made["up"] if of_factor is None else of_factor(self.made["up"])
        return (function(self.made["gate"]) * up).astype(np.float32)

    def activation(
        self, scales: Mapping[str, float], hidden_scale: float, least_scale: float
    ) -> ActivationParameters:
        """Table of the MLP's function from the given steps, and the rotation behind it.

        hidden_scale: step of down's input; least_scale: what the table's own step is at least
        where a rotation follows, whose shift makes up for the difference.
        """
        architecture, name = self.context.architecture, self.function
        out_scale, rotation = hidden_scale, None
        if length := architecture.hidden_rotation:
            # A token's peak falls to no less than 1 / sqrt(length) of itself.
            most = hidden_scale * math.sqrt(length)
            shift = max(0, math.floor(math.log2(most / least_scale)))
            rotation = HadamardParameters(length_bits=length.bit_length() - 1, shift=shift)
            out_scale = most / 2.0**shift
        function, factor = function_of(name), FACTORS.get(name)
        if not architecture.gated:
            if abs(float(function(np.zeros(1))[0])) > out_scale / 2:
                raise CompileError(f"activation {name} is not 0 at 0, so that an MLP without gate "
                                   "cannot fill up its channels with zeros")
            if factor is not None:
                raise CompileError(f"activation {name} needs an MLP with a gate")
            table = function_table(function, scales["up"], out_scale)
            return ActivationParameters(base=table.base, delta=table.delta, shift=0, gated=False,
                                        worst_error=table.worst_error, rotation=rotation)
        table, shift = gated_table(function, scales["gate"], scales["up"], out_scale)
        of_up = None if factor is None else function_table(factor, scales["up"], scales["up"])
        return ActivationParameters(
            base=table.base, delta=table.delta, shift=shift, gated=True,
            worst_error=table.worst_error, rotation=rotation,
            factor_base=None if of_up is None else of_up.base,
            factor_delta=None if of_up is None else of_up.delta)

    def layer(self) -> QuantizedLayer:
        """The whole layer."""
        attention_norm, q_norm, k_norm, attention = self.attention()
        mlp_norm, activation = self.mlp()
        return QuantizedLayer(
            attention_norm=attention_norm, mlp_norm=mlp_norm, q_norm=q_norm, k_norm=k_norm,
            linears=self.linears, attention=attention, activation=activation, exact=self.exact,
            token_rule=layer_rule(self.context.scheme.token_rule, self.index, self.name,
                                  self.linears))
