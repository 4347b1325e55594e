"""Attention on golden functions: int8 scores, softmax numerators, int8 values."""

from __future__ import annotations

import numpy as np

from compiler.decoder.quantized import AttentionParameters, Rescale
from compiler.decoder.scaling import value_group
from hw.config import HardwareConfig
from hw.fixed import Ints, round_shift
from hw.golden.dequant import dequantize
from hw.golden.importance import first_attention, importance
from hw.golden.quantize import quantize
from hw.golden.softmax import LOG2_BITS, NUMERATOR_MAX, log2_weights, softmax

FLOAT32_EXACT = 1 << 24
"""Integers up to this magnitude, and their sums, are exact in float32."""
ACTIVATION_BITS = 8


def attend(
    parameters: AttentionParameters, q: Ints, keys: Ints, values: Ints, first: int,
    hardware: HardwareConfig, scores: Ints | None = None,
) -> Ints:
    """Mixed values int16 [T, heads, stride] in steps of o's input.

    q: int16 [T, heads, stride], normed and rotated; keys, values: int8 [kv heads, first + T,
    stride]; first: position of the first query; scores: None, or int64 [T], to which the tokens'
    importance is added.
    """
    tokens, heads, stride = q.shape
    group = heads // len(keys)
    alphas = np.zeros(stride // hardware.simd_depth, np.uint8)
    q8, peaks = quantize(q.reshape(-1, stride), alphas, ACTIVATION_BITS)
    q8, peaks = q8.reshape(q.shape), peaks.reshape(tokens, heads)
    out = np.empty(q.shape, np.int16)
    # With slopes every query head has an instruction of its own.
    step = 1 if parameters.slopes is not None else group
    positions = np.repeat(np.arange(first, first + tokens), step)
    for head in range(0, heads, step):
        rows, kv = slice(head, head + step), head // group
        sums = dot(q8[:, rows].reshape(-1, stride), keys[kv].T, 127 * 128 * stride)
        exponents = rescaled(sums, parameters.score[kv], peaks[:, rows].reshape(-1))
        slope = 0 if parameters.slopes is None else parameters.slopes[head]
        numerators, reciprocals = softmax(exponents, positions, parameters.window, slope,
                                          parameters.fraction, parameters.log2)
        if scores is not None:
            found = first_attention(numerators, reciprocals, parameters.log2)
            scores[:] = importance(found, step, scores)
        mixed = mix(parameters, numerators, values[kv], hardware)
        out[:, rows] = rescaled(mixed, parameters.mix[kv], reciprocals).reshape(
            tokens, step, stride)
    return out


def dot(x: Ints, y: Ints, bound: int) -> Ints:
    """Integer product of matrices whose sums stay below ``bound``, through floating point."""
    kind = np.float32 if bound < FLOAT32_EXACT else np.float64
    sums: Ints = (x.astype(kind) @ y.astype(kind)).astype(np.int64)
    return sums


def mix(
    parameters: AttentionParameters, numerators: Ints, values: Ints, hardware: HardwareConfig
) -> Ints:
    """Sums of numerators times values, shifted by groups of positions."""
    positions, weights, most = len(values), numerators, NUMERATOR_MAX
    if parameters.log2:
        weights, most = log2_weights(numerators), 1 << LOG2_BITS
    length = value_group(hardware) if parameters.mix_shift else positions
    total = np.zeros((len(weights), values.shape[1]), np.int64)
    for at in range(0, positions, length):
        part = slice(at, at + length)
        sums = dot(weights[:, part], values[part], length * most * 128)
        total += round_shift(sums, parameters.mix_shift)
    return total


def rescaled(sums: Ints, rescale: Rescale, scales: Ints) -> Ints:
    """`hw.golden.dequant.dequantize` with the same constants for all columns."""
    zero = np.zeros(1, np.int64)
    return dequantize(sums, zero, np.array([rescale.multiplier]), zero, rescale.shift1,
                      rescale.shift2, scales)
