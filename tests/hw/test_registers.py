from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from hw.control.registers import Registers
from hw.register_map import (
    ADDRESS_SPACE,
    IDENTITY,
    VERSION,
    WATCHDOG_LIMIT,
    counters,
    register_map,
    register_map_markdown,
)
from tests.hw.axi_models import Channel, held, simulate
from tests.hw.engines import Traffic, load_config
from tests.hw.formal import prove_held

CONFIG = load_config()
OFFSETS = {register.name: register.offset for register in register_map(CONFIG)}
RUNNING, DONE, ERROR, HANG = 1, 2, 4, 8


class Host:
    """AXI4-Lite master with random delays on every channel."""

    def __init__(self, ctx, axi, traffic):
        self.ctx, self.axi, self.traffic = ctx, axi, traffic

    async def _until(self, condition):
        met = 0
        while not met:
            *_, met = await self.ctx.tick().sample(condition)

    async def read(self, offset):
        ctx, axi = self.ctx, self.axi
        ctx.set(axi.araddr, offset)
        ctx.set(axi.arvalid, 1)
        await self._until(axi.arready)
        ctx.set(axi.arvalid, 0)
        while not self.traffic.go():
            await ctx.tick()
        ctx.set(axi.rready, 1)
        valid = 0
        while not valid:
            *_, valid, value, response = await ctx.tick().sample(axi.rvalid, axi.rdata, axi.rresp)
        ctx.set(axi.rready, 0)
        assert response == 0
        return value

    async def read64(self, offset):
        return await self.read(offset) | await self.read(offset + 4) << 32

    async def write(self, offset, value, strobes=15):
        ctx, axi = self.ctx, self.axi
        ctx.set(axi.awaddr, offset)
        ctx.set(axi.wdata, value)
        ctx.set(axi.wstrb, strobes)
        first, second = random.Random(self.traffic.random.random()).sample(
            [axi.awvalid, axi.wvalid], 2
        )
        ctx.set(first, 1)
        while not self.traffic.go():
            await ctx.tick()
        ctx.set(second, 1)
        await self._until(axi.awready & axi.wready)
        ctx.set(first, 0)
        ctx.set(second, 0)
        while not self.traffic.go():
            await ctx.tick()
        ctx.set(axi.bready, 1)
        await self._until(axi.bvalid)
        ctx.set(axi.bready, 0)


def session(script, seed=0, chance=0.5):
    """Run a host script against the registers."""
    dut = Registers(CONFIG, counters(CONFIG))
    axi = dut.axi

    async def run(ctx):
        await script(ctx, dut, Host(ctx, axi, Traffic(seed, chance)))

    simulate(dut, [run], [
        lambda ctx: held(ctx, axi.rvalid, axi.rready, axi.rdata, axi.rresp),
        lambda ctx: held(ctx, axi.bvalid, axi.bready, axi.bresp),
    ], 4000)


def test_identity_and_defaults():
    async def script(ctx, dut, host):
        assert await host.read(OFFSETS["id"]) == IDENTITY == int.from_bytes(b"LUTR", "big")
        assert await host.read(OFFSETS["version"]) == VERSION
        assert f"{await host.read64(OFFSETS['configuration']):016x}" == CONFIG.digest()
        assert await host.read(OFFSETS["watchdog_limit"]) == WATCHDOG_LIMIT
        assert await host.read(OFFSETS["status"]) == 0
        assert await host.read(OFFSETS["control"]) == 0
        assert await host.read(ADDRESS_SPACE - 4) == 0
        assert not ctx.get(dut.irq)

    session(script)


@settings(max_examples=10)
@given(st.integers(0, 1 << 30), st.sampled_from([0.3, 1.0]))
def test_written_bytes_are_read(seed, chance):
    async def script(ctx, dut, host):
        rng = random.Random(seed)
        program, limit = 0, WATCHDOG_LIMIT
        for _ in range(12):
            value, strobes = rng.getrandbits(32), rng.getrandbits(4)
            mask = sum(255 << 8 * n for n in range(4) if strobes >> n & 1)
            target = rng.choice(["low", "high", "limit", "id"])
            if target == "limit":
                await host.write(OFFSETS["watchdog_limit"], value, strobes)
                limit = limit & ~mask | value & mask
            elif target == "id":
                await host.write(OFFSETS["id"], value, strobes)
            else:
                shift = 32 * (target == "high")
                await host.write(OFFSETS["program"] + shift // 8, value, strobes)
                program = (program & ~(mask << shift) | (value & mask) << shift) % (1 << 40)
            assert await host.read64(OFFSETS["program"]) == program == ctx.get(dut.program)
            assert await host.read(OFFSETS["watchdog_limit"]) == limit
            assert ctx.get(dut.watchdog_limit) == limit
            assert await host.read(OFFSETS["id"]) == IDENTITY

    session(script, seed, chance)


@settings(max_examples=6)
@given(st.integers(0, 1 << 30))
def test_counters_count_running_cycles(seed):
    """Two runs: increments are added while running only, and cleared by start."""
    async def script(ctx, dut, host):
        rng = random.Random(seed)
        for _ in range(2):
            for name, bits in counters(CONFIG).items():
                ctx.set(getattr(dut.increments, name), rng.getrandbits(bits))
            await host.write(OFFSETS["control"], 1)
            while not ctx.get(dut.running):
                await ctx.tick()
            totals = dict.fromkeys(counters(CONFIG), 0)
            cycles = await host.read(OFFSETS["cycles"])
            assert await host.read(OFFSETS["cycles"]) > cycles
            while not ctx.get(dut.running):
                await ctx.tick()
            await host.write(OFFSETS["control"], 1)
            assert await host.read(OFFSETS["status"]) & RUNNING
            ctx.set(dut.finished, 1)
            await ctx.tick().repeat(2)
            ctx.set(dut.finished, 0)
            cycles = await host.read64(OFFSETS["cycles"])
            for name in totals:
                step = ctx.get(getattr(dut.increments, name))
                assert await host.read64(OFFSETS[name]) == cycles * step

    session(script, seed, 1.0)


def test_status_errors_and_interrupt():
    async def script(ctx, dut, host):
        await host.write(OFFSETS["control"], 2)
        assert await host.read(OFFSETS["status"]) == 0
        await host.write(OFFSETS["control"], 1)
        ctx.set(dut.busy, 0b101)
        ctx.set(dut.waiting, 0b100000000)
        assert await host.read(OFFSETS["status"]) == RUNNING | 0b101 << 8 | 0b100000000 << 20
        ctx.set(dut.errors.read, 1)
        await ctx.tick()
        ctx.set(dut.errors.read, 0)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.irq)
        assert await host.read(OFFSETS["errors"]) == 2
        assert await host.read(OFFSETS["status"]) & 15 == RUNNING | ERROR
        ctx.set(dut.finished, 1)
        await ctx.tick()
        ctx.set(dut.finished, 0)
        assert await host.read(OFFSETS["status"]) & 15 == DONE | ERROR

        await host.write(OFFSETS["control"], 1)
        assert not ctx.get(dut.irq)
        assert await host.read(OFFSETS["status"]) & 15 == RUNNING
        ctx.set(dut.hang_busy, 0b11)
        ctx.set(dut.hang_waiting, 0b1110)
        ctx.set(dut.hang, 1)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.irq)
        assert await host.read(OFFSETS["status"]) & 15 == ERROR | HANG
        assert await host.read(OFFSETS["errors"]) == 8
        assert await host.read(OFFSETS["hang_engines"]) == 0b11 | 0b1110 << 16

    session(script)


def test_channels_are_held(tmp_path):
    dut = Registers(CONFIG, counters(CONFIG))
    axi = dut.axi
    prove_held(Channel(dut, axi.rvalid, axi.rready, axi.rdata, axi.rresp), tmp_path, 2)


def test_map_has_no_overlap_and_fits():
    taken = [register.offset + 4 * half
             for register in register_map(CONFIG) for half in range(register.bits // 32)]
    assert len(set(taken)) == len(taken)
    assert all(offset % 4 == 0 and offset < ADDRESS_SPACE for offset in taken)
    assert all(register.description for register in register_map(CONFIG))


def test_markdown_lists_every_register():
    text = register_map_markdown(CONFIG)
    assert CONFIG.digest() in text
    for register in register_map(CONFIG):
        assert f"| {register.offset:#05x} | {register.name} | {register.bits} |" in text
