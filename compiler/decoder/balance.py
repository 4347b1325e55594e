"""Scale moved between queries and keys, so that the cache's steps suit every element."""

from __future__ import annotations

import numpy as np

from compiler.expression import Floats
from compiler.model import Architecture
from hw.golden.cache import cache_max

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Exponents of an element's peak that are tried."""
TOKENS = 128
"""Calibration tokens on which they are compared."""
HEADROOMS = {8: (1.25,), 4: (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)}
"""Largest magnitude that the cache holds, by its bits, as a part of the calibrated peak.

Steps of 8 bits leave room above the peak. Those of 4 bits are so wide that it pays to saturate what
is rare.
"""
FLOOR = 0.02
"""An element's peak counts as at least this part of the head's largest."""
INT8_MAX = 127


def pair_peaks(architecture: Architecture, keys: Floats) -> Floats:
    """Largest magnitude of every element of a key head [T, head width], the same for a pair.

    Rotary embedding mixes the elements of a pair, ``rotary / 2`` apart, so that they share a
    divisor.
    """
    peaks = np.abs(keys).max(axis=0)
    if architecture.position == "rope":
        width = architecture.rotary
        peaks[:width] = np.tile(peaks[:width].reshape(2, -1).max(axis=0), 2)
    made: Floats = np.maximum(peaks, FLOOR * max(float(peaks.max()), 1e-6))
    return made


def rounded(x: Floats, step: Floats | float) -> Floats:
    """``x`` in steps."""
    made: Floats = np.round(x / step) * step
    return made


def key_divisors(
    architecture: Architecture, queries: Floats, keys: Floats, bits: int
) -> Floats:
    """What elements of the keys are divided by and of the queries multiplied by.

    queries: float [T, heads, head width], keys: [T, kv heads, head width], both rotated. The keys'
    steps are static and the same for a head, the queries' are dynamic. SmoothAttention of
    QServe (Lin et al. 2024, section 4.2): a power of the element's peak, here the one with the
    least error of the scores. Returns [kv heads, head width].
    """
    tokens, heads, width = keys.shape
    sample = slice(None, None, -(-tokens // TOKENS))
    made = np.ones((heads, width), np.float32)
    for head, q in enumerate(np.split(queries[sample], heads, axis=1)):
        q, k = q.reshape(-1, width), keys[sample, head]
        scores, peaks, least = q @ k.T, pair_peaks(architecture, keys[:, head]), np.inf
        for strength in STRENGTHS:
            divisors = (peaks**strength / np.exp(np.log(peaks**strength).mean())).astype(
                np.float32)
            k_step = float(np.abs(keys[:, head] / divisors).max()) / cache_max(bits) or 1.0
            scaled = q * divisors
            q_steps = np.abs(scaled).max(axis=1, keepdims=True) / INT8_MAX
            trial = rounded(scaled, np.where(q_steps > 0, q_steps, 1)) @ rounded(
                k / divisors, k_step).T
            error = float(np.square(trial - scores).sum())
            if error < least:
                made[head], least = divisors, error
    return made


def best_headroom(values: Floats, peaks: Floats, weights: Floats, bits: int) -> float:
    """The one of `HEADROOMS` with the least error, for all heads of a layer.

    values: float [T, heads, width], in units in which a head has one step; peaks: [heads]; weights:
    [heads, width], what an error of an element counts.
    """
    if len(HEADROOMS[bits]) == 1:
        return HEADROOMS[bits][0]
    most, errors = cache_max(bits), []
    for headroom in HEADROOMS[bits]:
        steps = (peaks * headroom / most)[:, None]
        trial = np.clip(np.round(values / steps), -most, most) * steps
        errors.append(float(np.square((trial - values) * weights).sum()))
    return HEADROOMS[bits][int(np.argmin(errors))]
