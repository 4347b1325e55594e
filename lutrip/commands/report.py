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

    from reports.page import write_report
    from reports.records import load_records
    from reports.text import comparison_table

    result = write_report(folder)
    Console().print(comparison_table(load_records(folder)))
    click.echo(f"{result['report']}: {len(result['runs'])} runs, "
               f"{len(result['figures'])} figures")
    write_json(json_path, result)
