"""Scale that moves from a linear's input into its weights, so that int8 activations lose less."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from compiler.decoder.scaling import activation_scale
from compiler.expression import Floats
from compiler.quant.quantizer import LinearSpec
from compiler.quant.scheme import Scheme, SimdScheme
from compiler.quant.simd import runs_native

STRENGTHS = (0.0, 0.7, 1.0)
"""Powers of the fitted divisors that are tried; a lower one spares the weights."""
ROOMS = (np.inf, 64.0, 16.0)
"""How far above other tokens' peaks a massive activation may stay, which widens the int16 step."""
TOKENS, COLUMNS = 96, 256
"""Calibration tokens and output columns on which they are compared."""
QUANTILE = 0.99
SINK_WEIGHT = 32
"""The first token counts for so many."""
NORM_POWER = 6
ITERATIONS = 60
RATE = 0.15
PRIOR = 0.5
"""Part of the fit that treats all channels alike, as the calibration text is short."""
INT8_MAX = 127


def migrates(scheme: Scheme, spec: LinearSpec) -> bool:
    """Whether scale may move into the weights: only int8 ones made from floats bear it."""
    return (isinstance(scheme, SimdScheme) and scheme.weight_bits == 8
            and not runs_native(spec.blocks, scheme))


def rounded(x: Floats, width: int) -> Floats:
    """``x`` as int8 with a step for each ``width`` values of a row."""
    parts = np.pad(x, ((0, 0), (0, -x.shape[1] % width))).reshape(len(x), -1, width)
    step = np.abs(parts).max(axis=2, keepdims=True) / INT8_MAX
    step = np.where(step > 0, step, 1)
    y: Floats = (np.round(parts / step) * step).reshape(len(x), -1)[:, :x.shape[1]]
    return y


def fitted_divisors(x: Floats, weight: Floats) -> Floats:
    """Divisors s of the channels with the least noise of int8 activations behind the linear.

    A token's step is its peak after the division, so that the noise relative to the output is
    ``sum_t max_c(|x_tc| / s_c)**2 / |y_t|**2 * sum_c s_c**2 |w_c|**2``. With a p-norm in place of
    the maximum its logarithm is convex in ``log s``; where it is least, a channel's part of the
    second sum is its part of the first, to which every iteration moves.
    """
    size = np.linalg.norm(x @ weight.T, axis=1, keepdims=True)
    shares = np.abs(x) / np.where(size > 0, size, np.inf)
    energy = np.maximum((weight**2).sum(axis=0), 1e-30)
    logs = np.zeros(x.shape[1])
    for _ in range(ITERATIONS):
        divisors = np.exp(logs)
        parts = shares / divisors
        top = np.maximum(parts.max(axis=1, keepdims=True), 1e-30)
        powers = (parts / top) ** NORM_POWER
        total = powers.sum(axis=1, keepdims=True)
        norms = (top * total ** (1 / NORM_POWER)) ** 2
        first = (norms * powers / np.maximum(total, 1e-30)).sum(axis=0) / norms.sum()
        first = (first + PRIOR / len(first)) / (1 + PRIOR)
        second = divisors**2 * energy
        logs += RATE * np.log(first / np.maximum(second / second.sum(), 1e-12))
        logs -= np.median(logs)
    return np.exp(np.clip(logs, -10, 10))


def migration_of(x: Floats, specs: Sequence[LinearSpec]) -> Floats:
    """What to divide every channel by, so that outlier channels do not set the tokens' steps.

    As SmoothQuant (Xiao et al., section 4) moves scale into the weights, but the divisors are
    fitted, and their strength is the one with the least output error on a sample, int16 and int8
    rounding included. A massive channel is divided further where that helps. The first token
    counts for many: it is an attention sink (Xiao et al., "Efficient Streaming Language Models
    with Attention Sinks"), whose errors every later token sees. Ones where a linear does not
    allow it.
    """
    ones = np.ones(x.shape[1], np.float32)
    if not specs or not all(migrates(spec.scheme, spec) for spec in specs):
        return ones
    weight = np.concatenate([spec.weight for spec in specs])
    weight = weight[:: -(-len(weight) // COLUMNS)]
    usual = float(np.quantile(np.abs(x).max(axis=1), QUANTILE))
    if not usual or not np.isfinite(weight).all():
        return ones
    group = max(spec.scheme.group for spec in specs if isinstance(spec.scheme, SimdScheme))
    fitted, massive = fitted_divisors(x, weight), np.abs(x).max(axis=0) / usual
    sample = x[:: -(-len(x) // TOKENS)]
    y = sample @ weight.T
    sizes = np.maximum((y**2).sum(axis=1), 1e-30)
    best, best_error = ones, np.inf
    for strength, room in itertools.product(STRENGTHS, ROOMS):
        divisors = np.maximum(fitted**strength, massive / room).astype(np.float32)
        step = activation_scale(x / divisors)
        steps = np.round(sample / divisors / step) * step
        made = rounded(steps, x.shape[1]) @ rounded(weight * divisors, group).T
        errors = ((made - y) ** 2).sum(axis=1) / sizes
        error = float(errors.sum() + SINK_WEIGHT * errors[0])
        if error < best_error:
            best, best_error = divisors, error
    return best
