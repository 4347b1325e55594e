"""Inside the simulator: program the accelerator, let it run, read its counters, again and again.

The testbench makes the AXI4-Lite accesses and everything that happens each cycle; Python acts only
before the start and after the end of a program.
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


async def execute(tb: Any, case: dict[str, Any], number: int) -> dict[str, Any]:
    """Run one program to its end, an error, a hang or the limit of cycles; returns its record."""
    registers, job = case["registers"], case["runs"][number]
    tb.run_number.value = number
    tb.output_word.value, tb.output_words.value = job["output"]
    tb.prepare.value = 1
    await RisingEdge(tb.prepared)
    tb.prepare.value = 0
    await FallingEdge(tb.prepared)
    values = {name: await read(tb, *registers[name]) for name in case["identity"]}
    for name, data in job["program"].items():
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
    tb.running.value = 0
    tb.report.value = 1
    await RisingEdge(tb.reported)
    tb.report.value = 0
    await FallingEdge(tb.reported)
    return {
        "run": number, "values": values, "wall_s": wall_s, "expired": int(tb.expired.value),
        "memory_fault": int(tb.memory_fault.value),
    }


def exact(path: Path, expected: dict[str, int]) -> bool:
    """Whether the checkers saw all beats and no wrong one."""
    for line in path.read_text().splitlines():
        tap, *words = line.split()
        if tap in expected and (int(words[0], 16), int(words[1], 16)) != (expected[tap], 0):
            return False
    return True


@cocotb.test()
async def run(tb: Any) -> None:
    """Run the programs of the case in order, until one ends otherwise than expected.

    Each leaves a line in the case's record file at once.
    """
    case = json.loads(Path(os.environ["LUTRIP_CASE"]).read_text())
    await FallingEdge(tb.rst)
    for number, job in enumerate(case["runs"]):
        record = await execute(tb, case, number)
        with Path(case["records"]).open("a") as file:
            file.write(json.dumps(record) + "\n")
        done = record["values"]["status"] >> case["done_bit"] & 1
        # Nobody waits for the rest once the process that started this one is gone.
        if (not done or record["expired"] or record["memory_fault"]
                or not exact(Path(f"checks_{number}.txt"), job["expected"])
                or os.getppid() != case["host"]):
            break
