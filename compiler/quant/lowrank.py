"""Low-rank compensation of a quantization error, and the subspace of high variance.

The error of the weights is approximated by a product of two thin matrices (LoRC; Yao et al. 2023,
"ZeroQuant-V2", section 4.3), where the distance that is minimized is that of the output on the
calibration text, not that of the weights (Zhang et al. 2024, "LQER"; Saha et al. 2024, "CALDERA",
whose closed form this is).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from compiler.expression import Floats
from compiler.quant.hessian import damped

INT8_MAX = 127


def low_rank(
    weight: Floats, quantized: Floats, hessians: Floats, rank: int
) -> tuple[Floats, Floats]:
    """Factors ``(down [rank, D], up [M, rank])`` with ``quantized + up @ down`` nearest ``weight``.

    weight, quantized: [M, D]; hessians: [B, D, D], one for each M / B rows (their mean weighs the
    inputs). The distance is ``tr(E H E^T)`` of what remains: with ``H = L L^T`` the singular
    vectors of ``(weight - quantized) L`` give the best factors (Eckart and Young). Rows of ``down``
    have the Euclidean norm 1. Raises ValueError for a rank that the weights do not have.
    """
    if not 0 <= rank <= min(weight.shape):
        raise ValueError(f"rank must be from 0 to {min(weight.shape)}, not {rank}")
    error = (weight - quantized).astype(np.float64)
    moments = damped(hessians.mean(axis=0))
    if len(error) <= error.shape[1]:
        left = leading(error @ moments @ error.T, rank)
    else:
        # The same singular vectors from the other side, which is smaller.
        seen = error @ np.linalg.cholesky(moments)
        left, _ = np.linalg.qr(seen @ leading(seen.T @ seen, rank))
    down = left.T @ error
    sizes = np.linalg.norm(down, axis=1)
    sizes = np.where(sizes > 0, sizes, 1.0)
    return ((down / sizes[:, None]).astype(np.float32), (left * sizes).astype(np.float32))


def leading(moments: Floats, count: int) -> Floats:
    """Eigenvectors of the ``count`` largest eigenvalues of a symmetric matrix, [n, count]."""
    size = len(moments)
    if count == 0:
        return np.zeros((size, 0))
    _, vectors = scipy.linalg.eigh(moments, subset_by_index=(size - count, size - 1))
    found: Floats = vectors[:, ::-1]
    return found


def variance_subspace(hessian: Floats, rank: int) -> Floats:
    """Orthonormal directions of the inputs' largest variance, float32 [rank, D].

    (Saxena et al. 2024, "ResQ", section 4: principal components of the activations stay at 8 bits.)
    """
    return np.ascontiguousarray(leading(hessian.astype(np.float64), rank).T, np.float32)


def without_subspace(weight: Floats, directions: Floats) -> tuple[Floats, Floats]:
    """``(rest, kept)`` with ``weight = rest + kept @ directions``; kept [M, rank] is for 8 bits.

    The rest is what is left to few bits: it is 0 on the directions.
    """
    kept = weight @ directions.T
    return weight - kept @ directions, kept


def rounded(factor: Floats) -> Floats:
    """int8 codes of a factor with one scale for each row, as floats."""
    scales = np.abs(factor).max(axis=1, keepdims=True) / INT8_MAX
    scales = np.where(scales > 0, scales, 1.0)
    codes: Floats = np.round(factor / scales) * scales
    return codes.astype(np.float32)


def rank_bits(shape: tuple[int, int], rank: int, factor_bits: int = 8) -> float:
    """Bits that a rank adds to every weight of [M, D]."""
    return rank * (shape[0] + shape[1]) * factor_bits / (shape[0] * shape[1])
