"""The report page of a run or of several runs: one HTML file with its figures inside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from compiler.image.image import write_atomically
from reports import decoder, facts, figures
from reports.decoder_part import DecoderPart, decoder_part
from reports.differences import run_results, run_settings, settings_of
from reports.numbers import MEANINGS, Fact, Tag, number, percent, quantity
from reports.picture import Picture, draw
from reports.records import RunRecord, load_checks, load_records

REPORT = "report.html"
FIGURES = "figures"


@dataclass(frozen=True, kw_only=True)
class RunPart:
    """Everything that the page shows of one run; ``decoder`` only of a whole model's."""

    label: str
    record: RunRecord
    headline: list[Fact]
    what_ran: list[Fact]
    verdict: str
    findings: list[Fact]
    resources: list[dict[str, str]]
    device: Any
    counters: list[dict[str, str]]
    pictures: dict[str, Picture]
    decoder: DecoderPart | None


def run_pictures(record: RunRecord, prefix: str, *, alone: bool) -> dict[str, Picture]:
    """Figures of one run; those that a comparison repeats only when the run stands alone."""
    drawn = {}
    if not record.is_decoder:
        drawn["timeline"] = draw(figures.timeline(record), f"{prefix}timeline.png",
                                 "Instructions on each engine over time", Tag.SIMULATED)
    if record["engines"]:
        drawn["engines"] = draw(figures.engine_states(record), f"{prefix}engines.png",
                                "Busy, waiting and idle cycles of each engine", Tag.SIMULATED)
    if record["ports"]:
        drawn["ports"] = draw(figures.port_bandwidth(record), f"{prefix}ports.png",
                              "Bytes per cycle of each port, of its limit", Tag.SIMULATED)
    return drawn | (shared_pictures([record], prefix) if alone else {})


def shared_pictures(records: Sequence[RunRecord], prefix: str = "") -> dict[str, Picture]:
    """Figures that show any number of runs."""
    drawn = {}
    if any(record["roofline"]["operations_per_cycle"] for record in records):
        drawn["roofline"] = draw(figures.roofline(records), f"{prefix}roofline.png",
                                 "Points simulated, roofs modelled", Tag.SIMULATED)
    if any(record["energy"]["causes"] for record in records):
        drawn["energy"] = draw(figures.energy(records), f"{prefix}energy.png",
                               "Energy by cause, with the uncertainty of the sum", Tag.MODELLED)
    if any(record["accuracy"] for record in records):
        drawn["accuracy"] = draw(figures.accuracy(records), f"{prefix}accuracy.png",
                                 "Relative error of each tensor against float", Tag.SIMULATED)
    return drawn


def whole_models(records: Sequence[RunRecord]) -> bool:
    """Whether every run is of a whole model, with all of its layers in RTL."""
    return all(record.is_decoder and record["simulated_layers"] is None for record in records)


def comparison_pictures(records: Sequence[RunRecord]) -> dict[str, Picture]:
    """Figures that show runs side by side."""
    alone = "" if whole_models(records) else ", these layers only"
    bars = {
        "cycles": (lambda record: record["cycles"], "cycles", Tag.SIMULATED),
        "bits": (lambda record: record["bits_per_weight"]["weights"],
                 "bits read per weight, without centroids", Tag.SIMULATED),
        "tokens_per_j": (lambda record: record["tokens_per_j"],
                         f"tokens per joule{alone}", Tag.MODELLED),
        "simulator": (lambda record: record["cycles_per_wall_s"],
                      "simulated cycles per second of wall time", Tag.MEASURED),
    }
    drawn = {
        name: draw(figures.comparison(records, value, label), f"{name}.png",
                   label[0].upper() + label[1:], tag)
        for name, (value, label, tag) in bars.items()
    }
    return drawn | shared_pictures(records)


def run_part(record: RunRecord, label: str, *, alone: bool) -> RunPart:
    """Derive and draw what the page shows of one run."""
    prefix = "" if alone else re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") + "-"
    own = decoder if record.is_decoder else facts
    part = decoder_part(record, prefix) if record.is_decoder else None
    return RunPart(
        label=label, record=record, headline=own.headline(record),
        what_ran=own.what_ran(record), verdict=own.verdict(record),
        findings=[*facts.findings(record), *(decoder.findings(record) if part else [])],
        resources=facts.resource_rows(record), device=facts.device_of(record),
        counters=facts.counter_rows(record), decoder=part,
        pictures=run_pictures(record, prefix, alone=alone) | (part.pictures if part else {}),
    )


def scope(record: RunRecord) -> str:
    """The part of the model that ran, in words."""
    return decoder.scope(record) if record.is_decoder else facts.scope(record)


def _template(name: str) -> str:
    return resources.files("reports").joinpath("templates", name).read_text(encoding="utf-8")


def new_environment() -> jinja2.Environment:
    """Templates with what every page uses."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(number=number)
    environment.globals.update(quantity=quantity, percent=percent, Tag=Tag, meanings=MEANINGS)
    return environment


def render(
    records: Sequence[RunRecord], checks: Sequence[dict[str, Any]] = ()
) -> tuple[str, list[Picture]]:
    """The page of one run, or of several that it compares, and the figures inside.

    checks: runs on two simulators, which a comparison lists (`reports.records.CHECKS`).
    """
    alone = len(records) == 1
    runs = [run_part(record, label, alone=alone)
            for record, label in zip(records, facts.labels(records), strict=True)]
    shared = {} if alone else comparison_pictures(records)
    environment = new_environment()
    environment.filters.update(scope=scope)
    environment.globals.update(
        energy_range=facts.energy_range, largest_error=facts.largest_error)
    title = str(records[0]["title"]) if alone else "Runs side by side"
    template = environment.get_template("run_page.html" if alone else "comparison_page.html")
    text = template.render(title=title, runs=runs, pictures=shared, checks=checks,
                           level=2 if alone else 3, whole=whole_models(records),
                           results=run_results(records),
                           settings=settings_of([run_settings(record) for record in records]))
    pictures = [*shared.values(), *(p for run in runs for p in run.pictures.values())]
    return text, pictures


def write_page(folder: Path, text: str, pictures: Sequence[Picture]) -> Path:
    """Write the figures, then the page; returns the page's path."""
    place = folder / FIGURES
    place.mkdir(exist_ok=True)
    for picture in pictures:
        write_atomically(place / picture.file, picture.png)
    write_atomically(folder / REPORT, text.encode())
    return folder / REPORT


def write_report(folder: Path) -> Path:
    """Write ``report.html`` and ``figures/*.png`` of a run or demo folder; returns the page.

    Raises LutripError, and writes nothing, for a folder without finished runs or with damaged ones.
    """
    text, pictures = render(load_records(folder), load_checks(folder))
    return write_page(folder, text, pictures)
