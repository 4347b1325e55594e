"""How often bits change, from the activity file (SAIF) that Verilator writes of a run.

An engine's rate is the changes of its nets in the run over its nets times its steps: what `EVENTS`
of `sim.energy` multiply with look-up tables, flip-flops and steps. Nets that never changed count
neither as nets nor as changes (constants, modes that were not used), clocks and resets neither.
Changes between steps (control, buses that other engines drive) are spread over the steps, so a
rate can exceed 1.

SAIF: Accellera and IEEE 1801-2018, annex H. Of each net it has the duration of 0 and 1 and TC, the
number of changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hw.errors import ToolError
from sim.energy import EVENTS, engine_of

FILE = "activity.saif"
CLOCKS = ("clk", "rst")
TOP = "dut"
"""The testbench's instance of the accelerator."""
_INSTANCE = re.compile(r"^\s*\(INSTANCE (\S+)$")
_NET = re.compile(r"^\s*\((\S+) .*\(TC (\d+)\)")


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Bits that changed in a run, and how often in all."""

    bits: int = 0
    count: int = 0

    def __add__(self, other: Changes) -> Changes:
        return Changes(bits=max(self.bits, other.bits), count=self.count + other.count)


def _unescaped(name: str) -> str:
    return name.replace("\\", "")


def read_changes(path: Path, top: str = TOP) -> dict[str, Changes]:
    """Changes in each instance directly below ``top``, all below it included.

    Changes of the top level's own nets are under an empty name. Raises ToolError for a file that
    is not there or lacks the instance.
    """
    found: dict[str, Changes] = {}
    inside: list[str] = []
    depth_of_top: int | None = None
    try:
        lines = path.open()
    except OSError:
        raise ToolError(f"the simulator left no activity file {path}") from None
    open_nets = 0
    with lines:
        for line in lines:
            if match := _INSTANCE.match(line):
                inside.append(_unescaped(match[1]))
                if inside[-1] == top and depth_of_top is None:
                    depth_of_top = len(inside)
            elif depth_of_top is not None and (match := _NET.match(line)):
                name, changes = _unescaped(match[1]), int(match[2])
                if changes and name.partition("[")[0] not in CLOCKS:
                    key = inside[depth_of_top] if len(inside) > depth_of_top else ""
                    old = found.get(key, Changes())
                    found[key] = Changes(bits=old.bits + 1, count=old.count + changes)
            elif line.strip() == "(NET":
                open_nets += 1
            elif line.strip() == ")":
                if open_nets:
                    open_nets -= 1
                elif inside:
                    if len(inside) == depth_of_top:
                        break
                    inside.pop()
    if depth_of_top is None:
        raise ToolError(f"{path} does not tell of module {top}")
    return found


def merge(parts: Iterable[Mapping[str, Changes]]) -> dict[str, Changes]:
    """Changes of several runs of one circuit."""
    total: dict[str, Changes] = {}
    for part in parts:
        for name, changes in part.items():
            total[name] = total.get(name, Changes()) + changes
    return total


def toggle_rates(
    changes: Mapping[str, Changes], counters: Mapping[str, int]
) -> dict[str, float]:
    """Changes of a bit in a step, for every engine that took steps."""
    steps: dict[str, int] = {}
    for name in {event.counter for event in EVENTS if event.luts or event.ffs}:
        engine = engine_of(name)
        steps[engine] = max(steps.get(engine, 0), counters.get(name, 0))
    # Steps of the multiplier array's modes come one after the other.
    steps["simd"] = sum(count for name, count in counters.items()
                        if name.startswith("simd_steps_"))
    return {engine: changes[engine].count / (changes[engine].bits * count)
            for engine, count in steps.items() if count and engine in changes}
