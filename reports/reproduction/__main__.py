"""Writes docs/reproduction.md."""

from __future__ import annotations

from pathlib import Path

import click

from compiler.image.image import write_atomically
from hw.errors import LutripError
from reports.reproduction.page import page

ROOT = Path(__file__).resolve().parent.parent.parent


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "docs" / "reproduction.md",
              help="Where the page goes.")
def main(out: Path) -> None:
    """Derive the published numbers of LUT-LLM, Agile-Quant and others again, in a few seconds.

    \b
    Example:
      python -m reports.reproduction
    """
    try:
        text = page(ROOT)
    except LutripError as error:
        raise click.UsageError(str(error)) from None
    write_atomically(out, text.encode())
    click.echo(f"{out} written")


if __name__ == "__main__":
    main()
