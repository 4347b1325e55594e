"""Moments of a linear's input, and the weight that makes up for what came before it.

The layers before a linear are already quantized, so that it sees ``x_q`` where the float model has
``x``. The nearest output to ``W x`` that any weight reaches from ``x_q`` is that of
``W + (W (C - H) + R) H^-1`` with ``H = sum x_q x_q^T``, ``C = sum x x_q^T``, and for a linear that
adds to the residual ``R = sum (r - r_q) x_q^T`` with the residual's own gap. Quantizing that weight
with H minimizes the distance to the float model (asymmetric calibration: Li et al., "GPTAQ",
section 3; for the residual: Zhang et al., "Qronos").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from compiler.expression import Floats
from compiler.quant.hessian import damped

CORRECTION_DAMPING = 0.5
"""Damping of the correction: more than for rounding, as it may fit the calibration text."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One window's rows for one linear: x in the float model, seen by the quantized one.

    x, seen: float32 [T, D]; gap: residual of the float model less that of the quantized one
    [T, M], or None; counts: how much each token's error counts, [T].
    """

    x: Floats
    seen: Floats
    gap: Floats | None
    counts: Floats


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Sums over the calibration text.

    hessian: H; cross: C - H; residual: R, [M, D], or None. All float64, by mean count 1.
    """

    hessian: Floats
    cross: Floats
    residual: Floats | None


def moments(samples: Iterable[Sample]) -> Moments:
    """Sums over windows, one at a time."""
    hessian = cross = residual = None
    total = 0.0
    for sample in samples:
        weighted = sample.seen * sample.counts[:, None]
        total += float(sample.counts.sum())
        own = (weighted.T @ sample.seen).astype(np.float64)
        gap = ((sample.x - sample.seen).T @ weighted).astype(np.float64)
        hessian = own if hessian is None else hessian + own
        cross = gap if cross is None else cross + gap
        if sample.gap is not None:
            of_gap = (sample.gap.T @ weighted).astype(np.float64)
            residual = of_gap if residual is None else residual + of_gap
    assert hessian is not None
    assert cross is not None
    total = total or 1.0
    return Moments(hessian=hessian / total, cross=cross / total,
                   residual=None if residual is None else residual / total)


def corrected(weight: Floats, sums: Moments, damping: float = CORRECTION_DAMPING) -> Floats:
    """The weight [M, D] that comes nearest to the float model from the quantized one's inputs."""
    target = weight.astype(np.float64) @ sums.cross
    if sums.residual is not None:
        target = target + sums.residual
    factor = scipy.linalg.cho_factor(damped(sums.hessian, damping))
    change = scipy.linalg.cho_solve(factor, target.T).T
    made: Floats = (weight + change).astype(np.float32)
    return made
