"""Weight methods by the name that a scheme gives them."""

from __future__ import annotations

from compiler.quant.gptq import gptq
from compiler.quant.gptvq import gptvq
from compiler.quant.kmeans import Floats
from compiler.quant.pyramid import pyramid
from compiler.quant.rounding import PLAIN, round_to_nearest
from compiler.quant.scheme import Lut2dScheme, RowgenScheme, Scheme, SimdScheme
from compiler.quant.vector import plain_vectors
from compiler.quant.weights import QuantizedWeights

CALIBRATED = ("gptq", "gptvq", "pyramid")
"""Methods that need second moments of the input."""


def is_calibrated(scheme: Scheme) -> bool:
    """Whether the scheme's weights come from calibration text."""
    return scheme.method in CALIBRATED


def quantize_weights(scheme: Scheme, weight: Floats, hessians: Floats) -> QuantizedWeights:
    """Weights float32 [M, D] by the scheme's method.

    hessians: second moments of the input [B, D, D], one for each M / B rows.
    """
    if isinstance(scheme, SimdScheme):
        if scheme.method == "gptq":
            return gptq(weight, hessians, scheme.weight_bits, scheme.group,
                        asymmetric=scheme.asymmetric)
        if scheme.method == "plain":
            return round_to_nearest(weight, scheme.weight_bits, scheme.group,
                                    asymmetric=scheme.asymmetric, clips=PLAIN)
        return round_to_nearest(weight, scheme.weight_bits, scheme.group,
                                asymmetric=scheme.asymmetric)
    return _vectors(scheme, weight, hessians)


def _vectors(
    scheme: RowgenScheme | Lut2dScheme, weight: Floats, hessians: Floats
) -> QuantizedWeights:
    arguments = (scheme.vector_length, scheme.weight_codes, scheme.group_columns)
    if scheme.method == "kmeans":
        return plain_vectors(weight, *arguments, scheme.seed)
    if scheme.method == "pyramid":
        return pyramid(weight, hessians, *arguments)
    return gptvq(weight, hessians, *arguments, scheme.seed)
