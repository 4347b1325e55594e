"""Spans of engines from an event log."""

from __future__ import annotations

import json

import pytest

from hw.errors import LutripError
from hw.isa import Engine
from sim.timeline import (
    EngineEvent,
    Span,
    chrome_trace,
    read_events,
    spans,
    totals,
    write_chrome_trace,
)

LOAD, SEARCH = 1 << Engine.LOAD, 1 << Engine.SEARCH
EVENTS = [
    EngineEvent(5, 0, SEARCH, 0),
    EngineEvent(10, LOAD, SEARCH, 0),
    EngineEvent(19, LOAD, SEARCH, LOAD),  # the next load follows at once
    EngineEvent(20, LOAD | SEARCH, 0, 0),
    EngineEvent(29, LOAD | SEARCH, 0, LOAD),
    EngineEvent(30, SEARCH, 0, 0),
    EngineEvent(39, SEARCH, 0, SEARCH),
    EngineEvent(40, 0, 0, 0),
]


def test_spans():
    assert spans(EVENTS, 50) == [
        Span(engine=Engine.LOAD, state="busy", start=10, end=20, order=0),
        Span(engine=Engine.LOAD, state="busy", start=20, end=30, order=1),
        Span(engine=Engine.SEARCH, state="waiting", start=5, end=20, order=0),
        Span(engine=Engine.SEARCH, state="busy", start=20, end=40, order=0),
    ]


def test_open_span_ends_with_the_run():
    assert spans(EVENTS[:2], 15) == [
        Span(engine=Engine.LOAD, state="busy", start=10, end=15, order=0),
        Span(engine=Engine.SEARCH, state="waiting", start=5, end=15, order=0),
    ]


def test_totals():
    result = totals(EVENTS, 50)
    search = result["search"]
    assert (search.busy_cycles, search.waiting_cycles, search.idle_cycles) == (20, 15, 15)
    assert result["load"].instructions == 2
    assert result["store"].idle_cycles == 50


def test_log_round_trip(tmp_path):
    path = tmp_path / "events.txt"
    path.write_text("".join(
        f"{event.cycle} {event.busy:02x} {event.waiting:02x} {event.completed:02x}\n"
        for event in EVENTS
    ))
    assert read_events(path) == EVENTS
    path.write_text("5 00 02\n")
    with pytest.raises(LutripError, match="line 1 is not an engine event"):
        read_events(path)


def test_chrome_trace(tmp_path):
    names = {Engine.LOAD: ["activations", "residual"]}
    write_chrome_trace(tmp_path / "trace.json", spans(EVENTS, 50), 250, names)
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert trace == chrome_trace(spans(EVENTS, 50), 250, names)
    slices = [row for row in trace["traceEvents"] if row["ph"] == "X"]
    assert (slices[0]["name"], slices[0]["ts"], slices[0]["dur"]) == ("activations", 0.04, 0.04)
    assert slices[2]["name"] == "wait for instruction 0"
    threads = [row for row in trace["traceEvents"] if row["name"] == "thread_name"]
    assert [row["args"]["name"] for row in threads] == [e.name.lower() for e in Engine]
