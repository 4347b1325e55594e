"""One DSP block that multiplies two weights by one or two activations."""

from __future__ import annotations

from typing import Any

from amaranth import Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.golden import packing
from hw.golden.softmax import LOG2_BITS, LOG2_ZERO
from hw.isa import SimdMode

PRODUCT_BITS = packing.WEIGHT_BITS + packing.ACTIVATION_BITS
EXPONENT_BITS = packing.UPPER_SHIFT.bit_length() - 1
"""Bits of an exponent below `UPPER_SHIFT`."""


def int8_weights(mode: Any) -> Any:
    """Whether the weights of a `SimdMode` are int8, not int4."""
    return (mode == SimdMode.W8A8) | (mode == SimdMode.W8L4)


def split_power(code: Any) -> tuple[Any, Any]:
    """18-bit operand of a log2 code, and if its products must be shifted by `UPPER_SHIFT`.

    As `hw.golden.packing.split_powers`; the shift of code 15 may be either.
    """
    exponent = (LOG2_BITS - code)[:packing.NIBBLE_BITS]
    power = Const(1) << exponent[:EXPONENT_BITS]
    return Mux(code == LOG2_ZERO, 0, power), exponent[EXPONENT_BITS]


def pack_activation(mode: Any, byte: Any) -> Any:
    """18-bit operand of one activation byte.

    W8A8: the int8; W4A8: its nibbles, the low one unsigned; W4A4: one int4 of each of two tokens.
    """
    low, high = byte[: packing.NIBBLE_BITS], byte[packing.NIBBLE_BITS :].as_signed()
    low = Mux(mode == SimdMode.W4A4, low.as_signed(), low)
    nibbles = (high << packing.FIELD_BITS) + low
    return Mux(mode == SimdMode.W8A8, byte.as_signed(), nibbles)


class PackedMultiplier(wiring.Component):
    """Product of packed operands; 2 cycles of latency, one product per cycle.

    Stages that hold nothing valid keep their contents.

    Members
    -------
    valid : In(1), the operands are there
    int8 : In(1), lay the weights out as int8, else as int4
    bytes, nibbles : 2 x In(signed(8)) and 2 x In(signed(4)), int8 and int4 weights of two columns
    activation : In(signed(18)), from `pack_activation`
    product : Out(signed(45)), valid 2 cycles after its operands
    """

    def __init__(self) -> None:
        super().__init__({
            "valid": In(1),
            "int8": In(1),
            "bytes": In(signed(8)).array(2),
            "nibbles": In(signed(packing.NIBBLE_BITS)).array(2),
            "activation": In(signed(packing.ACTIVATION_BITS)),
            "product": Out(signed(PRODUCT_BITS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        packed_weights = Signal(signed(packing.WEIGHT_BITS), reset_less=True)
        activation = Signal(signed(packing.ACTIVATION_BITS), reset_less=True)
        product = Signal(signed(PRODUCT_BITS), reset_less=True)
        held = Signal()
        m.d.sync += held.eq(self.valid)
        with m.If(self.valid):
            m.d.sync += activation.eq(self.activation)
            with m.If(self.int8):
                m.d.sync += packed_weights.eq(
                    (self.bytes[1] << packing.INT8_OFFSET) + self.bytes[0]
                )
            with m.Else():
                m.d.sync += packed_weights.eq(
                    (self.nibbles[1] << packing.INT4_OFFSET) + self.nibbles[0]
                )
        with m.If(held):
            m.d.sync += product.eq(packed_weights * activation)
        m.d.comb += self.product.eq(product)
        return m
