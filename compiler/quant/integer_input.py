"""Integer activations: channel exponents (TRIP) and channel order."""

from __future__ import annotations

import numpy as np

from compiler.quant.kmeans import Floats
from compiler.quant.quantized import IntegerInput
from hw.config import HardwareConfig
from hw.fixed import Ints

TOKENS, ROWS = 256, 256
"""Calibration tokens and output columns on which exponents are compared."""
STEP = 0.5
"""Distance of the bases that are tried, in powers of two."""
RARE = 0.999
"""Quantile of a channel's magnitudes that may stand for its size."""


def token_scaled_error(x: Floats, exponents: Ints, limit: int, weight: Floats | None) -> float:
    """Squared error of the output of int activations with one scale for each token.

    x: [tokens, D]; exponents: of the channels [D]; weight: [M, D], or None for the input's own
    error.
    """
    factors = (2.0**exponents).astype(np.float32)
    y = x / factors
    peak = np.abs(y).max(axis=1, keepdims=True)
    step = np.where(peak > 0, peak, 1) / limit
    gap = (np.round(y / step) * step - y) * factors
    return float(np.square(gap if weight is None else gap @ weight.T).sum())


def sized(calibration: Floats) -> Floats:
    """Tokens divided by their sizes."""
    sizes = np.sqrt((calibration**2).sum(axis=1, keepdims=True))
    same: Floats = (calibration / np.where(sizes > 0, sizes, 1)).astype(np.float32)
    return same


def placed_exponents(
    exponents: Ints, unit: int, chunk: int, ordered: bool
) -> tuple[Ints, Ints]:
    """Exponents of the chunks and the channel at each place, for wanted exponents [D] of channels.

    D is a multiple of ``unit``, the weight group. Within a group a chunk's exponent is at least
    those of its channels and of the chunks behind it, as the array only shifts left between chunks.
    """
    order = np.arange(len(exponents))
    if ordered:
        by_group = exponents.reshape(-1, unit)
        sort = np.argsort(-by_group.astype(int), axis=1, kind="stable")
        order = (sort + np.arange(0, len(exponents), unit)[:, None]).reshape(-1)
    by_chunk = exponents[order].reshape(-1, chunk).max(axis=1).reshape(-1, unit // chunk)
    alphas = np.maximum.accumulate(by_chunk[:, ::-1], axis=1)[:, ::-1].reshape(-1)
    return alphas.astype(np.uint8), order


def integer_input(
    calibration: Floats, x_scale: float, bits: int, group: int, exponent_max: int,
    hardware: HardwareConfig, ordered: bool = True, weight: Floats | None = None,
) -> IntegerInput:
    """Channel exponents 0..exponent_max with the least error of the output on the calibration.

    The power-of-two factors of FQ-ViT (Lin et al., section on PTF), which Agile-Quant's TRIP
    uses. There the step is static, so that a small exponent clips; here each token has its own
    step, nothing clips, and only the ratio of the channels counts: a channel's exponent is that of
    its size over a base, and base and kind of size are searched, for the chunks' exponents that
    come of it. Every token counts the same, so that a massive one does not decide for all.
    calibration: float32 [tokens, D]; weight: [M, D] of the linears behind, or None. Channels stay
    within their weight group, so that a group's scale holds for the same channels; those that are
    not to be ``ordered`` stay where they are.
    """
    inputs, limit = calibration.shape[1], (1 << (bits - 1)) - 1
    unit, chunk = max(group, hardware.word_elements), hardware.simd_depth
    padded = -(-inputs // unit) * unit
    sample = sized(calibration[:: -(-len(calibration) // TOKENS)])
    rows = None if weight is None else weight[:: -(-len(weight) // ROWS)]
    best, order = np.zeros(padded // chunk, np.uint8), np.arange(padded)
    least = token_scaled_error(sample, np.zeros(inputs), limit, rows) if exponent_max else 0.0
    magnitudes = np.abs(sized(calibration))
    for sizes in (np.sqrt((magnitudes**2).mean(axis=0)), np.quantile(magnitudes, RARE, axis=0)):
        size = np.log2(sizes + 1e-12)
        bases = np.arange(size.max() - exponent_max - 1, size.max() + STEP, STEP)
        for base in bases if exponent_max else ():
            wanted = np.zeros(padded, np.uint8)
            wanted[:inputs] = np.clip(np.round(size - base), 0, exponent_max)
            alphas, places = placed_exponents(wanted, unit, chunk, ordered)
            of_channels = np.empty(padded, np.uint8)
            of_channels[places] = np.repeat(alphas, chunk)
            error = token_scaled_error(sample, of_channels[:inputs], limit, rows)
            if error < least:
                best, order, least = alphas, places, error
    return IntegerInput(x_scale=x_scale, alphas=best, order=np.where(order < inputs, order, -1),
                        bits=bits)
