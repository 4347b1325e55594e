"""Calibration statistics of a model, and a page that shows them."""

from __future__ import annotations

from pathlib import Path

import click

from lutrip.options import json_option, write_json


@click.command(name="calibrate")
@click.option("--model", "model_name", required=True,
              help="A .gguf file, a Hugging Face folder, smollm2-135m, or shape:NAME.")
@click.option("--calibration", default=None,
              help="Text: a file, news, wikipedia or builtin [default: the first that is here].")
@click.option("--compare", "compared", multiple=True,
              help="Text to compare with; several times [default: the other named ones].")
@click.option("--calibration-tokens", "tokens", default=None, type=click.IntRange(1),
              help="Tokens of each text [default: 6144; all of builtin].")
@click.option("--window", default=512, show_default=True, type=click.IntRange(2),
              help="Tokens of a window.")
@click.option("--robustness", default=None, metavar="SCHEME",
              help="Also quantize this scheme on each text and evaluate it on the news corpus.")
@click.option("--hw", "hardware_name", default="sim", show_default=True,
              help="Hardware configuration of --robustness: a name or a YAML file.")
@click.option("--evaluated-tokens", default=3072, show_default=True, type=click.IntRange(2),
              help="Tokens that --robustness evaluates.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder to write.")
@json_option
def command(
    model_name: str, calibration: str | None, compared: tuple[str, ...], tokens: int | None,
    window: int, robustness: str | None, hardware_name: str, evaluated_tokens: int, out: Path,
    json_path: Path | None,
) -> None:
    """Outliers, massive activations, attention sinks and second moments of a model's inputs.

    Runs the float model layer by layer on the calibration text and on texts to compare with, and
    writes statistics.json, channels.npz (every channel's range) and report.html. The page shows
    outliers of each layer and how far they depend on the choice of the text.

    \b
    Examples:
      lutrip calibrate --model smollm2-135m --out runs/calibration
      lutrip calibrate --model smollm2-135m --robustness simd-w4a8 --out runs/calibration
      lutrip calibrate --model shape:tiny --calibration builtin --window 64 --out runs/tiny
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from lutrip.calibration import calibrate
    from reports.calibration import render
    from reports.page import write_page

    console = Console(stderr=True)
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                  TimeRemainingColumn(), transient=True, console=console,
                  disable=not console.is_terminal) as bar:
        task = bar.add_task("reading the model", total=None)
        values = calibrate(
            model_name, out, calibration=calibration, compared=compared, tokens=tokens,
            window=window, robustness=robustness, hardware=hardware_name,
            evaluated_tokens=evaluated_tokens,
            progress=lambda text, done, total: bar.update(
                task, description=text, completed=done, total=total))
    text, pictures = render(values)
    page = write_page(out, text, pictures)
    used = values["texts"][0]
    click.echo(f"{page}: {values['model']}, {len(values['layers'])} layers on {used['tokens']} "
               f"tokens of {used['source']}, beside "
               + (", ".join(other["source"] for other in values["texts"][1:]) or "no other text"))
    for row in values["robustness"]:
        click.echo(f"  {row['scheme']} calibrated on {row['calibration']}: perplexity "
                   f"{row['perplexity']:.3f}, float {row['perplexity_float']:.3f} "
                   f"({100 * row['relative']:+.2f} %)")
    write_json(json_path, {"report": str(page), **values})
