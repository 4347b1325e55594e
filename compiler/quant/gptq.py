"""GPTQ in groups with activation order, then coordinate descent and a refit of the scales."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from compiler.quant.hessian import damped, inverse_factor
from compiler.quant.kmeans import Floats
from compiler.quant.rounding import group_ranges
from compiler.quant.weights import GroupedWeights
from hw.fixed import Ints

TILE = 16
"""Rows that share the reading of the inverse's factor."""
SWEEPS = 2
"""Rounds of coordinate descent and refit."""
RIDGE = 1e-4
"""Part of the mean diagonal added to a row's least squares."""
TRUST = 4.0
"""A scale changes at most by this factor in a refit."""


@njit(cache=True)
def _code(value: float, scale: float, minimum: float, limit: int) -> Any:
    code = np.round((value - minimum) / scale)
    return min(max(code, -limit), limit - 1)


@njit(cache=True, parallel=True)
def _feed_back(
    weight: Floats, factor: Floats, order: Ints, group: int, limit: int, scales: Floats,
    minima: Floats, codes: Ints,
) -> None:
    """Round inputs in ``order``; weight and factor are already in that order."""
    rows, inputs = weight.shape
    for tile in prange((rows + TILE - 1) // TILE):
        first, last = tile * TILE, min((tile + 1) * TILE, rows)
        errors = np.empty(TILE)
        for i in range(inputs):
            g, at = order[i] // group, order[i]
            for m in range(first, last):
                code = _code(weight[m, i], scales[m, g], minima[m, g], limit)
                codes[m, at] = code
                error = weight[m, i] - (code * scales[m, g] + minima[m, g])
                errors[m - first] = error / factor[i, i]
            for m in range(first, last):
                error = errors[m - first]
                for j in range(i + 1, inputs):
                    weight[m, j] -= error * factor[i, j]


@njit(cache=True, parallel=True)
def _descend(
    slopes: Floats, hessian: Floats, group: int, limit: int, scales: Floats, minima: Floats,
    codes: Ints,
) -> None:
    """One sweep: every code to the level that is best with all others fixed."""
    inputs = slopes.shape[1]
    for m in prange(len(slopes)):
        slope = slopes[m]
        for i in range(inputs):
            scale, minimum = scales[m, i // group], minima[m, i // group]
            value = codes[m, i] * scale + minimum
            code = _code(value + slope[i] / hessian[i, i], scale, minimum, limit)
            if code != codes[m, i]:
                change = (code - codes[m, i]) * scale
                codes[m, i] = code
                for j in range(inputs):
                    slope[j] -= change * hessian[i, j]


def _refitted(
    weight: Floats, hessian: Floats, codes: Floats, scales: Floats, minima: Floats,
    asymmetric: bool,
) -> tuple[Floats, Floats]:
    """Scales (and minima) of every row with the least error for its codes: least squares.

    weight: [M, D]; codes: [M, groups, group], both filled up like the Hessian.
    """
    rows, groups, group = codes.shape
    blocks = hessian.reshape(groups, group, groups, group)
    # How far group g of a row's codes reaches into all inputs: [M, groups, groups, group].
    reach = np.einsum("mgi,gihj->mghj", codes, blocks, optimize=True)
    target = (weight @ hessian).reshape(rows, groups, group)
    normal = np.einsum("mghj,mhj->mgh", reach, codes)
    right = np.einsum("mgj,mgj->mg", target, codes)
    present = scales
    if asymmetric:
        crossed = reach.sum(axis=3)
        whole = np.broadcast_to(blocks.sum(axis=(1, 3)), normal.shape)
        normal = np.concatenate([np.concatenate([normal, crossed], axis=2), np.concatenate(
            [crossed.transpose(0, 2, 1), whole], axis=2)], axis=1)
        right = np.concatenate([right, target.sum(axis=2)], axis=1)
        present = np.concatenate([scales, minima], axis=1)
    # A ridge towards the present values keeps groups that hardly matter where they are.
    size = normal.shape[1]
    ridge = RIDGE * np.trace(normal, axis1=1, axis2=2) / size + 1e-30
    normal = normal + ridge[:, None, None] * np.eye(size)
    found = np.linalg.solve(normal, (right + ridge[:, None] * present)[..., None])[..., 0]
    # A scale that changed its sign or nearly vanished belongs to a group that others explain.
    kept = (found[:, :groups] > scales / TRUST) & (found[:, :groups] < scales * TRUST)
    made = np.where(kept, found[:, :groups], scales)
    return made, np.where(kept, found[:, groups:], minima) if asymmetric else minima


def gptq(
    weight: Floats, hessians: Floats, bits: int, group: int, *, asymmetric: bool = False,
    sweeps: int = SWEEPS,
) -> GroupedWeights:
    """Integers in groups whose output is nearest on the calibration text.

    weight: [M, D]; hessians: [B, D, D], one for each M / B rows. Inputs are rounded in the order
    of falling activations, and each one's error is made good by those behind it (Frantar et al.,
    "GPTQ", section 3; act-order of its code); groups keep their places ("static groups"). Ranges
    are clipped by the Hessian's diagonal. ``sweeps`` of coordinate descent (Behdin et al.,
    "QuantEase", section 3) and of refitted scales follow.
    """
    limit, inputs = 1 << (bits - 1), weight.shape[1]
    filling = -inputs % group
    parts = [_gptq(np.pad(part, ((0, 0), (0, filling))).astype(np.float64),
                   np.pad(hessian, ((0, filling), (0, filling))), bits, limit, group, asymmetric,
                   sweeps)
             for part, hessian in zip(np.split(weight, len(hessians)), hessians, strict=True)]
    codes, scales, minima = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return GroupedWeights(
        codes=codes, scales=scales.astype(np.float32),
        minima=minima.astype(np.float32) if asymmetric else None, inputs=inputs)


def _gptq(
    weight: Floats, hessian: Floats, bits: int, limit: int, group: int, asymmetric: bool,
    sweeps: int,
) -> tuple[Ints, Floats, Floats]:
    """Codes, scales, minima of rows that share a Hessian; inputs are filled up to whole groups."""
    moments = damped(hessian)
    scales, minima = (part.astype(np.float64) for part in group_ranges(
        weight, bits, group, asymmetric=asymmetric, importance=np.diagonal(moments)))
    order = np.argsort(-np.diagonal(moments), kind="stable")
    factor = inverse_factor(moments[order][:, order])
    codes = np.zeros(weight.shape, np.int8)
    _feed_back(np.ascontiguousarray(weight[:, order]), factor, order, group, limit, scales,
               minima, codes)
    grouped_codes = codes.reshape(len(codes), -1, group)
    for _ in range(sweeps):
        scales, minima = _refitted(weight, moments, grouped_codes.astype(np.float64), scales,
                                   minima, asymmetric)
        levels = grouped_codes * scales[..., None] + minima[..., None]
        slopes = (weight - levels.reshape(codes.shape)) @ moments
        _descend(slopes, moments, group, limit, scales, minima, codes)
    return codes, scales, minima
