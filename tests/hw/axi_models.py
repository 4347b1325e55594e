"""AXI4 memories as simulator processes with random stalls, and channels as proof targets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from amaranth import Cat, Module, Signal, Value
from amaranth.hdl import Elaboratable
from amaranth.lib import data
from amaranth.lib.wiring import In
from amaranth.sim import Simulator

from tests.hw.engines import Traffic

PAGE_BYTES = 4096


def word_at(address: int, port_bits: int) -> int:
    """Content of a memory word: different for each address, all bits in use."""
    return (address * 0x9E3779B97F4A7C15F39CC0605CEDC835 + 1) ** 5 % (1 << port_bits)


class ReadMemory:
    """Slave of an AXI4 read master: in-order bursts, random latency."""

    def __init__(self, traffic: Traffic, latency: int = 0, errors: frozenset[int] = frozenset(),
                 contents: dict[int, int] | None = None) -> None:
        self.traffic = traffic
        self.latency = latency
        self.errors = errors
        self.contents = contents
        self.bursts: list[tuple[int, int]] = []
        self.requested = self.delivered = 0

    async def serve(self, ctx: Any, axi: Any) -> None:
        port_bits = len(axi.rdata)
        size = port_bits // 8
        queue: list[tuple[int, int, int]] = []
        cycle = offered = 0
        while True:
            if not offered and queue and queue[0][0] <= cycle and self.traffic.go():
                _, address, last = queue.pop(0)
                offered = 1
                if self.contents is None:
                    value = word_at(address, port_bits)
                else:
                    value = self.contents.get(address, 0)
                ctx.set(axi.rdata, value)
                ctx.set(axi.rlast, last)
                ctx.set(axi.rresp, 2 if address in self.errors else 0)
            ctx.set(axi.rvalid, offered)
            accepting = self.traffic.go()
            ctx.set(axi.arready, accepting)
            *_, valid, address, beats, rready = await ctx.tick().sample(
                axi.arvalid, axi.araddr, axi.arlen, axi.rready
            )
            cycle += 1
            if valid and accepting:
                assert address % size == 0
                assert address // PAGE_BYTES == (address + beats * size) // PAGE_BYTES
                self.bursts.append((address, beats + 1))
                self.requested += beats + 1
                queue += [(cycle + self.latency, address + k * size, int(k == beats))
                          for k in range(beats + 1)]
            if offered:
                assert rready, "the read data channel is stalled"
                self.delivered += 1
                offered = 0


def merge(old: int, value: int, strobe: int) -> int:
    """A word after a write to some of its bytes."""
    mask = sum(255 << 8 * n for n in range(strobe.bit_length()) if strobe >> n & 1)
    return old & ~mask | value & mask


class WriteMemory:
    """Slave of an AXI4 write master; responses after random delays."""

    def __init__(self, traffic: Traffic, error_at: int | None = None) -> None:
        self.traffic = traffic
        self.error_at = error_at
        self.contents: dict[int, int] = {}
        self.bursts: list[tuple[int, int]] = []
        self.answered = 0

    def write(self, address: int, value: int, strobe: int) -> None:
        self.contents[address] = merge(self.contents.get(address, 0), value, strobe)

    async def serve(self, ctx: Any, axi: Any) -> None:
        size = len(axi.wdata) // 8
        beats: list[tuple[int, int, int]] = []
        answers: list[int] = []
        taken = responding = answers_sent = 0
        while True:
            if not responding and answers and self.traffic.go():
                responding = 1
                ctx.set(axi.bresp, 2 if answers.pop(0) == self.error_at else 0)
            ctx.set(axi.bvalid, responding)
            address_ready, data_ready = self.traffic.go(), self.traffic.go()
            ctx.set(axi.awready, address_ready)
            ctx.set(axi.wready, data_ready)
            (*_, valid, address, length, data_valid, value, strobe, last, answered) = (
                await ctx.tick().sample(
                    axi.awvalid, axi.awaddr, axi.awlen,
                    axi.wvalid, axi.wdata, axi.wstrb, axi.wlast, axi.bready,
                )
            )
            if responding and answered:
                responding = 0
                self.answered += self.bursts[answers_sent][1]
                answers_sent += 1
            if valid and address_ready:
                assert address % size == 0
                assert address // PAGE_BYTES == (address + length * size) // PAGE_BYTES
                self.bursts.append((address, length + 1))
            if data_valid and data_ready:
                beats.append((value, strobe, last))
            while taken < len(self.bursts) and len(beats) >= self.bursts[taken][1]:
                start, count = self.bursts[taken]
                for k in range(count):
                    value, strobe, last = beats.pop(0)
                    assert last == (k == count - 1)
                    self.write(start + k * size, value, strobe)
                answers.append(taken)
                taken += 1


async def held(ctx: Any, valid: Any, ready: Any, *payload: Any) -> None:
    """Background process: what is offered stays offered, unchanged, until it is taken."""
    offered = None
    while True:
        *_, is_valid, is_ready, now = await ctx.tick().sample(valid, ready, Cat(*payload))
        if offered is not None:
            assert is_valid
            assert now == offered
        offered = now if is_valid and not is_ready else None


async def send(ctx: Any, port: Any, payloads: list[Any], traffic: Traffic) -> None:
    """Offer payloads on a stream, with random gaps."""
    for payload in payloads:
        while not traffic.go():
            await ctx.tick()
        ctx.set(port.payload, payload)
        ctx.set(port.valid, 1)
        ready = False
        while not ready:
            *_, ready = await ctx.tick().sample(port.ready)
        ctx.set(port.valid, 0)


async def receive(
    ctx: Any, port: Any, count: int, traffic: Traffic, received: list[Any]
) -> None:
    """Take payloads from a stream, with random stalls, until ``received`` has ``count``."""
    while len(received) < count:
        ready = traffic.go()
        ctx.set(port.ready, ready)
        *_, valid, payload = await ctx.tick().sample(port.valid, port.payload)
        if valid and ready:
            received.append(payload)
    ctx.set(port.ready, 0)


def simulate(dut: Any, testbenches: list[Any], background: list[Any], cycles: int) -> None:
    """Run until the testbenches end, beside endless ones; fail after ``cycles``."""

    async def deadline(ctx: Any) -> None:
        for _ in range(cycles):
            await ctx.tick()
        raise TimeoutError(f"not finished after {cycles} cycles")

    def process(start: Any) -> Any:
        async def run(ctx: Any) -> None:
            await start(ctx)

        return run

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    for testbench in testbenches:
        sim.add_testbench(testbench)
    for start in [*background, deadline]:
        sim.add_testbench(process(start), background=True)
    sim.run()


class Channel(Elaboratable):
    """One channel that a unit offers, as stream ``o``; all other inputs are free (``i``)."""

    def __init__(self, dut: Any, valid: Any, ready: Any, *payload: Any) -> None:
        self.dut = dut
        self.valid = valid
        self.ready = Value.cast(ready)
        self.payload = Cat(*payload)
        self.inputs = Cat(
            Value.cast(value) for _, member, value in dut.signature.flatten(dut)
            if member.flow == In and Value.cast(value) is not self.ready
        )
        free = data.StructLayout({"inputs": max(1, len(self.inputs))})
        self.i = SimpleNamespace(payload=Signal(free), valid=Signal())
        self.o = SimpleNamespace(
            payload=Signal(len(self.payload)), valid=Signal(), ready=Signal()
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = self.dut
        m.d.comb += [
            self.inputs.eq(self.i.payload.as_value()),
            self.ready.eq(self.o.ready),
            self.o.valid.eq(self.valid),
            self.o.payload.eq(self.payload),
        ]
        return m
