"""Print a build's program."""

from __future__ import annotations

from pathlib import Path

import click

from lutrip.options import json_option, write_json


@click.command(name="disasm")
@click.argument("build", type=click.Path(path_type=Path))
@json_option
def command(build: Path, json_path: Path | None) -> None:
    """Print the program of a build, or those of all its passes, one instruction a line.

    \b
    Example:
      lutrip disasm runs/rowgen
    """
    from compiler.build import load_build
    from compiler.decoder.build import load_decoder_build
    from compiler.image.disasm import disasm, disasm_passes
    from sim.execute import is_decoder

    text = (disasm_passes(*load_decoder_build(build)) if is_decoder(build)
            else disasm(load_build(build)))
    click.echo(text)
    write_json(json_path, {"program": text.splitlines()})
