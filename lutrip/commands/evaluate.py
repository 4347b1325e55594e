"""What quantization costs: golden beside float, for one scheme or several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lutrip.options import json_option, text_options, write_json

if TYPE_CHECKING:
    from rich.table import Table


@click.command(name="evaluate")
@click.option("--model", "model_name", required=True,
              help="A .gguf file, a Hugging Face folder, smollm2-135m, or shape:NAME.")
@click.option("--scheme", "schemes", required=True, multiple=True,
              help="Scheme: a name or a YAML file; several give one table.")
@click.option("--hw", "hardware_name", default="sim", show_default=True,
              help="Hardware configuration: a name or a YAML file.")
@text_options
@click.option("--fixed-point-only", is_flag=True,
              help="Leave the linear layers in float: what all other integer parts cost.")
@json_option
def command(
    model_name: str, schemes: tuple[str, ...], hardware_name: str, fixed_point_only: bool,
    json_path: Path | None, **options: Any,
) -> None:
    """Perplexity, top-1 agreement and KL divergence of the hardware's integers beside float.

    Scales and codebooks come from a calibration text that is not evaluated: windows 40 to 51 of
    the news corpus where that is the text, else built-in passages. Models larger than
    memory are streamed layer by layer. What is done is kept after every layer, so that a run that
    was interrupted goes on, and the float model runs once for all schemes. With --json, one
    scheme gives its result, several give a list under runs.

    \b
    Examples:
      lutrip evaluate --model smollm2-135m --scheme simd-w8a8
      lutrip evaluate --model smollm2-135m --scheme simd-w4a8 --scheme rowgen-4bit --tokens 3072
      lutrip evaluate --model smollm2-135m --scheme my.yaml --text book.txt --calibration news
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from compiler.quant.scheme import load_scheme
    from lutrip.evaluation import Evaluator

    for scheme in schemes:
        load_scheme(scheme)
    runs: list[dict[str, Any]] = []
    console = Console(stderr=True)
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                  TimeRemainingColumn(), transient=True, console=console,
                  disable=not console.is_terminal) as bar:
        task = bar.add_task("reading the model", total=None)
        evaluator = Evaluator(model_name, hardware_name, fixed_point_only=fixed_point_only,
                              **options)
        for scheme in schemes:
            bar.reset(task, description=scheme, total=None)

            def quantizing(text: str, name: str = scheme) -> None:
                bar.update(task, description=f"{name}: {text}")

            def progress(done: int, total: int, name: str = scheme) -> None:
                bar.update(task, description=f"{name}: layers of windows", completed=done,
                           total=total)

            runs.append(evaluator.run(scheme, quantizing, progress))
            write_json(json_path, runs[0] if len(schemes) == 1 else {"runs": runs})
    for each in ("text", "calibration"):
        click.echo(text_line(each, runs[0][each]))
    if len(runs) == 1:
        click.echo(summary(runs[0]))
    else:
        Console().print(table(runs))


def text_line(what: str, facts: dict[str, Any]) -> str:
    """One line about a text."""
    name = facts.get("description", facts["source"])
    return (f"{what}: {name}, tokens {facts['first_token']} to "
            f"{facts['first_token'] + facts['tokens'] - 1}, sha256 {facts['sha256'][:16]}")


def summary(values: dict[str, Any]) -> str:
    """The result of one scheme in words."""
    what = "fixed-point parts only" if values["fixed_point_only"] else values["scheme"]
    return (f"{values['model']}, {what}: perplexity {values['perplexity']:.3f}, float "
            f"{values['perplexity_float']:.3f} ({100 * values['relative']:+.2f} %) over "
            f"{values['predictions']} predictions in {values['windows']} windows; same most "
            f"likely token {100 * values['top1_agreement']:.1f} %, KL divergence "
            f"{values['kl_divergence_nats']:.4f} nats, residual error "
            f"{100 * values['residual_error']:.1f} %")


def table(runs: list[dict[str, Any]]) -> Table:
    """All schemes, the best first."""
    from rich.table import Table

    first = runs[0]
    shown = Table(
        box=None, title_justify="left", caption_justify="left", padding=(0, 1, 0, 0),
        caption=f"{first['model']}: float perplexity {first['perplexity_float']:.3f}, "
                f"{first['predictions']} predictions in {first['windows']} windows")
    shown.add_column("scheme", no_wrap=True)
    for heading in ("bits/w", "perplexity", "over float", "top-1", "KL nats", "residual"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for run in sorted(runs, key=lambda run: float(run["perplexity"])):
        bits = run["bits_per_weight"]
        shown.add_row(
            run["scheme"], "–" if bits is None else f"{bits:.2f}", f"{run['perplexity']:.3f}",
            f"{100 * run['relative']:+.2f} %", f"{100 * run['top1_agreement']:.1f} %",
            f"{run['kl_divergence_nats']:.4f}", f"{100 * run['residual_error']:.1f} %")
    return shown
