"""Energy of each operation of a run: what its engine did while it was busy, and the time it took.

Joules of an engine's causes are shared among its operations by busy cycles, since counters do not
tell instructions apart. Memories that several engines use, the clock and static power are shared
by busy cycles of all engines, so that the operations' sum is the run's energy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sim.energy import Energy

CAUSE_ENGINE = {
    "search": "search", "quantize": "quantize", "drain": "drain", "activate": "activate",
    "function tables": "activate", "norm": "norm", "softmax": "softmax", "gather": "load",
    "append": "store", "accumulator": "linear", "index buffers": "linear",
    "table buffers": "linear", "weight buffers": "linear", "linear (lookup)": "linear",
    "linear (row generator)": "linear", "linear (multiplier array)": "linear",
}
"""Engines that causes of `sim.energy.EVENTS` belong to; the others are shared."""


def operation_energy(joules: Energy, spans: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Joules of every operation, in order of their first span.

    spans: busy spans (engine, name, start_cycle, end_cycle). What belongs to an engine without
    spans is shared by all.
    """
    busy: dict[tuple[str, str], int] = {}
    for span in spans:
        key = span["engine"], span["name"]
        busy[key] = busy.get(key, 0) + span["end_cycle"] - span["start_cycle"]
    engines: dict[str, int] = {}
    for (engine, _), cycles in busy.items():
        engines[engine] = engines.get(engine, 0) + cycles
    own: dict[str, float] = {}
    shared = 0.0
    for item in joules.items:
        engine = CAUSE_ENGINE.get(item.cause, "")
        if engines.get(engine):
            own[engine] = own.get(engine, 0.0) + item.joules.value
        else:
            shared += item.joules.value
    total = sum(busy.values())
    return [
        {"operation": name, "engine": engine, "busy_cycles": cycles,
         "joules": own.get(engine, 0.0) * cycles / max(1, engines[engine])
         + shared * cycles / max(1, total)}
        for (engine, name), cycles in busy.items()
    ]
