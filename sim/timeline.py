"""When each engine ran: spans from the event log, totals, and a Chrome trace for Perfetto."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.errors import LutripError
from hw.isa import Engine

BUSY, WAITING = "busy", "waiting"


@dataclass(frozen=True)
class EngineEvent:
    """State from a cycle on: masks of engines, and those that complete in this cycle."""

    cycle: int
    busy: int
    waiting: int
    completed: int


@dataclass(frozen=True, kw_only=True)
class Span:
    """One engine in one state, cycles ``start`` (included) to ``end`` (excluded).

    order: number of the instruction among those of its engine, from 0; a wait counts for the
    instruction that follows it.
    """

    engine: Engine
    state: str
    start: int
    end: int
    order: int


def read_events(path: Path) -> list[EngineEvent]:
    """Event log of a run; raises LutripError for a damaged line."""
    events = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            cycle, *masks = line.split()
            busy, waiting, completed = (int(mask, 16) for mask in masks)
            events.append(EngineEvent(int(cycle), busy, waiting, completed))
        except ValueError:
            raise LutripError(f"{path}: line {number} is not an engine event; "
                              "run the simulation again") from None
    return events


def spans(events: Sequence[EngineEvent], cycles: int) -> list[Span]:
    """Busy and waiting spans of every engine, by engine and start.

    A completion ends a span even when the engine goes on with its next instruction. cycles: end of
    the run, where open spans are cut.
    """
    return [span for engine in Engine for span in _engine_spans(engine, events, cycles)]


def _engine_spans(engine: Engine, events: Sequence[EngineEvent], cycles: int) -> list[Span]:
    found: list[Span] = []
    state, start, order = "", 0, 0

    def close(end: int) -> None:
        if state and start < end:
            found.append(Span(engine=engine, state=state, start=start, end=end, order=order))

    bit = 1 << engine
    for event in events:
        now = BUSY if event.busy & bit else WAITING if event.waiting & bit else ""
        if now != state:
            close(event.cycle)
            state, start = now, event.cycle
        if event.completed & bit:
            close(event.cycle + 1)
            # The log has a line for the next cycle only if the state changes there.
            start, order = event.cycle + 1, order + 1
    close(cycles)
    return found


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Cycles of an engine in each state, and instructions completed."""

    busy_cycles: int
    waiting_cycles: int
    idle_cycles: int
    instructions: int


def totals(events: Sequence[EngineEvent], cycles: int) -> dict[str, Totals]:
    """Breakdown of the run by engine."""
    result = {}
    for engine in Engine:
        own = _engine_spans(engine, events, cycles)
        busy, waiting = (sum(span.end - span.start for span in own if span.state == state)
                         for state in (BUSY, WAITING))
        result[engine.name.lower()] = Totals(
            busy_cycles=busy, waiting_cycles=waiting, idle_cycles=cycles - busy - waiting,
            instructions=sum(event.completed >> engine & 1 for event in events),
        )
    return result


def chrome_trace(
    found: Sequence[Span], clock_mhz: float, names: Mapping[Engine, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Trace in the Chrome JSON format, microseconds of simulated time.

    names: what each engine's instructions are called, in program order (default: their number).
    """
    rows: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "accelerator"}}
    ]
    for engine in Engine:
        rows.append({"name": "thread_name", "ph": "M", "pid": 1, "tid": int(engine) + 1,
                     "args": {"name": engine.name.lower()}})
        rows.append({"name": "thread_sort_index", "ph": "M", "pid": 1, "tid": int(engine) + 1,
                     "args": {"sort_index": int(engine)}})
    for span in found:
        own = (names or {}).get(span.engine, ())
        label = own[span.order] if span.order < len(own) else f"instruction {span.order}"
        rows.append({
            "name": label if span.state == BUSY else f"wait for {label}",
            "cat": span.state, "ph": "X", "pid": 1, "tid": int(span.engine) + 1,
            "ts": span.start / clock_mhz, "dur": (span.end - span.start) / clock_mhz,
            "args": {"start_cycle": span.start, "cycles": span.end - span.start},
        })
    return {"displayTimeUnit": "ns", "traceEvents": rows}


def write_chrome_trace(
    path: Path, found: Sequence[Span], clock_mhz: float,
    names: Mapping[Engine, Sequence[str]] | None = None,
) -> None:
    """Write `chrome_trace` as JSON."""
    path.write_text(json.dumps(chrome_trace(found, clock_mhz, names)))
