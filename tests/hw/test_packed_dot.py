"""Packed dot products: every operand pair, the shift-accumulator, extremes."""

import dataclasses

import numpy as np
import pytest
from amaranth import Const, Module, Mux, Signal, signed
from amaranth.hdl import Elaboratable
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.golden.softmax import LOG2_BITS, log2_weights
from hw.isa import SimdMode
from hw.units.delay import delayed
from hw.units.packed_dot import LATENCY, PackedDot
from hw.units.packed_multiplier import pack_activation, split_power
from tests.hw.engines import load_config, pack

SMALL = load_config(port_bits=64, lanes=16)
ONE_INPUT = dataclasses.replace(SMALL, simd=False, simd_depth=1, log2_softmax=False)
TWO_INPUTS = dataclasses.replace(SMALL, simd_depth=2)
CASES = 1 << 16
INT8 = (SimdMode.W8A8, SimdMode.W8L4)


class Exhaustive(Elaboratable):
    """Counts through the operands of one product, one case a cycle, and counts wrong results.

    Of the second int8 weight, which the count has no room for, ``w1`` is taken. W8L4's codes are
    counted with the first weight; there a second input is 0.
    """

    def __init__(self, mode, w1):
        self.mode, self.w1 = mode, w1
        self.cycle, self.wrong = Signal(range(2 * CASES)), Signal(range(4 * CASES + 1))

    def elaborate(self, platform):
        m = Module()
        log2 = self.mode == SimdMode.W8L4
        m.submodules.dot = dot = PackedDot(TWO_INPUTS if log2 else ONE_INPUT)
        operands = [self.cycle[:16]]
        for n in range(LATENCY):
            operands.append(Signal(16, name=f"operands{n}"))
            m.d.sync += operands[-1].eq(operands[-2])
        w0, w1, byte = self.split(operands[0])
        if log2:
            packed, upper = split_power(byte)
            m.d.comb += dot.upper.eq(delayed(m, upper, 2, "upper"))
        else:
            packed = pack_activation(dot.mode, byte)
        m.d.sync += self.cycle.eq(self.cycle + 1)
        m.d.comb += [
            dot.mode.eq(self.mode),
            dot.step.valid.eq(1),
            dot.step.first.eq(1),
            dot.step.last.eq(1),
            dot.activations[0].eq(packed),
            dot.bytes[0].eq(w0),
            dot.bytes[1].eq(w1),
            dot.nibbles[0].eq(w0),
            dot.nibbles[1].eq(w1),
        ]
        w0, w1, byte = self.split(operands[LATENCY])
        if self.mode == SimdMode.W4A4:
            even, odd = byte[:4].as_signed(), byte[4:].as_signed()
            pairs = [(dot.odd_dots[0], w0 * odd), (dot.odd_dots[1], w1 * odd)]
        elif self.mode == SimdMode.W8L4:
            even, pairs = Mux(byte == 15, 0, (1 << LOG2_BITS) >> byte), []
        else:
            even, pairs = byte.as_signed(), []
        pairs += [(dot.dots[0], w0 * even), (dot.dots[1], w1 * even)]
        with m.If(self.cycle >= LATENCY):
            m.d.sync += self.wrong.eq(self.wrong + sum(got != product for got, product in pairs))
        return m

    def split(self, operands):
        """Weights and activation byte of a case."""
        if self.mode == SimdMode.W8L4:
            return operands[4:12].as_signed(), Const(self.w1, signed(8)), operands[:4]
        if self.mode == SimdMode.W8A8:
            return operands[8:].as_signed(), Const(self.w1, signed(8)), operands[:8]
        return operands[8:12].as_signed(), operands[12:].as_signed(), operands[:8]


def wrong_cases(mode, w1=0, cases=CASES):
    dut = Exhaustive(mode, w1)
    wrong = []

    async def run(ctx):
        await ctx.tick().repeat(cases + LATENCY)
        wrong.append(ctx.get(dut.wrong))

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(run)
    sim.run()
    return wrong[0]


@pytest.mark.parametrize("mode", [SimdMode.W4A4, SimdMode.W4A8], ids=lambda mode: mode.name)
def test_int4_weights_are_exact_for_all_operands(mode):
    assert wrong_cases(mode) == 0


@pytest.mark.parametrize("w1", [-128, *(
    pytest.param(w1, marks=pytest.mark.slow) for w1 in (-127, -1, 0, 1, 85, 127)
)])
def test_int8_weights_are_exact_for_all_operands(w1):
    """The low product lends its sign to the high one, whose value is w1 times the activation."""
    assert wrong_cases(SimdMode.W8A8, w1) == 0


@pytest.mark.parametrize("w1", [-128, -1, 127])
def test_log2_products_are_exact_for_all_codes_and_weights(w1):
    assert wrong_cases(SimdMode.W8L4, w1, 1 << 12) == 0


def run_groups(mode, groups, config=SMALL):
    """Dot products [2 columns, 2 tokens] of groups of weights, activations and factors.

    weights: [2, chunks, depth]; activations: [2 tokens, chunks, depth]; alphas: [chunks].
    """
    dut = PackedDot(config)
    m = Module()
    m.submodules.dut = dut
    activations = [Signal(8, name=f"a{k}") for k in range(config.simd_depth)]
    for k, byte in enumerate(activations):
        power, upper = split_power(byte[:4])
        m.d.comb += [
            dut.activations[k].eq(
                Mux(dut.mode == SimdMode.W8L4, power, pack_activation(dut.mode, byte))),
            dut.upper[k].eq(delayed(m, upper, 2, f"upper{k}")),
        ]
    columns, bits = (dut.bytes, 8) if mode in INT8 else (dut.nibbles, 4)
    trace, ends = [], []

    async def cycle(ctx, step):
        ctx.set(dut.step, step)
        *_, dot0, odd0, dot1, odd1 = await ctx.tick().sample(
            dut.dots[0], dut.odd_dots[0], dut.dots[1], dut.odd_dots[1]
        )
        trace.append([[dot0, odd0], [dot1, odd1]])

    async def drive(ctx):
        ctx.set(dut.mode, mode)
        for weights, a, alphas in groups:
            for c, alpha in enumerate(alphas):
                for column, values in zip(columns, weights[:, c], strict=True):
                    ctx.set(column, pack(values, bits))
                for k, byte in enumerate(activations):
                    value = int(a[0, c, k])
                    if mode == SimdMode.W4A4:
                        value = (value & 15) | (int(a[1, c, k]) & 15) << 4
                    ctx.set(byte, value & 255)
                shift = 0 if c == 0 else int(alphas[c - 1] - alpha)
                last = c == len(alphas) - 1
                await cycle(ctx, {"valid": 1, "first": c == 0, "last": last,
                                  "shift": shift, "final": int(alpha)})
            ends.append(len(trace) - 1)
        for _ in range(LATENCY + 1):
            await cycle(ctx, {"valid": 0, "first": 1, "last": 1, "shift": 3, "final": 2})

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()
    return [np.array(trace[end + LATENCY]) for end in ends]


def check_groups(mode, groups, config=SMALL):
    for (weights, a, alphas), dots in zip(groups, run_groups(mode, groups, config), strict=True):
        a = log2_weights(a) if mode == SimdMode.W8L4 else a
        factors = 1 << alphas.astype(np.int64)
        for token in range(2 if mode == SimdMode.W4A4 else 1):
            products = weights.astype(np.int64) * a[token].astype(np.int64)
            assert (dots[:, token] == (products.sum(axis=2) * factors).sum(axis=1)).all()


def limits(mode):
    """Extreme weights, activations and factors."""
    weights = (-128, 127) if mode in INT8 else (-8, 7)
    if mode == SimdMode.W8L4:
        return weights, (0, 15), 0
    limit = 7 if mode == SimdMode.W4A4 else 127
    return weights, (-limit, limit), 4


@settings(max_examples=15)
@given(mode=st.sampled_from(SimdMode), seed=st.integers(0, 2**32 - 1))
def test_groups_are_shifted_sums(mode, seed):
    rng = np.random.default_rng(seed)
    (low, high), activations, alpha = limits(mode)
    groups = []
    for chunks in rng.integers(1, SMALL.group_max // SMALL.simd_depth, 5, endpoint=True):
        shape = (2, chunks, SMALL.simd_depth)
        groups.append((
            rng.integers(low, high, shape, endpoint=True),
            rng.integers(*activations, (2, *shape[1:]), endpoint=True),
            np.sort(rng.integers(0, alpha, chunks, endpoint=True))[::-1],
        ))
    check_groups(mode, groups)


@pytest.mark.parametrize("mode", SimdMode, ids=lambda mode: mode.name)
def test_longest_group_of_extremes(mode):
    weights, activations, alpha = limits(mode)
    chunks = SMALL.group_max // SMALL.simd_depth
    shape = (2, chunks, SMALL.simd_depth)
    check_groups(mode, [
        (np.full(shape, w), np.full(shape, a), np.full(chunks, alpha))
        for w in weights for a in activations
    ])


@pytest.mark.parametrize("mode", SimdMode, ids=lambda mode: mode.name)
def test_eight_extreme_products_fit_the_packed_sum(mode):
    weights, activations, alpha = limits(mode)
    deep = dataclasses.replace(SMALL, port_bits=128, lanes=32, simd_depth=8)
    shape = (2, 2, deep.simd_depth)
    check_groups(mode, [
        (np.full(shape, w), np.full(shape, a), np.array([min(3, alpha), 0]))
        for w in weights for a in (*activations, *((7, 6) if mode == SimdMode.W8L4 else ()))
    ], deep)
