"""The page of a study: one HTML file with its charts' library and data inside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from compiler.image.image import write_atomically
from reports.canvas import PALETTE
from reports.explore.precision import evaluated
from reports.facts import RESOURCE_NAMES
from reports.numbers import Tag
from reports.page import FIGURES, REPORT, new_environment
from reports.picture import Picture, draw, vector
from reports.study_page import figures, tables
from reports.study_page.chart_data import chart_data, packed, packed_json
from reports.study_page.study import BY_POINT, Study, load_study
from reports.study_page.tabular import tables_of

LIGHTER = 0.3
"""How far series' colours move towards white on a dark page."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure as a page shows it and as papers print it."""

    picture: Picture
    svg: bytes


@cache
def plotly_source() -> Markup:
    """The chart library, packed; its Python package carries it for pages without a network."""
    file = resources.files("plotly").joinpath("package_data", "plotly.min.js")
    return packed(file.read_text(encoding="utf-8"))


def asset(name: str) -> Markup:
    """A script of the pages."""
    return Markup(resources.files("reports").joinpath("templates", name)
                  .read_text(encoding="utf-8"))


def lighter(colour: str) -> str:
    """A colour ``#rrggbb`` for a dark page."""
    parts = (int(colour[place:place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(part + LIGHTER * (255 - part)):02x}" for part in parts)


def breakable(name: str) -> Markup:
    """A dotted name that may go on in the next line behind a dot or an underscore."""
    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(name))))


def chart_environment() -> jinja2.Environment:
    """Templates of pages with interactive charts."""
    environment = new_environment()
    environment.filters.update(lighter=lighter, breakable=breakable)
    environment.globals.update(
        palette=PALETTE, asset=asset, plotly=plotly_source(), shown=tables.shown,
        setting=tables.setting, name_of=tables.name_of)
    return environment


def drawing(figure: Figure, name: str, title: str, tag: Tag) -> Drawing:
    """Draw a figure both ways."""
    return Drawing(picture=draw(figure, f"{name}.png", title, tag), svg=vector(figure))


def drawings_of(study: Study) -> dict[str, Drawing]:
    """All figures of a study by name, without those that it has no numbers for."""
    first, second = (study.label(name) for name in figures.axes_of(study))
    made = {
        "front": (figures.front(study), f"Designs in {first} and {second}", Tag.MODELLED),
        "parallel": (figures.parallel(study), "Parameters and objectives; red: the front",
                     Tag.MODELLED),
        "bounds": (figures.bounds(study), f"What bounds decode of the best design in {first}",
                   Tag.MODELLED),
        "importance": (figures.importance(study), "Parameter importance", Tag.COMPUTED),
        "references": (figures.references(study), "Best designs beside GPUs and published FPGAs",
                       Tag.MODELLED),
        "rtl": (figures.rtl(study), "Model and RTL", Tag.SIMULATED),
    }
    return {name: drawing(figure, name, title, tag)
            for name, (figure, title, tag) in made.items() if figure is not None}


def render(study: Study, drawings: Mapping[str, Drawing]) -> str:
    """The page of a study."""
    places = {name: place % len(PALETTE) + 1 for place, name in enumerate(study.bounds)}
    environment = chart_environment()
    environment.globals.update(
        study=study, largest=tables.largest, bound_shares=tables.bound_shares,
        resource_names=RESOURCE_NAMES,
        bound_colour=lambda name: f"--series-{places[name]}" if name in places else "--faint")
    chart = chart_data(study)
    return environment.get_template("study_page.html").render(
        title=study["title"], chart=chart, data=packed_json(chart), axes=figures.axes_of(study),
        headline=tables.headline(study), front=study.front, varied=tables.varied(study),
        shown_on_front=tables.SHOWN_ON_FRONT, front_metrics=tables.front_metrics(study),
        filter_metrics=list(study["metrics"]), importance=tables.importance_rows(study),
        reference_metrics=tables.reference_metrics(study),
        beside=tables.beside_references(study), reasons=tables.reasons(study),
        evaluated=evaluated, by_point=BY_POINT,
        measured_losses=tables.measured_losses(study),
        pictures={name: each.picture for name, each in drawings.items()},
    )


def write_drawings(folder: Path, drawings: Mapping[str, Drawing]) -> list[Path]:
    """Write every figure as PNG and as SVG; returns the paths."""
    place = folder / FIGURES
    place.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, each in drawings.items():
        for path, content in ((place / each.picture.file, each.picture.png),
                              (place / f"{name}.svg", each.svg)):
            write_atomically(path, content)
            paths.append(path)
    return paths


def write_study_report(folder: Path) -> Path:
    """Write ``report.html``, ``points.csv``, ``front.csv`` and ``figures`` of a study's folder.

    Returns the page's path; raises LutripError in one line, and writes nothing, for a folder
    that holds no whole study.
    """
    study = load_study(folder)
    drawings = drawings_of(study)
    text = render(study, drawings)
    write_drawings(folder, drawings)
    for name, content in tables_of(study).items():
        write_atomically(folder / name, content)
    write_atomically(folder / REPORT, text.encode())
    return folder / REPORT
