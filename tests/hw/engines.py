"""Memories around an engine under test, as simulator processes with random stalls."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from amaranth.sim import Simulator

from hw.config import HardwareConfig
from hw.isa import HEADER

CONFIGS = Path(__file__).parents[2] / "configs" / "hardware"


def load_config(name: str = "tiny", **changes: Any) -> HardwareConfig:
    """A configuration of the repository with some parameters changed."""
    values = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    return HardwareConfig(**values | changes)


class Traffic:
    """Random stalls: a ready or valid signal is high with a fixed chance each cycle."""

    def __init__(self, seed: int, chance: float) -> None:
        self.random = random.Random(seed)
        self.chance = chance

    def go(self) -> int:
        return int(self.random.random() < self.chance)


class ExternalMemory:
    """Serves ``command`` and ``words`` of an external read client from a byte image."""

    def __init__(self, image: bytes, traffic: Traffic) -> None:
        self.image = image
        self.traffic = traffic
        self.commands: list[tuple[int, int]] = []

    async def serve(self, ctx: Any, command: Any, words: Any) -> None:
        size = len(words.payload) // 8
        queue: list[int] = []
        offered = 0
        while True:
            if not offered and queue and self.traffic.go():
                offered = 1
                ctx.set(words.payload, queue.pop(0))
            ctx.set(words.valid, offered)
            accepting = self.traffic.go()
            ctx.set(command.ready, accepting)
            *_, valid, payload, taken = await ctx.tick().sample(
                command.valid, command.payload, words.ready
            )
            if valid and accepting:
                address, count = payload.address, payload.words
                assert address % size == 0
                assert count
                assert address + count * size <= len(self.image)
                self.commands.append((address, count))
                for start in range(address, address + count * size, size):
                    queue.append(int.from_bytes(self.image[start:start + size], "little"))
            if taken:
                offered = 0


class VectorMemory:
    """Vector memory words; a read's data is there in the next cycle and only then."""

    def __init__(self, words: Sequence[int], traffic: Traffic) -> None:
        self.words = list(words)
        self.traffic = traffic

    async def serve(self, ctx: Any, port: Any) -> None:
        """Read client."""
        while True:
            accepting = self.traffic.go()
            ctx.set(port.request.ready, accepting)
            *_, valid, address = await ctx.tick().sample(port.request.valid, port.request.payload)
            fresh = bool(valid and accepting)
            garbage = self.traffic.random.getrandbits(len(port.data))
            ctx.set(port.data, self.words[address] if fresh else garbage)

    async def accept(self, ctx: Any, port: Any) -> None:
        """Write client."""
        while True:
            accepting = self.traffic.go()
            ctx.set(port.ready, accepting)
            *_, valid, payload = await ctx.tick().sample(port.valid, port.payload)
            if valid and accepting:
                self.words[payload.address] = payload.data


class OperandStore:
    """Operand store words, written through nibble enables."""

    def __init__(self, words: Sequence[int], traffic: Traffic) -> None:
        self.words = list(words)
        self.traffic = traffic
        self.writes = 0

    async def accept(self, ctx: Any, port: Any) -> None:
        while True:
            accepting = self.traffic.go()
            ctx.set(port.ready, accepting)
            *_, valid, payload = await ctx.tick().sample(port.valid, port.payload)
            if valid and accepting:
                enables = range(len(port.p.nibbles))
                mask = sum(15 << (4 * n) for n in enables if payload.nibbles >> n & 1)
                kept = self.words[payload.address] & ~mask
                self.words[payload.address] = kept | payload.data & mask
                self.writes += 1


async def record(ctx: Any, port: Any, table: dict[int, int]) -> None:
    """Collect writes of a {valid, address, data} port."""
    while True:
        *_, valid, address, value = await ctx.tick().sample(port.valid, port.address, port.data)
        if valid:
            table[address] = value


async def count(ctx: Any, events: Any, totals: dict[str, int]) -> None:
    """Count the pulses of an engine's events."""
    names = list(events.shape().members)
    totals.update(dict.fromkeys(names, 0))
    while True:
        *_, payload = await ctx.tick().sample(events)
        for name in names:
            totals[name] += getattr(payload, name)


async def watch_held(ctx: Any, port: Any) -> None:
    """Check that an offered payload stays offered, unchanged, until it is taken."""
    offered = None
    while True:
        *_, valid, ready, payload = await ctx.tick().sample(port.valid, port.ready, port.payload)
        if offered is not None:
            assert valid
            assert payload == offered
        offered = payload if valid and not ready else None


def run_tasks(
    dut: Any, tasks: Sequence[Mapping[str, int]], processes: Sequence[Any], limit: int = 20000
) -> list[int]:
    """Run instructions to completion beside background processes; returns the cycles of each."""
    cycles: list[int] = []

    async def dispatch(ctx: Any) -> None:
        for task in tasks:
            ctx.set(dut.task.payload, dict.fromkeys(HEADER, 0) | dict(task))
            ctx.set(dut.task.valid, 1)
            taken = 0
            for used in range(1, limit):
                *_, taken = await ctx.tick().sample(dut.task.ready)
                if taken:
                    cycles.append(used)
                    break
            if not taken:
                raise TimeoutError(f"task {len(cycles)} runs for more than {limit} cycles")
            ctx.set(dut.task.valid, 0)
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(dispatch)
    for process in processes:
        sim.add_testbench(process, background=True)
    sim.run()
    return cycles


def pack(values: Iterable[Any], bits: int) -> int:
    """Integers as fields of one word, the first lowest."""
    return sum((int(value) & ((1 << bits) - 1)) << (bits * n) for n, value in enumerate(values))
