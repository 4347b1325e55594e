"""The report page of a run, a demo or a study, or of several side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hw.errors import LutripError
from lutrip.options import json_option, write_json


@click.command(name="report")
@click.argument("folders", metavar="DIR...", nargs=-1, required=True,
                type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False),
              help="Folder of a comparison [default: comparison beside the first DIR].")
@json_option
def command(folders: tuple[Path, ...], out: Path | None, json_path: Path | None) -> None:
    """Write the page of a run, a demo or a study; of several DIRs, set them side by side.

    One DIR: writes DIR/report.html and DIR/figures, for a study also points.csv and front.csv.
    Several: a page of their results, with ratios to the first, and their settings, with the
    differences marked. A page is one file that loads nothing, and says of every number whether it
    was simulated, modelled, measured, predicted or published.

    \b
    Examples:
      lutrip report runs/lut2d
      lutrip report runs/v80-lutllm                   # a study that explore wrote
      lutrip report runs/lut2d runs/simd              # two runs side by side
      lutrip report runs/v80-a runs/v80-b --out runs/a-and-b
    """
    from reports.comparison import STUDIES, kind_of

    if len(folders) > 1:
        values = compare(folders, out)
    elif out is not None:
        raise LutripError("--out belongs to a comparison of several folders")
    else:
        values = study_page(folders[0]) if kind_of(folders[0]) == STUDIES else run_page(folders[0])
    write_json(json_path, values)


def compare(folders: tuple[Path, ...], out: Path | None) -> Mapping[str, Any]:
    """Set folders side by side; says what came out."""
    from rich.console import Console

    from reports.comparison import write_comparison
    from reports.text import differences_table

    found = write_comparison(folders, folders[0].absolute().parent / "comparison"
                             if out is None else out)
    Console().print(differences_table(found.names, found.results))
    differing = sum(row.differs for row in found.settings)
    click.echo(f"{found.page}: {len(found.names)} {found.kind}, {differing} of "
               f"{len(found.settings)} settings differ")
    return found.values()


def study_page(folder: Path) -> Mapping[str, Any]:
    """Write the page of a study."""
    from reports.page import FIGURES
    from reports.study_page.page import write_study_report
    from reports.study_page.tabular import FRONT, POINTS

    page = write_study_report(folder)
    figures = sorted(str(path) for path in (folder / FIGURES).iterdir())
    click.echo(f"{page}: {len(figures)} figures, {POINTS}, {FRONT}")
    return {"report": str(page), "figures": figures,
            "tables": [str(folder / name) for name in (POINTS, FRONT)]}


def run_page(folder: Path) -> Mapping[str, Any]:
    """Write the page of a run or a demo."""
    from rich.console import Console

    from reports.facts import labels
    from reports.page import FIGURES, render, write_page
    from reports.records import load_checks, load_records
    from reports.text import comparison_table

    records = load_records(folder)
    text, pictures = render(records, load_checks(folder))
    page = write_page(folder, text, pictures)
    Console().print(comparison_table(records))
    click.echo(f"{page}: {len(records)} run{'s' if len(records) > 1 else ''}, "
               f"{len(pictures)} figures")
    return {
        "report": str(page),
        "figures": [str(folder / FIGURES / picture.file) for picture in pictures],
        "runs": [{"name": name, **record.values}
                 for name, record in zip(labels(records), records, strict=True)],
        "all_bit_exact": all(record["bit_exact"] for record in records),
    }
