"""What the page of a whole model's run shows beside what every run's page has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports import decoder, decoder_figures
from reports.numbers import Fact, Tag
from reports.pass_spans import PassSpans, busy_cycles, pass_spans
from reports.picture import Picture, draw
from reports.records import RunRecord
from reports.steps import finished, layer_rows, steps_of

LISTED_SPANS = 400
"""Instructions of a layer that are listed, at most."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """One pass in time. busy: cycles by engine and part; listed: instructions of one layer."""

    spans: PassSpans
    picture: Picture
    busy: Mapping[str, Mapping[str, int]]
    listed: Sequence[Any]


@dataclass(frozen=True, kw_only=True)
class DecoderPart:
    """Everything of one whole model's run; rows hold text or plain numbers."""

    prompt: str | None
    mismatch: Sequence[tuple[str, str]]
    steps: Sequence[Mapping[str, str]]
    layers: Sequence[Mapping[str, Any]]
    timelines: Sequence[Timeline]
    ranges: Sequence[Fact]
    memory: Sequence[Mapping[str, Any]]
    memory_kinds: Sequence[Mapping[str, Any]]
    pictures: dict[str, Picture]


def decoder_part(record: RunRecord, prefix: str) -> DecoderPart:
    """Derive and draw; ``prefix`` begins the names of figures."""
    pictures = {}
    if finished(record):
        pictures["passes"] = draw(
            decoder_figures.passes(record), f"{prefix}passes.png",
            "Cycles of each pass over the position that it computes", Tag.SIMULATED)
    if record["overlap"]["linear_cycles"]:
        pictures["overlap"] = draw(
            decoder_figures.overlap(record), f"{prefix}overlap.png",
            "Cycles in which the linear engine and others work at the same time", Tag.SIMULATED)
    sections, kinds = decoder.memory_sections(record), decoder.memory_kinds(record)
    if sections:
        pictures["memory"] = draw(
            decoder_figures.memory_map(kinds, sections), f"{prefix}memory.png",
            "The memory by address, and bytes by kind", Tag.SETTING)
    timelines = []
    for number, spans in enumerate(pass_spans(record)):
        title = f"Instructions on each engine in {spans.name}"
        if spans.layer is not None:
            title += f", and in its layer {spans.layer}"
        picture = draw(decoder_figures.pass_timeline(spans), f"{prefix}timeline-{number}.png",
                       title, Tag.SIMULATED)
        pictures[f"timeline{number}"] = picture
        timelines.append(Timeline(spans=spans, picture=picture, busy=busy_cycles(spans),
                                  listed=spans.layer_spans[:LISTED_SPANS]))
    return DecoderPart(
        prompt=record.build.get("prompt"), mismatch=decoder.mismatch_rows(record),
        steps=decoder.step_rows(steps_of(record)), layers=layer_rows(record),
        timelines=timelines, ranges=decoder.range_facts(record), memory=sections,
        memory_kinds=kinds, pictures=pictures,
    )
