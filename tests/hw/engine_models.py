"""More surroundings of an engine under test: write master, table memory, legal environment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from amaranth import Cat, Module, Signal, Value
from amaranth.hdl import Elaboratable
from amaranth.lib import stream
from amaranth.lib.wiring import In

from tests.hw import formal
from tests.hw.engines import Traffic, load_config

SMALL = load_config(port_bits=64, lanes=16)
"""Four elements a word: quick to simulate."""


class WriteMaster:
    """Takes commands and words of an engine; idle some cycles after all words were written.

    Attributes
    ----------
    image : memory bytes that the words are written to
    writes : address, data and strobes of every word, in order
    """

    def __init__(self, image: bytes, traffic: Traffic) -> None:
        self.image = bytearray(image)
        self.traffic = traffic
        self.writes: list[tuple[int, int, int]] = []

    async def _take(self, ctx: Any, port: Any) -> Any:
        while True:
            accepting = self.traffic.go()
            ctx.set(port.ready, accepting)
            *_, valid, payload = await ctx.tick().sample(port.valid, port.payload)
            ctx.set(port.ready, 0)
            if valid and accepting:
                return payload

    async def serve(self, ctx: Any, command: Any, words: Any, idle: Any) -> None:
        size = len(words.p.strobe)
        while True:
            ctx.set(idle, 1)
            task = await self._take(ctx, command)
            ctx.set(idle, 0)
            assert task.address % size == 0
            for start in range(task.address, task.address + task.words * size, size):
                word = await self._take(ctx, words)
                self.writes.append((start, word.data, word.strobe))
                for n, byte in enumerate(word.data.to_bytes(size, "little")):
                    if word.strobe >> n & 1:
                        self.image[start + n] = byte
            for _ in range(self.traffic.random.randrange(8)):
                await ctx.tick()


async def serve_reads(
    ctx: Any, en: Any, key: Any, data: Any, content: Callable[[Any], int], traffic: Traffic
) -> None:
    """Show ``content(key)`` in the cycle after a request, in all others garbage."""
    while True:
        *_, requested, address = await ctx.tick().sample(en, key)
        garbage = traffic.random.getrandbits(len(data))
        ctx.set(data, content(address) if requested else garbage)


async def take_writes(ctx: Any, port: Any, table: dict[int, int], traffic: Traffic) -> None:
    """Collect the writes of a stream of {address, data}; no address may come twice."""
    while True:
        accepting = traffic.go()
        ctx.set(port.ready, accepting)
        *_, valid, payload = await ctx.tick().sample(port.valid, port.payload)
        if valid and accepting:
            assert payload.address not in table
            table[payload.address] = payload.data


class Legal(Elaboratable):
    """An engine in any environment that keeps the stream rules, with one output to judge.

    Offers to the engine pass a register, so that they stay until taken; other inputs are free.
    """

    def __init__(self, dut: Any, offered: Any) -> None:
        self.dut, self.o = dut, offered
        self.offers = [
            getattr(dut, name)
            for name, member in dut.signature.members.items()
            if member.flow is In and member.is_signature
            and isinstance(member.signature, stream.Signature)
        ]
        driven = [offered.ready, *(one for port in self.offers for one in (port.valid, port.p))]
        inputs = (value for _, member, value in dut.signature.flatten(dut) if member.flow is In)
        names = {repr(Value.cast(one)) for one in driven}
        self.free = [one for one in map(Value.cast, inputs) if repr(one) not in names]
        self.registers = [Signal(1 + len(Value.cast(port.p))) for port in self.offers]
        width = sum(map(len, [*self.free, *self.registers]))
        self.i = SimpleNamespace(
            payload=SimpleNamespace(as_value=lambda: self.given), valid=Signal()
        )
        self.given = Signal(width)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = self.dut
        given: Any = self.given
        for one in self.free:
            m.d.comb += one.eq(given[:len(one)])
            given = given[len(one):]
        for port, register in zip(self.offers, self.registers, strict=True):
            m.d.comb += Cat(port.valid, port.p).eq(register)
            with m.If(~register[0] | port.ready):
                m.d.sync += register.eq(given[:len(register)])
            given = given[len(register):]
        return m


def prove_engine(dut: Any, offered: Any, build_dir: Path) -> None:
    """Prove that an offer of an engine stays, unchanged, until it is taken, or raise."""
    formal.prove_held(Legal(dut, offered), build_dir, depth=4)
