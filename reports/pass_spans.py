"""The instructions of single passes of a whole model's run."""

from __future__ import annotations

from dataclasses import dataclass

from reports.records import ENGINES, RunRecord, Span
from reports.steps import PARTS, part_of, split_operation

ZOOM_LAYER = 1
"""The layer that a timeline shows closely: the second, which finds the pipeline filled."""


@dataclass(frozen=True, kw_only=True)
class PassSpans:
    """Spans of one pass, in cycles from its own start, and the window of one of its layers."""

    name: str
    cycles: int
    spans: tuple[Span, ...]
    layer: int | None
    window: tuple[int, int] | None

    @property
    def layer_spans(self) -> list[Span]:
        """What runs in the window of the layer, by start."""
        first, last = self.window or (0, self.cycles)
        return sorted((span for span in self.spans
                       if span.start_cycle < last and span.end_cycle > first),
                      key=lambda span: (span.start_cycle, ENGINES.index(span.engine)))


def pass_spans(record: RunRecord) -> list[PassSpans]:
    """The passes whose spans were kept."""
    found = []
    for place in record["timeline"]:
        start, cycles = place["start_cycle"], place["cycles"]
        spans = tuple(
            Span(engine=span.engine, name=span.name, start_cycle=span.start_cycle - start,
                 end_cycle=span.end_cycle - start)
            for span in record.spans if start <= span.start_cycle < start + cycles)
        layers: dict[int, list[Span]] = {}
        for span in spans:
            layer, _ = split_operation(span.name)
            if layer is not None:
                layers.setdefault(layer, []).append(span)
        layer = ZOOM_LAYER if ZOOM_LAYER in layers else min(layers, default=None)
        window = None
        if layer is not None:
            own = layers[layer]
            window = (min(span.start_cycle for span in own), max(span.end_cycle for span in own))
        found.append(PassSpans(name=place["pass"], cycles=cycles, spans=spans, layer=layer,
                               window=window))
    return found


def busy_cycles(shown: PassSpans) -> dict[str, dict[str, int]]:
    """Busy cycles of a pass by engine and by part of the model, without parts that it lacks."""
    parts = {part_of(span.name) for span in shown.spans}
    busy = {engine: {part: 0 for part in PARTS if part in parts} for engine in ENGINES}
    for span in shown.spans:
        busy[span.engine][part_of(span.name)] += span.end_cycle - span.start_cycle
    return busy
