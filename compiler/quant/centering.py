"""Mode-centering: most of a channel's activations near 0, so that more of them can be dropped.

SCAP (Liu et al. 2024, "SCAP: Statistical Calibrated Activation Pruning"): the mode of an input
channel is subtracted, and ``W @ mode`` comes back with the bias. Where a norm makes the input, its
own bias takes the subtraction, so that nothing is computed for it at run time. The mode is
the half-sample mode (Bickel and Fruehwirth 2006, "On a fast, robust estimator of the mode").
"""

from __future__ import annotations

import numpy as np

from compiler.quant.kmeans import Floats


def half_sample_modes(x: Floats) -> Floats:
    """Mode of each channel of x [tokens, D]: the densest half, again and again, of the values.

    Of equally dense halves the lowest counts. Returns float32 [D].
    """
    values = np.sort(x.astype(np.float64), axis=0)
    columns = np.arange(values.shape[1])
    while len(values) > 3:
        half = -(-len(values) // 2)
        widths = values[half - 1:] - values[:len(values) - half + 1]
        values = values[widths.argmin(axis=0) + np.arange(half)[:, None], columns]
    if len(values) == 3:
        low, middle, high = values
        closer = np.sign((middle - low) - (high - middle))
        means = np.where(closer < 0, low + middle, middle + high) / 2
        return np.asarray(np.where(closer == 0, middle, means), np.float32)
    return np.asarray(values.mean(axis=0), np.float32)


def center(
    modes: Floats, norm_bias: Floats | None, weight: Floats, bias: Floats | None
) -> tuple[Floats, Floats]:
    """Biases of a norm and of a linear behind it, for the input less its modes.

    modes, norm_bias: [D]; weight: [M, D]; bias: [M]; None counts as 0. ``W x + b`` is
    ``W (x - modes) + (b + W modes)``.
    """
    of_norm = -modes if norm_bias is None else norm_bias - modes
    moved = weight @ modes
    of_linear = moved if bias is None else bias + moved
    return of_norm.astype(np.float32), of_linear.astype(np.float32)
