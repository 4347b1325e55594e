"""Operand packings: several narrow products from one wide multiplication, exactly.

Both layouts fit the 27 x 18 bit signed multiplier of a DSP48E2. Two int8 products that share an
activation: Xilinx WP486, "Deep Learning with INT8 Optimization on Xilinx Devices". The outer
product of two int4 weights and two int4 activations: Xilinx WP521, "Convolutional Neural Network
with INT4 Optimization"; there a bias added once to a sum keeps every field from borrowing from the
next, so that decoding needs no adder. Sums of `DEPTH` packed products decode exactly.
"""

from __future__ import annotations

import numpy as np

from hw.fixed import Ints
from hw.golden.softmax import log2_weights

DEPTH = 8
"""Packed products that may be added: int8 with one side in +-127, or int4 by any nibble."""
WEIGHT_BITS = 27
ACTIVATION_BITS = 18
"""Signed operands of the multiplier."""
INT8_OFFSET = 18
"""Bit at which the second int8 weight, and then its sum, starts."""
FIELD_BITS = 11
"""Width of a sum of int4 products; the second activation starts at bit ``FIELD_BITS``."""
INT4_OFFSET = 2 * FIELD_BITS
"""Bit at which the second int4 weight starts."""
INT4_BIAS = sum(1 << (FIELD_BITS * k + FIELD_BITS - 1) for k in range(4))
"""Added once to a sum of packed int4 products before `unpack_int4`."""
NIBBLE_BITS = 4
UPPER_SHIFT = 8
"""A power of two of this or more is multiplied without it, and shifted afterwards."""


def sign_extend(value: Ints, bits: int) -> Ints:
    """Low ``bits`` bits of ``value`` as a two's complement number, int64."""
    half = 1 << (bits - 1)
    low: Ints = np.asarray(value, np.int64) & ((1 << bits) - 1)
    return (low ^ half) - half


def pack_int8(w0: Ints, w1: Ints) -> Ints:
    """Wide operand of two int8 weights, int64 within 27 signed bits."""
    return (w1.astype(np.int64) << INT8_OFFSET) + w0


def unpack_int8(total: Ints) -> tuple[Ints, Ints]:
    """Both sums of products from a sum of ``pack_int8(w0, w1) * a``; the low one lends a carry."""
    carry = (total >> (INT8_OFFSET - 1)) & 1
    high = sign_extend((total >> INT8_OFFSET) + carry, INT8_OFFSET)
    return sign_extend(total, INT8_OFFSET), high


def pack_int4(w0: Ints, w1: Ints) -> Ints:
    """Wide operand of two int4 weights, int64 within 27 signed bits."""
    return (w1.astype(np.int64) << INT4_OFFSET) + w0


def pack_activations(a0: Ints, a1: Ints) -> Ints:
    """Narrow operand of two activations, int64 within 18 signed bits.

    a0: -8..15, a1: -8..7 (an int4 pair, or the nibbles of an int8).
    """
    return (a1.astype(np.int64) << FIELD_BITS) + a0


def unpack_int4(total: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Sums of w0 * a0, w0 * a1, w1 * a0 and w1 * a1 from a packed sum that includes the bias."""
    flip = 1 << (FIELD_BITS - 1)
    f0, f1, f2, f3 = (
        sign_extend((total >> (FIELD_BITS * k)) ^ flip, FIELD_BITS) for k in range(4)
    )
    return f0, f1, f2, f3


def split_nibbles(a: Ints) -> tuple[Ints, Ints]:
    """Low nibble (unsigned) and high nibble (signed) of an int8: ``a == low + 16 * high``."""
    wide = a.astype(np.int64)
    return wide & ((1 << NIBBLE_BITS) - 1), wide >> NIBBLE_BITS


def join_nibbles(low: Ints, high: Ints) -> Ints:
    """Product with an int8 from the products with its nibbles."""
    product: Ints = low + (high << NIBBLE_BITS)
    return product


def split_powers(codes: Ints) -> tuple[Ints, Ints]:
    """Log2 codes (0..15) as ``power << (UPPER_SHIFT * upper)``: power 0..128, upper 0 or 1.

    The power takes an int8 activation's place, so that two weights share its multiplication. Sums
    of `DEPTH` products stay exact, as -128 times 128 fits where -127 times -128 does.
    """
    weights = log2_weights(codes)
    upper = (weights >> UPPER_SHIFT > 0).astype(np.int64)
    return weights >> (UPPER_SHIFT * upper), upper
