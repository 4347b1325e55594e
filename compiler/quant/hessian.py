"""Second moments of a linear's input: what every second-order weight method starts from.

The error of a linear's output, summed over the calibration text, is ``tr(E H E^T)`` with the error
E of its weights and ``H = sum_t x_t x_t^T`` (Hassibi and Stork, "Optimal Brain Surgeon"; Frantar
et al., "GPTQ", section 3).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from compiler.quant.kmeans import Floats

DAMPING = 0.3
"""Part of the median moment that is added to every input's, as the calibration text is short.

GPTQ (section 3.3, step 3) adds a hundredth of the mean, which follows a few massive inputs. On
unseen text of SmolLM2-135M the median gave layers a tenth to a third less error.
"""


def damped(hessian: Floats, damping: float = DAMPING) -> Floats:
    """float64 [D, D], positive definite; inputs that never occur get the median as their moment."""
    made = hessian.astype(np.float64)
    diagonal = np.diagonal(made).copy()
    there = diagonal > 0
    median = float(np.median(diagonal[there])) if there.any() else 1.0
    at = np.arange(len(made))
    made[at, at] += damping * median + np.where(there, 0.0, median)
    return made


def inverse_factor(hessian: Floats) -> Floats:
    """Upper Cholesky factor U of the inverse of a damped Hessian, ``H^-1 = U^T U``, float64.

    Row i of U says how the error of input i is made good by the inputs behind it (GPTQ, section
    3.3, "Cholesky reformulation").
    """
    lower = np.linalg.cholesky(hessian[::-1, ::-1])[::-1, ::-1]
    # H = R R^T with R upper, so H^-1 = R^-T R^-1 and U = R^-1.
    factor: Floats = scipy.linalg.solve_triangular(lower, np.eye(len(hessian)), lower=False)
    return factor


def output_error(weight: Floats, quantized: Floats, hessians: Floats) -> float:
    """``sum_b tr(E_b H_b E_b^T)`` over the blocks of rows.

    weight, quantized: [M, D]; hessians: [B, D, D], one for each M / B rows.
    """
    gaps = (weight - quantized).astype(np.float64).reshape(len(hessians), -1, weight.shape[1])
    return float(sum(((gap @ hessian) * gap).sum() for gap, hessian in zip(gaps, hessians,
                                                                            strict=True)))
