"""The report page of a run or of a demo."""

from __future__ import annotations

from pathlib import Path

import click

from lutrip.options import json_option, write_json


@click.command(name="report")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def command(folder: Path, json_path: Path | None) -> None:
    """Write DIR/report.html and DIR/figures for a simulated build or a demo folder.

    The page is one file with its figures inside, and says of every number whether it was
    simulated, modelled, measured or published.

    \b
    Examples:
      lutrip report runs/lut2d
      lutrip report runs/demo
    """
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
    write_json(json_path, {
        "report": str(page),
        "figures": [str(folder / FIGURES / picture.file) for picture in pictures],
        "runs": [{"name": name, **record.values}
                 for name, record in zip(labels(records), records, strict=True)],
        "all_bit_exact": all(record["bit_exact"] for record in records),
    })
