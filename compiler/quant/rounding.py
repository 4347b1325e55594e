"""Round to nearest in groups of inputs: where every grouped method starts, and the baseline."""

from __future__ import annotations

import numpy as np

from compiler.quant.kmeans import Floats
from compiler.quant.weights import GroupedWeights
from hw.fixed import Ints

CLIPS: Floats = np.linspace(0.6, 1.0, 21, dtype=np.float32)
"""Fractions of a group's range that are tried."""
PLAIN: Floats = np.ones(1, np.float32)
"""Only the whole range."""


def grouped(weight: Floats, group: int) -> Floats:
    """[M, groups, group] of [M, D], filled up with zeros."""
    filled = np.pad(weight, ((0, 0), (0, -weight.shape[1] % group)))
    return filled.reshape(len(weight), -1, group)


def group_ranges(
    weight: Floats, bits: int, group: int, *, asymmetric: bool, importance: Floats | None = None,
    clips: Floats = CLIPS,
) -> tuple[Floats, Floats]:
    """Scale and minimum of each group: the clipped range with the least squared error.

    weight: [M, D]; importance: how much the error of an input counts, [D] (the Hessian's
    diagonal), or None. ``clips`` of one 1.0 is plain rounding over the whole range. Codes are
    signed in both cases; symmetric groups have minimum 0. Returns two float32 [M, groups].
    """
    top, bottom = (1 << (bits - 1)) - 1, -(1 << (bits - 1))
    x = grouped(weight, group).astype(np.float32)
    weights = np.ones(weight.shape[1]) if importance is None else importance
    counts = grouped(np.asarray(weights, np.float32)[None], group)
    if asymmetric:
        high, low = np.maximum(x.max(axis=2), 0), np.minimum(x.min(axis=2), 0)
    else:
        high = np.abs(x).max(axis=2)
        low = -high
    best = np.full(high.shape, np.inf, np.float32)
    scales, minima = np.ones_like(high), np.zeros_like(high)
    for clip in clips:
        span = (high - low) * clip
        levels = top - bottom if asymmetric else 2 * top
        step = np.where(span > 0, span / levels, 1).astype(np.float32)
        # The lowest code stands for the clipped low end.
        least = (low * clip - bottom * step if asymmetric else np.zeros_like(step))
        q = np.clip(np.round((x - least[..., None]) / step[..., None]), bottom, top)
        error = (np.square(q * step[..., None] + least[..., None] - x) * counts).sum(axis=2)
        better = error < best
        best = np.where(better, error, best)
        scales, minima = np.where(better, step, scales), np.where(better, least, minima)
    return scales, minima


def round_codes(weight: Floats, scales: Floats, minima: Floats, bits: int, group: int) -> Ints:
    """Nearest codes int8 [M, D filled up to whole groups]."""
    limit = 1 << (bits - 1)
    x = grouped(weight, group)
    q = np.round((x - minima[..., None]) / scales[..., None])
    return np.clip(q, -limit, limit - 1).reshape(len(weight), -1).astype(np.int8)


def round_to_nearest(
    weight: Floats, bits: int, group: int, *, asymmetric: bool = False, clips: Floats = CLIPS
) -> GroupedWeights:
    """Every weight to the nearest level of its group.

    weight: [M, D]. 8-bit groups are not clipped: their rounding error is below what clipping
    would cost.
    """
    scales, minima = group_ranges(weight, bits, group, asymmetric=asymmetric,
                                  clips=clips if bits < 8 else PLAIN)
    return GroupedWeights(codes=round_codes(weight, scales, minima, bits, group), scales=scales,
                          minima=minima if asymmetric else None, inputs=weight.shape[1])
