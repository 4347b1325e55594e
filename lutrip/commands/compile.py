"""Quantize and lower a model, or parts of its layers, into a memory image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from hw.errors import LutripError
from lutrip.options import calibration_option, json_option, write_json

DEFAULT_PROMPT = "The capital of France is"


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
@click.option("--prompt", default=None,
              help=f"Text to continue [default: {DEFAULT_PROMPT!r}]; with --layers, text whose "
              "activations are the inputs.")
@click.option("--new-tokens", default=16, show_default=True, type=click.IntRange(1),
              help="Tokens to generate.")
@click.option("--capacity", default=None, type=click.IntRange(1),
              help="Positions of the key-value cache [default: as many as the tokens need].")
@click.option("--split-layers", is_flag=True,
              help="One program for each layer, so that single layers can be simulated.")
@calibration_option(None, "news for GPTQ and VQ weights where that corpus is here, else builtin")
@click.option("--layers", default=None,
              help="Only the linear parts of decoder layers A:B, on the prompt's activations.")
@click.option("--parts", default=None,
              help="With --layers: linear parts of a layer, qkvo, mlp or both [default: qkvo,mlp].")
@click.option("--tokens", default=None, type=click.IntRange(1),
              help="With --layers: tokens of the prompt to use [default: 8].")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Build folder to write.")
@json_option
def command(
    model_name: str, scheme_name: str, hardware_name: str, prompt: str | None, new_tokens: int,
    capacity: int | None, split_layers: bool, calibration: str | None, layers: str | None,
    parts: str | None, tokens: int | None, out: Path, json_path: Path | None,
) -> None:
    """Quantize a model, lower it, and write image and programs.

    The whole model, to continue a prompt; or, with --layers, the linear parts of some layers.
    Codebooks and scales come from a calibration text that is not the prompt. The build folder
    holds image.bin and build.json.

    \b
    Examples:
      lutrip compile --model smollm2-135m --scheme simd-w4a8 --out runs/paris
      lutrip compile --model shape:tiny --hw tiny --scheme simd-w8a8-tiny --out runs/tiny
      lutrip compile --model smollm2-135m --scheme lut2d --layers 0:1 --out runs/layer
    """
    for option, value in (("--parts", parts), ("--tokens", tokens)):
        if layers is None and value is not None:
            raise LutripError(f"{option} belongs to --layers A:B; without it the whole model is "
                              "compiled")
    if layers is not None and calibration is not None:
        raise LutripError("--calibration belongs to whole models, not to --layers")
    if layers is None:
        values = _whole(model_name, scheme_name, hardware_name, prompt, new_tokens, capacity,
                        split_layers, calibration, out)
    else:
        values = _parts(model_name, scheme_name, hardware_name, prompt, layer_range(layers),
                        parts or "qkvo,mlp", tokens or 8, out)
    write_json(json_path, values)


def _whole(
    model: str, scheme: str, hardware: str, prompt: str | None, new_tokens: int,
    capacity: int | None, split_layers: bool, calibration: str | None, out: Path,
) -> dict[str, Any]:
    from rich.console import Console

    from lutrip.api import compile_decoder

    with Console(stderr=True).status("reading the model") as status:
        meta = compile_decoder(
            model, scheme, hardware, out, prompt=DEFAULT_PROMPT if prompt is None else prompt,
            new_tokens=new_tokens, capacity=capacity, split_layers=split_layers,
            calibration=calibration, progress=status.update)
    residual, halves = meta["residual"], " in two halves" if meta["halves"] else ""
    click.echo(f"{out}: {meta['image_bytes']:,} bytes, {len(meta['passes'])} passes of at most "
               f"{meta['tokens_max']} tokens{halves}, {len(meta['prompt_tokens'])} prompt tokens "
               f"and {meta['new_tokens']} new ones, capacity {meta['capacity']}")
    click.echo(f"  residual: int32 in steps of {residual['scale']:.3g}, largest calibrated value "
               f"{residual['peak']:.4g}, headroom {residual['headroom']:.1f}x")
    for name, error in meta["function_errors"].items():
        click.echo(f"  {name}: table within {error:.2e} of the function, over all inputs")
    keys = ("image_bytes", "tokens_max", "halves", "capacity", "prompt_tokens", "new_tokens",
            "residual", "function_errors", "memory_map")
    return {"out": str(out), "passes": len(meta["passes"]), **{key: meta[key] for key in keys}}


def _parts(
    model: str, scheme: str, hardware: str, prompt: str | None, layers: tuple[int, int],
    parts: str, tokens: int, out: Path,
) -> dict[str, Any]:
    from compiler.build import write_build
    from lutrip.api import compile as compile_model
    from lutrip.api import discard_result

    build = compile_model(
        model, scheme, hardware, layers=layers,
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
    return {
        "out": str(out), "image_bytes": meta["image_bytes"],
        "instructions": len(meta["instructions"]), "tokens": len(meta["tokens"]),
        "relative_error": meta["relative_error"], "function_errors": meta["function_errors"],
    }
