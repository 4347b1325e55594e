"""Quantize and lower parts of a model into a memory image."""

from __future__ import annotations

import re
from pathlib import Path

import click

from hw.errors import LutripError
from lutrip.options import json_option, write_json


def layer_range(text: str) -> tuple[int, int]:
    """``A:B`` as first and end layer; raises LutripError."""
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None:
        raise LutripError(f"--layers must be A:B such as 0:1, not {text!r}")
    return int(match.group(1)), int(match.group(2))


@click.command(name="compile")
@click.option("--model", "model_name", required=True,
              help="A .gguf file, a Hugging Face folder, smollm2-135m, or shape:NAME.")
@click.option("--scheme", "scheme_name", required=True, help="Scheme: a name or a YAML file.")
@click.option("--hw", "hardware_name", default="sim", show_default=True,
              help="Hardware configuration: a name or a YAML file.")
@click.option("--layers", default="0:1", show_default=True, help="Decoder layers A:B.")
@click.option("--parts", default="qkvo,mlp", show_default=True,
              help="Linear parts of a layer: qkvo, mlp or both.")
@click.option("--prompt", default=None, help="Text whose activations are the inputs.")
@click.option("--tokens", default=8, show_default=True, type=click.IntRange(1),
              help="Tokens of the prompt to use.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Build folder to write.")
@json_option
def command(
    model_name: str, scheme_name: str, hardware_name: str, layers: str, parts: str,
    prompt: str | None, tokens: int, out: Path, json_path: Path | None,
) -> None:
    """Quantize a layer's linear parts, lower them, and write image and program.

    Codebooks and scales come from a calibration text that is not the prompt. The build folder
    holds image.bin and build.json.

    \b
    Examples:
      lutrip compile --model smollm2-135m --scheme rowgen-2bit --out runs/rowgen
      lutrip compile --model shape:tiny --hw tiny --scheme lut2d-tiny --parts mlp --out runs/t
    """
    from compiler.build import write_build
    from lutrip.api import compile as compile_model
    from lutrip.api import discard_result

    build = compile_model(
        model_name, scheme_name, hardware_name, layers=layer_range(layers),
        parts=frozenset(part.strip() for part in parts.split(",")), prompt=prompt, tokens=tokens,
    )
    discard_result(out)
    write_build(build, out)
    meta = build.metadata
    click.echo(f"{out}: {meta['image_bytes']} bytes, {len(meta['instructions'])} instructions, "
               f"{len(meta['linears'])} linear layers, {len(meta['tokens'])} tokens")
    for name, error in meta["relative_error"].items():
        click.echo(f"  {name}: relative error {error:.4f} against float")
    for name, error in meta["function_errors"].items():
        click.echo(f"  {name}: table within {error:.2e} of the function, over all inputs")
    write_json(json_path, {
        "out": str(out), "image_bytes": meta["image_bytes"],
        "instructions": len(meta["instructions"]), "tokens": len(meta["tokens"]),
        "relative_error": meta["relative_error"], "function_errors": meta["function_errors"],
    })
