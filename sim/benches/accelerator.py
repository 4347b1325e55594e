"""Inside the simulator: program the accelerator, let it run, read its counters.

The testbench makes the AXI4-Lite accesses and everything that happens each cycle; Python acts only
before the start and after the end.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge


async def access(tb: Any, write: bool, address: int, data: int = 0) -> int:
    """One register access; returns the data of a read."""
    tb.host_write.value = int(write)
    tb.host_address.value = address
    tb.host_wdata.value = data
    tb.host_request.value = 1
    await RisingEdge(tb.host_done)
    value = 0 if write else int(tb.host_rdata.value)
    tb.host_request.value = 0
    await FallingEdge(tb.host_done)
    return value


async def read(tb: Any, offset: int, bits: int) -> int:
    """A register of 32 or 64 bits."""
    value = await access(tb, False, offset)
    if bits > 32:
        value |= await access(tb, False, offset + 4) << 32
    return value


@cocotb.test()
async def run(tb: Any) -> None:
    """Run the program of the case to its end, an error, a hang or the limit of cycles."""
    case = json.loads(Path(os.environ["LUTRIP_CASE"]).read_text())
    registers = case["registers"]
    await FallingEdge(tb.rst)
    values = {name: await read(tb, *registers[name]) for name in case["identity"]}
    for name, data in case["program"].items():
        offset, bits = registers[name]
        await access(tb, True, offset, data & 0xFFFFFFFF)
        if bits > 32:
            await access(tb, True, offset + 4, data >> 32)
    started = time.perf_counter()
    tb.running.value = 1
    await access(tb, True, registers["control"][0], 1)
    if not int(tb.finished.value):
        await RisingEdge(tb.finished)
    wall_s = time.perf_counter() - started
    for name in case["read"]:
        values[name] = await read(tb, *registers[name])
    tb.report.value = 1
    if not int(tb.reported.value):
        await RisingEdge(tb.reported)
    Path("registers.json").write_text(json.dumps({
        "values": values, "wall_s": wall_s, "expired": int(tb.expired.value),
        "memory_fault": int(tb.memory_fault.value),
    }))
