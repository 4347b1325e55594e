"""Write the RTL of a hardware configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lutrip.options import json_option, write_json


@click.command(name="generate")
@click.option("--hw", "hardware", default="sim", show_default=True,
              help="Hardware configuration: a name or a YAML file.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder to write.")
@click.option("--target", type=click.Choice(["verilog", "vivado", "ecp5"]), default="verilog",
              show_default=True, help="Also write constraints and a script for this tool chain.")
@json_option
def command(hardware: str, out: Path, target: str, json_path: Path | None) -> None:
    """Write Verilog (one file a module), register map, constraints and manifest.

    \b
    Examples:
      lutrip generate --hw tiny --out build/tiny
      lutrip generate --hw ecp5-85 --target ecp5 --out build/ecp5
    """
    from hw.generate import generate
    from hw.presets import load_hardware
    from hw.resources import load_device, total

    config = load_hardware(hardware)
    manifest = generate(config, out, target)
    device = load_device(config.device)
    modelled = total(config)
    resources = modelled.rounded()
    files = manifest["files"]
    assert isinstance(files, list)
    result: dict[str, Any] = {
        **manifest, **resources, "device": device.name, "fits": device.fits(modelled),
        "verdict": device.verdict(modelled), "resources_are": "modelled",
    }
    counts = ", ".join(f"{count:g} {name}" for name, count in resources.items())
    click.echo(f"{out}: {len(files)} modules, top {manifest['top']}, "
               f"configuration {manifest['configuration_hash']}")
    click.echo(f"modelled resources: {counts}; {result['verdict']}")
    write_json(json_path, result)
