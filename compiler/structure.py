"""Decoders with the sizes of a model and a scheme, and numbers that mean nothing.

They lower to the programs of the real decoder, whose instructions depend on sizes only, without
weights, calibration or quantization: the fast model's input, and what proves it in RTL.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable

import numpy as np

from compiler.activation_table import FACTORS
from compiler.decoder import heads
from compiler.decoder.forms import form_of
from compiler.decoder.quantize import HEAD_BITS
from compiler.decoder.quantized import (
    ActivationParameters,
    AttentionParameters,
    HadamardParameters,
    NormParameters,
    QuantizedDecoder,
    QuantizedLayer,
    Rescale,
)
from compiler.decoder.scaling import check_softmax, mix_shift
from compiler.decoder.token_rule import LayerRule, pass_tokens
from compiler.errors import CompileError
from compiler.fit_sums import check_scores
from compiler.model import INPUT_OF, Architecture
from compiler.quant.quantized import (
    Dequantization,
    IntegerInput,
    Lut2dLinear,
    PositionSkip,
    QuantizedLinear,
    RowgenLinear,
    SearchInput,
    SimdLinear,
)
from compiler.quant.quantizer import LinearSpec, check_fits
from compiler.quant.scheme import Lut2dScheme, RowgenScheme, Scheme, SchemeMap, SimdScheme
from compiler.quant.token_rule import RULED
from compiler.rotation import hidden_length
from compiler.rounded_rows import INT8_MAX, least_shift, rounded
from hw.config import EXACT_ROW_BITS, HardwareConfig
from hw.fixed import Ints
from hw.golden.lookup import row_offset

Numbers = Callable[[int, int, type, tuple[int, ...]], Ints]
"""Whole numbers from a lowest to a highest, of a type and a shape."""
SEGMENTS = 256
GROUP = 128
"""Weight group of the head."""
BOOK_MAX = 60
"""Largest entry of a weight codebook."""


def alike(low: int, high: int, kind: type, shape: tuple[int, ...]) -> Ints:
    """The highest number everywhere, without memory for it."""
    return np.broadcast_to(kind(high), shape)


def drawn(seed: int) -> Numbers:
    """Random numbers, so that no row of activations is zero throughout."""
    rng = np.random.default_rng(seed)

    def numbers(low: int, high: int, kind: type, shape: tuple[int, ...]) -> Ints:
        return rng.integers(low, high, shape, endpoint=True).astype(kind)

    return numbers


class StructureBuilder:
    """Layers of one model, scheme and hardware; layers with equal schemes are one object."""

    def __init__(
        self, architecture: Architecture, scheme: SchemeMap, hardware: HardwareConfig,
        capacity: int, numbers: Numbers,
    ) -> None:
        self.architecture, self.scheme, self.hardware = architecture, scheme, hardware
        self.capacity, self.numbers = capacity, numbers
        width = hardware.word_elements
        self.stride = -(-architecture.head_width // width) * width
        self.layers: dict[Hashable, QuantizedLayer] = {}

    def shape(self, linear: str) -> tuple[int, int]:
        """Columns and inputs, heads filled up to whole words."""
        architecture = self.architecture
        columns, inputs = architecture.linear_shape(linear)
        if linear in ("q", "k", "v"):
            columns = columns // architecture.head_width * self.stride
        return columns, architecture.heads * self.stride if linear == "o" else inputs

    def dequantization(
        self, name: str, columns: int, token_scale: bool, zero: int = 0, group_columns: int = 0
    ) -> Dequantization:
        """Parameters under which sums saturate rather than vanish; each group has a zero."""
        biased = name != "head" and self.architecture.has_bias(name)
        low, high = (1, 99) if biased else (0, 0)
        groups = np.arange(columns, dtype=np.int32) // (group_columns or columns)
        return Dequantization(
            zero=zero + groups, multiplier=self.numbers(1 << 12, 1 << 14, np.int16, (columns,)),
            bias=self.numbers(low, high, np.int16, (columns,)), shift1=0, shift2=4,
            token_scale=token_scale)

    def source(self, scheme: Scheme, inputs: int) -> SearchInput | IntegerInput:
        """How the input of a linear becomes codes or integers."""
        hardware = self.hardware
        if isinstance(scheme, Lut2dScheme):
            positions = -(-inputs // scheme.vector_length)
            shape = positions, scheme.act_codes, scheme.vector_length
            return SearchInput(x_scale=1.0, l2=scheme.metric == "l2",
                               centroids=self.numbers(-2000, 2000, np.int16, shape))
        unit, bits, skip = hardware.word_elements, 8, None
        if isinstance(scheme, SimdScheme):
            unit, bits = max(scheme.group, unit), scheme.act_bits
        padded = -(-inputs // unit) * unit
        if isinstance(scheme, RowgenScheme) and scheme.skips:
            thresholds = np.zeros(padded, np.int16) if scheme.sparsity else None
            skip = PositionSkip(vector_length=scheme.vector_length, thresholds=thresholds)
        places = np.arange(padded)
        return IntegerInput(
            x_scale=1.0, alphas=np.zeros(padded // hardware.simd_depth, np.uint8),
            order=np.where(places < inputs, places, -1), bits=bits, skip=skip)

    def linear(
        self, name: str, scheme: Scheme, columns: int, source: SearchInput | IntegerInput
    ) -> QuantizedLinear:
        """A linear of a scheme on its input."""
        numbers, zero = self.numbers, 0
        searched = scheme.group_columns if isinstance(scheme, Lut2dScheme) else 0
        if isinstance(scheme, RowgenScheme):
            assert isinstance(source, IntegerInput)
            positions = -(-len(source.order) // scheme.vector_length)
            zero = -row_offset(self.hardware.row_bits) * positions
        dequantization = self.dequantization(name, columns, not searched, zero, searched)
        if isinstance(scheme, SimdScheme):
            assert isinstance(source, IntegerInput)
            inputs, most = len(source.order), (1 << (scheme.weight_bits - 1)) - 1
            scales = numbers(1, 9, np.int16, (inputs // scheme.group, columns))
            return SimdLinear(
                input=source, weights=numbers(-most, most, np.int8, (columns, inputs)),
                weight_bits=scheme.weight_bits, scales=scales,
                minima=scales if scheme.asymmetric else None, group=scheme.group, shift=8,
                y_scale=1.0, dequantization=dequantization)
        groups = -(-columns // scheme.group_columns)
        if isinstance(scheme, Lut2dScheme):
            assert isinstance(source, SearchInput)
            positions = len(source.centroids)
            entries = (positions, scheme.act_codes, groups, scheme.weight_codes)
            return Lut2dLinear(
                input=source, tables=numbers(0, (1 << scheme.entry_bits) - 1, np.uint8, entries),
                indices=numbers(0, scheme.weight_codes - 1, np.uint8, (positions, columns)),
                group_columns=scheme.group_columns, entry_bits=scheme.entry_bits,
                gather=scheme.gather, y_scale=1.0, dequantization=dequantization)
        assert isinstance(source, IntegerInput)
        positions = -(-len(source.order) // scheme.vector_length)
        books = (positions, groups, scheme.weight_codes, scheme.vector_length)
        made = RowgenLinear(
            input=source, codebooks=numbers(-BOOK_MAX, BOOK_MAX, np.int8, books),
            indices=numbers(0, scheme.weight_codes - 1, np.uint8, (positions, columns)),
            group_columns=scheme.group_columns, y_scale=1.0, dequantization=dequantization)
        bits = self.hardware.row_bits
        if bits == EXACT_ROW_BITS:
            return made
        most = BOOK_MAX * scheme.vector_length * INT8_MAX
        return dataclasses.replace(rounded(made, bits, least_shift(most, bits)),
                                   dequantization=dequantization)

    def linears(self, index: int) -> dict[str, QuantizedLinear]:
        """All linears of a layer; those of one input share it where their schemes agree."""
        made: dict[Hashable, SearchInput | IntegerInput] = {}
        result = {}
        for name in INPUT_OF:
            if name not in self.architecture.linears:
                continue
            scheme, (columns, inputs) = self.scheme.of(name, index), self.shape(name)
            check_fits(LinearSpec(
                name=f"layers.{index}.{name}", input_name=name, bias=None, blocks=None,
                scheme=scheme, weight=np.broadcast_to(np.float32(0), (columns, inputs))),
                self.hardware)
            key = INPUT_OF[name], input_of(scheme)
            if key not in made:
                made[key] = self.source(scheme, inputs)
            result[name] = self.linear(name, scheme, columns, made[key])
        return result

    def norm(self, width: int, center: bool) -> NormParameters:
        """A norm whose outputs are some hundreds of steps."""
        return NormParameters(
            weight=self.numbers(1 << 13, 1 << 14, np.int16, (width,)),
            bias=self.numbers(0, 9, np.int16, (width,)), shift=26, inverse=(1 << 31) // width,
            epsilon=1, center=center, y_scale=1.0)

    def activation(self) -> ActivationParameters:
        """The MLP's function, its factor's own one, and its rotation."""
        architecture = self.architecture
        factor = FACTORS.get(self.scheme.activation or architecture.activation)
        length = hidden_length(architecture) if self.scheme.rotation == "online" else 0
        shape = (SEGMENTS,)
        table = np.array(self.numbers(1, 9999, np.int16, shape))
        # Filled-up channels rely on a function that is 0 at 0.
        table[SEGMENTS // 2] = 0
        other = None if factor is None or not architecture.gated else table
        return ActivationParameters(
            base=table, delta=table, shift=4, gated=architecture.gated, worst_error=0.0,
            factor_base=other, factor_delta=other,
            rotation=HadamardParameters(length_bits=length.bit_length() - 1, shift=4)
            if length else None)

    def layer(self, index: int) -> QuantizedLayer:
        """A layer."""
        architecture, rule = self.architecture, self.scheme.token_rule
        ruled = rule is not None and index >= rule.from_layer
        schemes = tuple(self.scheme.of(name, index) for name in architecture.linears)
        key = schemes, ruled
        if key in self.layers:
            return self.layers[key]
        linears = self.linears(index)
        center = architecture.norm == "layer"
        rescale = Rescale(multiplier=1 << 13, shift1=0, shift2=24)
        by_head, log2 = [rescale] * architecture.kv_heads, self.scheme.softmax == "log2"
        head_norm = self.norm(architecture.head_width, False) if architecture.qk_norm else None
        low = {name: self.dequantization(name, len(linears[name].dequantization.zero), True)
               for name in RULED if name in linears}
        self.layers[key] = layer = QuantizedLayer(
            attention_norm=self.norm(architecture.width, center),
            mlp_norm=self.norm(architecture.width, center), q_norm=head_norm, k_norm=head_norm,
            linears=linears, activation=self.activation(),
            attention=AttentionParameters(
                score=by_head, mix=by_head, fraction=4, window=architecture.window,
                log2=log2, mix_shift=mix_shift(self.capacity, log2, self.hardware),
                slopes=heads.slopes(architecture)),
            token_rule=LayerRule(rule=rule, low=low) if ruled and rule is not None else None)
        return layer

    def head(self) -> SimdLinear:
        """The output head."""
        hardware = self.hardware
        scheme = SimdScheme(name="head", weight_bits=HEAD_BITS, act_bits=8,
                            group=min(GROUP, hardware.group_max))
        made = self.linear("head", scheme, self.architecture.vocabulary,
                           self.source(scheme, self.architecture.width))
        assert isinstance(made, SimdLinear)
        return made

    def decoder(self) -> QuantizedDecoder:
        """The whole decoder; raises CompileError or ConfigError where it does not fit."""
        architecture, scheme, hardware = self.architecture, self.scheme, self.hardware
        scheme.check_layers(architecture.layers)
        check_softmax(scheme, hardware)
        if scheme.rotation == "online" and not hardware.rotates:
            raise CompileError(f"scheme {scheme.name}: hardware {hardware.name} computes no "
                               "Hadamard transforms (hadamard is false); use rotation residual")
        if not hardware.simd:
            raise CompileError(f"hardware {hardware.name} has no multiplier array (simd is "
                               "false), which attention and the output head need")
        check_scores(self.stride, hardware, "scores")
        width, forms = architecture.width, dict[Hashable, int]()
        for index in range(architecture.layers):
            forms.setdefault(form_of(self.layer(index)), index)
        rows = self.numbers(-9999, 9999, np.int16, (architecture.vocabulary, width))
        learned = architecture.position == "learned"
        return QuantizedDecoder(
            architecture=architecture, hardware=hardware, scheme=scheme.name,
            capacity=self.capacity, residual_scale=1.0, residual_peak=1.0,
            embedding=lambda tokens: rows[tokens], embedding_shift=2,
            position_embedding=self.numbers(-99, 99, np.int16, (self.capacity, width))
            if learned else None, position_shift=0,
            rotations=heads.rotations(architecture, self.capacity, self.stride),
            layer=self.layer, final_norm=self.norm(width, architecture.norm == "layer"),
            head=self.head(), pass_tokens=pass_tokens(scheme.token_rule, architecture, hardware),
            forms=list(forms.values()), rotated=scheme.rotation != "none")


def input_of(scheme: Scheme) -> Hashable:
    """Equal for schemes whose linears can share an input."""
    if isinstance(scheme, Lut2dScheme):
        return scheme.act_codes, scheme.metric, scheme.seed
    if isinstance(scheme, RowgenScheme):
        return "int8", scheme.skip_zeros, scheme.sparsity
    return scheme.act_bits, scheme.group, scheme.trip_max


def structural_decoder(
    architecture: Architecture, scheme: SchemeMap, hardware: HardwareConfig, capacity: int,
    numbers: Numbers = alike,
) -> QuantizedDecoder:
    """A decoder of the right sizes.

    capacity: positions of the key-value cache. Raises CompileError or ConfigError in one line where
    hardware or scheme cannot hold the model.
    """
    return StructureBuilder(architecture, scheme, hardware, capacity, numbers).decoder()
