"""Inside the HDL simulator: AXI components against cocotbext-axi."""

from __future__ import annotations

import random
from itertools import cycle
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiRamRead,
    AxiRamWrite,
    AxiReadBus,
    AxiWriteBus,
)

from hw.register_map import IDENTITY, register_map
from tests.hw.engines import load_config

SIZE = 1 << 16


def stalls(seed: int) -> Any:
    """Endless random pauses."""
    rng = random.Random(seed)
    return cycle([rng.random() < 0.3 for _ in range(997)])


async def reset(dut: Any) -> None:
    Clock(dut.clk, 10, unit="ns").start()
    dut.rst.value = 1
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value = 0


async def send(dut: Any, name: str, fields: list[dict[str, int]]) -> None:
    """Offer payloads on a stream of a top that splits them into signals."""
    valid, ready = getattr(dut, f"{name}__valid"), getattr(dut, f"{name}__ready")
    payload = getattr(dut, f"{name}__payload")
    for values in fields:
        payload.value = values.get("address", 0) | values["words"] << 40
        valid.value = 1
        await RisingEdge(dut.clk)
        while not ready.value:
            await RisingEdge(dut.clk)
        valid.value = 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def read_words(dut: Any) -> None:
    """Bursts of many lengths read what the memory holds."""
    size = len(dut.words__payload) // 8
    dut.command__valid.value = 0
    dut.words__ready.value = 1
    ram = AxiRamRead(AxiReadBus.from_prefix(dut, "axi_"), dut.clk, dut.rst, size=SIZE)
    ram.ar_channel.set_pause_generator(stalls(1))
    ram.r_channel.set_pause_generator(stalls(2))
    rng = random.Random(0)
    content = rng.randbytes(SIZE)
    ram.write(0, content)
    await reset(dut)
    commands = [(4096 - 3 * size, 7), (0, 300), *((rng.randrange(3000) * size, 1 + n % 3)
                                                  for n in range(40))]
    cocotb.start_soon(send(dut, "command", [{"address": a, "words": n} for a, n in commands]))
    for address, words in commands:
        for k in range(words):
            start = address + k * size
            await RisingEdge(dut.clk)
            while not dut.words__valid.value:
                await RisingEdge(dut.clk)
            expected = int.from_bytes(content[start:start + size], "little")
            assert int(dut.words__payload.value) == expected, f"address {start:#x}"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def write_words(dut: Any) -> None:
    """The memory holds the bytes that were written, where they were to go."""
    size = len(dut.axi__wstrb)
    dut.command__valid.value = 0
    dut.words__valid.value = 0
    ram = AxiRamWrite(AxiWriteBus.from_prefix(dut, "axi_"), dut.clk, dut.rst, size=SIZE)
    for seed, channel in enumerate((ram.aw_channel, ram.w_channel, ram.b_channel)):
        channel.set_pause_generator(stalls(seed))
    rng = random.Random(0)
    expected = bytearray(rng.randbytes(SIZE))
    ram.write(0, bytes(expected))
    await reset(dut)
    commands = [(4096 - 3 * size, 7), (8192, 300), (64, 1), (128, 2), (64, 1), (4096, 1)]
    cocotb.start_soon(send(dut, "command", [{"address": a, "words": n} for a, n in commands]))
    for address, words in commands:
        for start in range(address, address + words * size, size):
            content = rng.randbytes(size)
            strobe = rng.choice([(1 << size) - 1, rng.getrandbits(size)])
            for n in range(size):
                if strobe >> n & 1:
                    expected[start + n] = content[n]
            dut.words__payload.value = int.from_bytes(content, "little") | strobe << 8 * size
            dut.words__valid.value = 1
            await RisingEdge(dut.clk)
            while not dut.words__ready.value:
                await RisingEdge(dut.clk)
            dut.words__valid.value = 0
    while not dut.idle.value:
        await RisingEdge(dut.clk)
    assert ram.read(0, SIZE) == expected


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def host_access(dut: Any) -> None:
    """The registers answer a foreign AXI4-Lite master."""
    config = load_config()
    offsets = {register.name: register.offset for register in register_map(config)}
    for name in ("finished", "hang", "busy", "waiting"):
        getattr(dut, name).value = 0
    dut.errors.value = 0
    dut.increments__lut_steps.value = 1
    master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "axi_"), dut.clk, dut.rst)
    for seed, channel in enumerate((
        master.write_if.aw_channel, master.write_if.w_channel, master.write_if.b_channel,
        master.read_if.ar_channel, master.read_if.r_channel,
    )):
        channel.set_pause_generator(stalls(seed))
    await reset(dut)
    assert await master.read_dword(offsets["id"]) == IDENTITY
    assert await master.read_qword(offsets["configuration"]) == int(config.digest(), 16)
    await master.write_qword(offsets["program"], 0x12_3456_7840)
    assert await master.read_qword(offsets["program"]) == 0x12_3456_7840
    await master.write(offsets["watchdog_limit"] + 1, b"\xab\xcd")
    assert await master.read_dword(offsets["watchdog_limit"]) == 0x00CDAB00
    await master.write_dword(offsets["control"], 1)
    assert await master.read_dword(offsets["status"]) == 1
    dut.finished.value = 1
    while not dut.irq.value:
        await RisingEdge(dut.clk)
    assert await master.read_dword(offsets["status"]) == 2
    cycles = await master.read_qword(offsets["cycles"])
    assert cycles > 0
    assert await master.read_qword(offsets["lut_steps"]) == cycles
