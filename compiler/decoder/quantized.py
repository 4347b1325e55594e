"""A quantized decoder: every constant of the device, layer by layer.

Heads are filled up to whole vector words: element e of query head h is column
``h * head_stride + e`` of q, and input ``h * head_stride + e`` of o; key and value heads likewise.
With rotary embedding, q and k hold a pair's two elements side by side: place 2i is element i of the
checkpoint's head, place 2i + 1 is element ``i + rotary_width / 2``; elements that do not rotate
follow. Scores do not depend on the order, as q and k share it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from compiler.decoder.token_rule import LayerRule
from compiler.expression import Floats
from compiler.model import Architecture
from compiler.quant.quantized import PositionSkip, QuantizedLinear, SimdLinear
from hw.config import HardwareConfig
from hw.fixed import Ints


@dataclass(frozen=True, kw_only=True)
class NormParameters:
    """Arguments of `hw.golden.norm.normalize`; weight and bias: int16 [D]. y_scale: output step."""

    weight: Ints
    bias: Ints
    shift: int
    inverse: int
    epsilon: int
    center: bool
    y_scale: float


@dataclass(frozen=True, kw_only=True)
class Rescale:
    """A dequantization that is the same for all columns: no zero, no bias, with token scales."""

    multiplier: int
    shift1: int
    shift2: int


@dataclass(frozen=True, kw_only=True)
class AttentionParameters:
    """Scores, softmax and mixture of one layer.

    score: for each key-value head, int32 dot products (int8 q and k) and the row's peak to int16
    scores in log2 units with ``fraction`` fraction bits (1 / sqrt(head_width) included). mix: for
    each key-value head, sums of numerators times int8 values and the row's reciprocal to steps of
    o's input. mix_shift: rounding shift of each value group's sum.
    slopes: ALiBi slope of each query head, 16 fraction bits, or None. window: 0 is none.
    """

    score: Sequence[Rescale]
    mix: Sequence[Rescale]
    fraction: int
    window: int
    log2: bool
    mix_shift: int
    slopes: Sequence[int] | None


@dataclass(frozen=True, kw_only=True)
class HadamardParameters:
    """Arguments of `hw.golden.hadamard.hadamard`."""

    length_bits: int
    shift: int


@dataclass(frozen=True, kw_only=True)
class ActivationParameters:
    """Function table of the MLP: base, delta int16 [256]; shift of the product if ``gated``.

    worst_error: largest error of the table over all inputs, in units of the function's value.
    factor_base, factor_delta: table that up takes before the product, by an ACTIVATE of its own
    that is not gated (dReLU), or None. rotation: of the results, or None.
    """

    base: Ints
    delta: Ints
    shift: int
    gated: bool
    worst_error: float
    factor_base: Ints | None = None
    factor_delta: Ints | None = None
    rotation: HadamardParameters | None = None


@dataclass(frozen=True, kw_only=True)
class FloatLinear:
    """A linear in float, for evaluation: int16 steps of ``x_scale`` to steps of ``y_scale`` [M].

    weight: float32 [M, D]; bias: float32 [M]; a column whose step is infinite is 0. skip: inputs
    below its thresholds count as 0, or None.
    """

    weight: Floats
    bias: Floats
    x_scale: float
    y_scale: Floats
    skip: PositionSkip | None = None


@dataclass(frozen=True, kw_only=True)
class QuantizedLayer:
    """One decoder layer.

    linears: by name: q, k, v, o, gate (gated MLPs only), up, down. Those of o and down
    dequantize to residual steps (`hw.golden.dequant.dequantize32`), the others to int16. Columns of
    gate and up are in the channel order of down; every other input keeps its order.
    k and v: a step of a head in the cache is 256 of its int16 steps, or 4096 with 4 bits
    (`hw.golden.cache`).
    exact: by name, float linears that golden takes in place of ``linears``: only to measure what
    the fixed-point parts cost; such a layer cannot be compiled.
    """

    attention_norm: NormParameters
    mlp_norm: NormParameters
    q_norm: NormParameters | None
    k_norm: NormParameters | None
    linears: Mapping[str, QuantizedLinear]
    attention: AttentionParameters
    activation: ActivationParameters
    exact: Mapping[str, FloatLinear] = field(default_factory=dict)
    token_rule: LayerRule | None = None


@dataclass(frozen=True, kw_only=True)
class QuantizedDecoder:
    """A model for one hardware and one scheme; layers are made or read when asked for.

    residual_scale: step of the int32 residual, a power of two; residual_peak: largest magnitude
    that calibration saw, in units of the model.
    embedding: int16 rows of token ids [n] (steps of ``residual_scale * 2**embedding_shift``);
    position_embedding: int16 [capacity, width] or None (steps ``2**position_shift`` coarser).
    rotations: int16 [capacity, head_stride], cos and sin of `hw.golden.rope`, or None.
    layer: quantized layer i. head: vocabulary columns, its ``y_scale`` is the logit step.
    capacity: positions of the key-value cache. exact_head: as `QuantizedLayer.exact`.
    pass_tokens: tokens of a prefill pass, which a token rule ranks among themselves; 0 without
    a rule: then passes of any length give the same.
    forms: layers of which one stands for every layer in sizes (`compiler.decoder.forms`).
    residual_order: the model's channel at each place of the residual, or None: as it is.
    rotated: residual and values are those of the model that `compiler.rotation` makes of it.
    """

    architecture: Architecture
    hardware: HardwareConfig
    scheme: str
    capacity: int
    residual_scale: float
    residual_peak: float
    embedding: Callable[[Ints], Ints]
    embedding_shift: int
    position_embedding: Ints | None
    position_shift: int
    rotations: Ints | None
    layer: Callable[[int], QuantizedLayer]
    final_norm: NormParameters
    head: SimdLinear
    exact_head: FloatLinear | None = None
    pass_tokens: int = 0
    forms: Sequence[int] = (0,)
    rotated: bool = False
    residual_order: Ints | None = None

    @functools.cached_property
    def head_words(self) -> int:
        """Vector words of one head."""
        return -(-self.architecture.head_width // self.hardware.word_elements)

    @property
    def head_stride(self) -> int:
        """Elements of one head, filled up to whole words."""
        return self.head_words * self.hardware.word_elements

    @property
    def head_group(self) -> int:
        """Query heads that share a key-value head."""
        return self.architecture.heads // self.architecture.kv_heads
