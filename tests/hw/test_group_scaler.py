"""Group scaler against the rounding of `hw.fixed`."""

import dataclasses

import numpy as np
from amaranth.sim import Simulator
from hypothesis import example, given
from hypothesis import strategies as st

from hw.config import ALPHA_MAX, GROUP_MAX
from hw.fixed import round_shift, wrapped
from hw.units.group_scaler import DOT_BITS, LATENCY, GroupScaler, mass_bits
from hw.units.packed_dot import dot_bits, int4_dot_bits
from tests.hw.engines import load_config

SMALL = load_config(port_bits=64, lanes=16)
INT16 = st.integers(-(1 << 15), (1 << 15) - 1)


def signed_values(bits):
    limit = 1 << (bits - 1)
    return st.sampled_from([-limit, -1, 0, 1, limit - 1]) | st.integers(-limit, limit - 1)


def allowed(row):
    """A dot product that one multiplier does not take has scale 1."""
    limit = 1 << (DOT_BITS - 1)
    return row | ({} if row["odd"] or -limit <= row["dot"] < limit else {"scale": 1})


ROWS = st.lists(
    st.fixed_dictionaries({
        "odd": st.booleans(),
        "dot": signed_values(DOT_BITS) | signed_values(dot_bits(SMALL)),
        "odd_dot": signed_values(int4_dot_bits(SMALL)),
        "mass": signed_values(mass_bits(SMALL)),
        "scale": INT16,
        "minimum": INT16,
    }).map(allowed),
    min_size=1, max_size=8,
)


def scaled(rows, shift, bits):
    """Sums of rows, one a cycle."""
    dut = GroupScaler(dataclasses.replace(SMALL, sum_bits=bits))
    sums = []

    async def drive(ctx):
        ctx.set(dut.shift, shift)
        for cycle in range(len(rows) + LATENCY):
            ctx.set(dut.valid, cycle < len(rows))
            for name, value in rows[cycle].items() if cycle < len(rows) else ():
                ctx.set(getattr(dut, name), value)
            *_, total = await ctx.tick().sample(dut.sum)
            sums.append(total)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()
    return sums[LATENCY:]


def test_config_has_dots_that_one_multiplier_does_not_take():
    assert dot_bits(SMALL) > DOT_BITS


def test_only_log2_products_need_more_than_one_multiplier():
    largest = GROUP_MAX * 127 * 128 << ALPHA_MAX
    assert largest < 1 << (DOT_BITS - 1) <= 2 * largest


@given(rows=ROWS, shift=st.integers(0, 63), bits=st.sampled_from([20, 27, 32]))
@example(rows=[dict.fromkeys(["odd", "dot", "odd_dot", "mass", "scale", "minimum"], 1)], shift=1,
         bits=32)
def test_sums_round_to_nearest(rows, shift, bits):
    """Sums that do not fit keep their low bits."""
    for row, total in zip(rows, scaled(rows, shift, bits), strict=True):
        dot = row["odd_dot"] if row["odd"] else row["dot"]
        exact = dot * row["scale"] + row["mass"] * row["minimum"]
        assert total == wrapped(np.array([round_shift(exact, shift)], np.int64), bits)[0]
