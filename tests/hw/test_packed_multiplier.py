"""Packed products against plain products: golden over all operands, then circuit on golden."""

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.hdl import Elaboratable
from amaranth.sim import Simulator

from hw.golden import packing
from hw.golden.softmax import log2_weights
from hw.isa import SimdMode
from hw.units.packed_multiplier import PackedMultiplier, pack_activation

INT4 = np.arange(-8, 8)
INT8 = np.arange(-128, 128)


def check_int4(w0, w1, a0, a1):
    packed, operand = packing.pack_int4(w0, w1), packing.pack_activations(a0, a1)
    assert (packing.sign_extend(packed, packing.WEIGHT_BITS) == packed).all()
    assert (packing.sign_extend(operand, packing.ACTIVATION_BITS) == operand).all()
    return packing.unpack_int4(packed * operand + packing.INT4_BIAS)


def test_two_int8_products_are_exact_for_all_operands():
    w0, w1 = np.meshgrid(INT8, INT8, indexing="ij")
    packed = packing.pack_int8(w0, w1)
    assert (packing.sign_extend(packed, packing.WEIGHT_BITS) == packed).all()
    for a in INT8:
        low, high = packing.unpack_int8(packed * a)
        assert (low == w0 * a).all()
        assert (high == w1 * a).all()


@pytest.mark.parametrize("low", [INT4, np.arange(16)], ids=["signed", "unsigned"])
def test_four_int4_products_are_exact_for_all_operands(low):
    w0, w1, a0, a1 = np.meshgrid(INT4, INT4, low, INT4, indexing="ij")
    for field, product in zip(check_int4(w0, w1, a0, a1),
                              (w0 * a0, w0 * a1, w1 * a0, w1 * a1), strict=True):
        assert (field == product).all()


def test_nibbles_of_an_int8_activation_are_exact_for_all_operands():
    w0, w1, a = np.meshgrid(INT4, INT4, INT8, indexing="ij")
    f0, f1, f2, f3 = check_int4(w0, w1, *packing.split_nibbles(a))
    assert (packing.join_nibbles(f0, f1) == w0 * a).all()
    assert (packing.join_nibbles(f2, f3) == w1 * a).all()


def test_sums_of_eight_extreme_products_are_exact():
    n = packing.DEPTH
    for w, a in ((-128, 127), (-128, -127), (127, -127), (127, 127)):
        packed = packing.pack_int8(np.int64(w), np.int64(w))
        low, high = packing.unpack_int8(np.int64(n * a) * packed)
        assert (low, high) == (n * w * a, n * w * a)
    for w in (-8, 7):
        for a0 in (-8, 15):
            for a1 in (-8, 7):
                product = packing.pack_int4(np.int64(w), np.int64(w)) * packing.pack_activations(
                    np.int64(a0), np.int64(a1)
                )
                fields = packing.unpack_int4(n * product + packing.INT4_BIAS)
                assert fields == (n * w * a0, n * w * a1, n * w * a0, n * w * a1)


class Cell(Elaboratable):
    """The multiplier behind the packing of an activation byte."""

    def __init__(self):
        self.mode, self.byte = Signal(2), Signal(8)
        self.cell = PackedMultiplier()

    def elaborate(self, platform):
        m = Module()
        m.submodules.cell = self.cell
        m.d.comb += [
            self.cell.valid.eq(1),
            self.cell.int8.eq(self.mode == SimdMode.W8A8),
            self.cell.activation.eq(pack_activation(self.mode, self.byte)),
        ]
        return m


def multiply(mode, rows):
    """Products of (w0, w1, activation byte) rows, one row a cycle."""
    dut = Cell()
    products = []

    async def drive(ctx):
        ctx.set(dut.mode, mode)
        for n in range(len(rows) + 2):
            w0, w1, byte = (int(value) for value in rows[min(n, len(rows) - 1)])
            weights = dut.cell.bytes if mode == SimdMode.W8A8 else dut.cell.nibbles
            ctx.set(weights[0], w0)
            ctx.set(weights[1], w1)
            ctx.set(dut.byte, byte & 255)
            if n >= 2:
                products.append(ctx.get(dut.cell.product))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()
    return np.array(products, np.int64)


def test_log2_codes_split_into_powers_that_fit():
    codes = np.arange(16)
    powers, upper = packing.split_powers(codes)
    assert (powers << packing.UPPER_SHIFT * upper == log2_weights(codes)).all()
    assert powers.max() == 128
    for w in (-128, 127):
        packed = packing.pack_int8(np.int64(w), np.int64(w))
        low, high = packing.unpack_int8(packing.DEPTH * powers.max() * packed)
        assert (low, high) == (packing.DEPTH * 128 * w, packing.DEPTH * 128 * w)


@pytest.mark.parametrize(
    "mode", [SimdMode.W4A4, SimdMode.W4A8, SimdMode.W8A8], ids=lambda mode: mode.name)
def test_circuit_multiplies_as_packed_by_golden(mode):
    edges = INT8[[0, 1, 64, 127, 128, 129, 192, 255]] if mode == SimdMode.W8A8 else INT4[::3]
    bytes_ = INT8[::17] if mode == SimdMode.W8A8 else INT8[::5]
    rows = np.stack(np.meshgrid(edges, edges, bytes_, indexing="ij"), -1).reshape(-1, 3)
    w0, w1, byte = rows.T
    low, high = packing.split_nibbles(byte)
    expected = {
        SimdMode.W8A8: lambda: packing.pack_int8(w0, w1) * byte,
        SimdMode.W4A8: lambda: packing.pack_int4(w0, w1) * packing.pack_activations(low, high),
        SimdMode.W4A4: lambda: packing.pack_int4(w0, w1) * packing.pack_activations(
            packing.sign_extend(low, 4), high
        ),
    }[mode]()
    assert (multiply(mode, rows) == expected).all()
