"""Integer activations: channel exponents (TRIP) and channel order."""

from __future__ import annotations

import numpy as np

from compiler.quant.kmeans import Floats
from compiler.quant.quantized import IntegerInput
from hw.config import HardwareConfig
from hw.fixed import Ints


def token_scaled_error(x: Floats, exponents: Ints, limit: int) -> float:
    """Squared error of int activations with channel exponents and one scale for each token."""
    y = x / 2.0**exponents
    peak = np.abs(y).max(axis=1, keepdims=True)
    step = np.where(peak > 0, peak, 1) / limit
    return float((((np.round(y / step) * step - y) * 2.0**exponents) ** 2).sum())


def channel_exponents(calibration: Floats, bits: int, exponent_max: int) -> Ints:
    """Exponent 0..exponent_max of each channel with the least relative error on the calibration.

    Every token counts the same, so that a massive one does not decide for all.
    The power-of-two factors of FQ-ViT (Lin et al., section on PTF), which Agile-Quant's TRIP
    uses. There the step is static, so that a small exponent clips; here each token has its own
    step, nothing clips, and only the ratio of the channels counts: a channel's exponent is that
    of its root mean square over a base, and the base is searched.
    """
    if not exponent_max:
        return np.zeros(calibration.shape[1], np.uint8)
    limit = (1 << (bits - 1)) - 1
    sizes = np.sqrt((calibration**2).sum(axis=1, keepdims=True))
    calibration = (calibration / np.where(sizes > 0, sizes, 1)).astype(np.float32)
    size = np.log2(np.sqrt((calibration**2).mean(axis=0)) + 1e-12)
    best, best_error = np.zeros(len(size), np.uint8), np.inf
    for base in np.arange(size.max() - exponent_max - 1, size.max() + 0.5, 0.5):
        exponents = np.clip(np.round(size - base), 0, exponent_max).astype(np.uint8)
        error = token_scaled_error(calibration, exponents, limit)
        if error < best_error:
            best, best_error = exponents, error
    return best


def integer_input(
    calibration: Floats, x_scale: float, bits: int, group: int, exponent_max: int,
    hardware: HardwareConfig, ordered: bool = True,
) -> IntegerInput:
    """Order the channels of each weight group by falling exponent, one exponent for each chunk.

    The order stays within a weight group, so that a group's scale holds for the same channels.
    Channels that are not to be ``ordered`` stay where they are: then a chunk's exponent is the
    largest from there to the group's end, as exponents must not rise within a group.
    """
    inputs = calibration.shape[1]
    unit = max(group, hardware.word_elements)
    padded = -(-inputs // unit) * unit
    exponents = np.zeros(padded, np.uint8)
    exponents[:inputs] = channel_exponents(calibration, bits, exponent_max)
    order = np.arange(padded)
    if exponent_max and ordered:
        by_group = exponents.reshape(-1, unit)
        sort = np.argsort(-by_group.astype(int), axis=1, kind="stable")
        order = (sort + np.arange(0, padded, unit)[:, None]).reshape(-1)
    alphas = exponents[order].reshape(-1, hardware.simd_depth).max(axis=1)
    by_chunk = alphas.reshape(-1, unit // hardware.simd_depth)
    alphas = np.maximum.accumulate(by_chunk[:, ::-1], axis=1)[:, ::-1].reshape(-1)
    return IntegerInput(
        x_scale=x_scale,
        alphas=alphas.astype(np.uint8),
        order=np.where(order < inputs, order, -1),
        bits=bits,
    )
