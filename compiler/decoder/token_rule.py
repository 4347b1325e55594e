"""The token rule on golden functions: int8, int4 and skipped rows of one prefill pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compiler.errors import CompileError
from compiler.ir.matmul import simd_bound
from compiler.model import Architecture
from compiler.quant.quantized import Dequantization, QuantizedLinear, SimdLinear
from compiler.quant.scales import dequantization
from compiler.quant.token_rule import RULED, TokenRule
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.golden.importance import HEADS_MAX, token_order

HIGH_BITS, LOW_BITS = 8, 4
HIGH_LIMIT, LOW_LIMIT = 127, 7
"""Largest int8 and int4 activation: the dequantizations differ by their ratio."""

Part = tuple[Ints, bool]
"""Rows of a pass, and whether they are int4."""


@dataclass(frozen=True, kw_only=True)
class LayerRule:
    """The rule in one layer. low: dequantization behind int4 inputs, by linear."""

    rule: TokenRule
    low: Mapping[str, Dequantization]


@dataclass(frozen=True)
class Ranked:
    """The order of a pass' tokens: ``high`` int8 ones, ``low`` int4 ones, the pruned ones."""

    order: Ints
    high: int
    low: int

    @property
    def attended(self) -> list[Part]:
        """Rows of o: pruned tokens are int4 there."""
        return parts_of(self.order, self.high)

    @property
    def kept(self) -> list[Part]:
        """Rows of the MLP."""
        return parts_of(self.order[:self.high + self.low], self.high)


def parts_of(rows: Ints, high: int) -> list[Part]:
    """The first ``high`` rows in int8, the others in int4; no part is empty."""
    return [(part, low) for part, low in ((rows[:high], False), (rows[high:], True)) if len(part)]


def ranked(rule: TokenRule, scores: Ints) -> Ranked:
    """The order that importance gives a pass."""
    low, pruned = rule.parts(len(scores))
    return Ranked(token_order(scores, low, pruned), len(scores) - low - pruned, low)


def layer_rule(
    rule: TokenRule | None, index: int, name: str, linears: Mapping[str, QuantizedLinear]
) -> LayerRule | None:
    """The rule of layer ``index``, None where there is none or its linears stay float."""
    if rule is None or index < rule.from_layer or not linears:
        return None
    low = {}
    for part in RULED:
        if part in linears:
            linear = linears[part]
            if not isinstance(linear, SimdLinear) or (
                    linear.weight_bits, linear.input.bits) != (4, HIGH_BITS):
                raise CompileError(f"{name}.{part}: token_rule needs int4 weights and int8 "
                                   "activations (simd, weight_bits 4, act_bits 8)")
            low[part] = low_dequantization(f"{name}.{part}", linear)
    return LayerRule(rule=rule, low=low)


def low_input(linear: SimdLinear) -> SimdLinear:
    """The same layer on int4 activations, still with the dequantization behind int8."""
    return dataclasses.replace(
        linear, input=dataclasses.replace(linear.input, bits=LOW_BITS))


def low_dequantization(name: str, linear: SimdLinear) -> Dequantization:
    """Dequantization of the same sums behind int4 activations: 127 / 7 times as large a step."""
    high = linear.dequantization
    factors = (high.multiplier.astype(np.float64) * HIGH_LIMIT / LOW_LIMIT
               / 2.0 ** (high.shift1 + high.shift2))
    bound = simd_bound(linear.weights, linear.input.alphas, linear.scales, linear.minima,
                       linear.group, linear.shift, LOW_BITS)
    made = dequantization(factors, high.zero, None, 1.0, float(bound), token_scale=True, name=name)
    return dataclasses.replace(made, bias=high.bias, bias_shift=high.bias_shift)


def pass_tokens(
    rule: TokenRule | None, architecture: Architecture, hardware: HardwareConfig
) -> int:
    """Tokens of a prefill pass under the rule, 0 without one; raises CompileError."""
    if rule is None:
        return 0
    if not hardware.orders_tokens:
        raise CompileError(f"hardware {hardware.name} keeps no order of tokens (token_order is "
                           "false), which token_rule needs")
    if architecture.heads > HEADS_MAX:
        raise CompileError(f"token_rule adds up at most {HEADS_MAX} query heads, the model has "
                           f"{architecture.heads}")
    return min(rule.tokens, hardware.tokens_max)
