"""Which inputs of a linear layer are small enough to count as 0 (WINA).

Chen et al. 2025, "WINA: Weight Informed Neuron Activation for Accelerating Large Language Model
Inference": an input counts by its magnitude times the norm of its weight column, as its share of
the output error is their product. Here whole positions (``vector_length`` inputs that share a
codebook) are kept or dropped, by the largest of their inputs, and one bound on that product holds
for all inputs of a layer, so that tokens with more to say keep more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.image.layout import pad_axis
from compiler.quant.kmeans import Floats
from compiler.quant.quantized import PositionSkip
from hw.fixed import INT16_MAX, Ints


def column_norms(weights: Sequence[Floats]) -> Floats:
    """Euclidean norm of each column of all weights [M, D] that read the same input."""
    squares = [(weight.astype(np.float64) ** 2).sum(axis=0) for weight in weights]
    return np.asarray(np.sqrt(np.sum(squares, axis=0)), np.float32)


def position_sizes(x: Floats, norms: Floats, length: int) -> Floats:
    """Largest product of magnitude and norm in each position: float32 [tokens, P]."""
    products = pad_axis(np.abs(x) * norms, 1, -(-x.shape[1] // length) * length)
    sizes: Floats = products.reshape(len(x), -1, length).max(axis=2)
    return sizes


def magnitude_thresholds(
    x: Floats, norms: Floats, length: int, fraction: float, x_scale: float
) -> Ints:
    """int16 [D] in steps of ``x_scale``: positions without an input above them are dropped.

    x: float32 [tokens, D], a calibration on which ``fraction`` of the positions is dropped.
    """
    bound = float(np.quantile(position_sizes(x, norms, length), fraction))
    steps = np.full(len(norms), float(INT16_MAX))
    there = norms > 0
    steps[there] = np.floor(bound / norms[there].astype(np.float64) / x_scale)
    return np.asarray(np.clip(steps, 0, INT16_MAX), np.int16)


def position_skip(
    x: Floats, x_scale: float, weights: Sequence[Floats], length: int, fraction: float,
    inputs: int,
) -> PositionSkip:
    """How positions of an input are skipped; its D channels are filled up to ``inputs``.

    weights: of the linears that read it. fraction: 0 skips only positions whose integers are 0.
    """
    if not fraction:
        return PositionSkip(vector_length=length, thresholds=None)
    steps = magnitude_thresholds(x, column_norms(weights), length, fraction, x_scale)
    return PositionSkip(vector_length=length, thresholds=pad_axis(steps, 0, inputs))
