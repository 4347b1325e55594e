"""Long-context scaling of rotary frequencies: what each frequency is divided by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from compiler.errors import FrontendError


def llama3_factors(
    rotary: int, base: float, factor: float, low: float, high: float, original: float
) -> tuple[float, ...]:
    """Factors of Llama 3.1 and later, one for each pair of the ``rotary`` elements that rotate.

    Wavelengths above ``original / low`` tokens are stretched by ``factor``, those below
    ``original / high`` kept, and those between interpolated.
    """
    factors = []
    for frequency in base ** -(np.arange(0, rotary, 2) / rotary):
        wavelength = 2 * math.pi / float(frequency)
        smooth = (original / wavelength - low) / (high - low)
        smooth = min(1.0, max(0.0, smooth))
        factors.append(1 / ((1 - smooth) / factor + smooth))
    return tuple(factors)


def factors_from_config(
    scaling: Mapping[str, Any] | None, rotary: int, base: float, where: str
) -> tuple[float, ...] | None:
    """Factors of a configuration's ``rope_scaling``; FrontendError for an unknown kind."""
    if scaling is None:
        return None
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    try:
        if kind == "default":
            return None
        if kind == "linear":
            return (float(scaling["factor"]),) * (rotary // 2)
        if kind == "llama3":
            return llama3_factors(
                rotary, base, float(scaling["factor"]), float(scaling["low_freq_factor"]),
                float(scaling["high_freq_factor"]),
                float(scaling["original_max_position_embeddings"]))
    except KeyError as error:
        raise FrontendError(f"{where}: rope_scaling of type {kind} lacks {error}") from None
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise FrontendError(f"{where}: rope_scaling of type {kind} is wrong: {error}") from None
    raise FrontendError(f"{where}: rope_scaling of type {kind!r} is not supported; "
                        "supported are default, linear and llama3")
