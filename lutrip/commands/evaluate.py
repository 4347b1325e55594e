"""What quantization costs: perplexity of golden beside float."""

from __future__ import annotations

from pathlib import Path

import click

from lutrip.options import json_option, write_json


@click.command(name="evaluate")
@click.option("--model", "model_name", required=True,
              help="A .gguf file, a Hugging Face folder, smollm2-135m, or shape:NAME.")
@click.option("--scheme", "scheme_name", required=True, help="Scheme: a name or a YAML file.")
@click.option("--hw", "hardware_name", default="sim", show_default=True,
              help="Hardware configuration: a name or a YAML file.")
@click.option("--text", "text_path", default=None,
              type=click.Path(path_type=Path, dir_okay=False),
              help="Text to predict; default: the Lee news corpus.")
@click.option("--tokens", default=4096, show_default=True, type=click.IntRange(2),
              help="Tokens of the text to use.")
@click.option("--window", default=512, show_default=True, type=click.IntRange(2),
              help="Tokens of a window; windows do not overlap.")
@click.option("--fixed-point-only", is_flag=True,
              help="Leave the linear layers in float: what all other integer parts cost.")
@json_option
def command(
    model_name: str, scheme_name: str, hardware_name: str, text_path: Path | None, tokens: int,
    window: int, fixed_point_only: bool, json_path: Path | None,
) -> None:
    """Perplexity of the integers that the hardware computes, beside that of the float model.

    Scales and codebooks come from a calibration text that is not evaluated. Models larger than
    memory are streamed layer by layer.

    \b
    Examples:
      lutrip evaluate --model smollm2-135m --scheme simd-w8a8
      lutrip evaluate --model smollm2-135m --scheme simd-w4a8 --tokens 2048 --json w4a8.json
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from lutrip.api import evaluate

    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                  TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task("quantizing", total=None)
        values = evaluate(
            model_name, scheme_name, hardware_name,
            text=None if text_path is None else text_path.read_text("utf-8", "replace"),
            tokens=tokens, window=window, fixed_point_only=fixed_point_only,
            quantizing=lambda text: bar.update(task, description=text),
            progress=lambda done, total: bar.update(
                task, description="layers of windows", completed=done, total=total))
    what = "fixed-point parts only" if fixed_point_only else values["scheme"]
    click.echo(f"{values['model']}, {what}: perplexity {values['perplexity']:.3f}, float "
               f"{values['perplexity_float']:.3f} ({100 * values['relative']:+.2f} %) over "
               f"{values['predictions']} predictions")
    write_json(json_path, values)
