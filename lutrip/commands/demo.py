"""The main job: a real model's next words and five schemes on one of its layers, in RTL."""

from __future__ import annotations

from pathlib import Path

import click

from lutrip.options import json_option, write_json


@click.command(name="demo")
@click.option("--out", default=Path("runs/demo"), show_default=True,
              type=click.Path(path_type=Path, file_okay=False), help="Folder to write.")
@click.option("--model", default="smollm2-135m", show_default=True, help="As for compile.")
@click.option("--hw", "hardware", default="sim", show_default=True, help="As for compile.")
@click.option("--tokens", default=8, show_default=True, type=click.IntRange(1),
              help="Tokens of text that run through the layer.")
@click.option("--fresh", is_flag=True, help="Run again what an earlier demo finished.")
@click.option("--build-dir", type=click.Path(path_type=Path), default=Path("build"),
              show_default=True, help="Where generated and compiled circuits are kept.")
@json_option
def command(
    out: Path, model: str, hardware: str, tokens: int, fresh: bool, build_dir: Path,
    json_path: Path | None,
) -> int:
    """Let a real model speak out of the circuit; compare five schemes on its layer 0.

    First the whole model continues a prompt by two tokens: every layer and the head in RTL. Then
    five runs of layer 0, compared in one report: the q, k, v, o projections and the MLP block on
    real text. Every write is compared with golden. Small runs on both simulators check that their
    cycles are equal. An interrupted demo goes on where it stopped.

    \b
    Example:
      lutrip demo --out runs/demo
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    from lutrip.demo import GENERATION, PROMPT, SCHEMES, TINY_SCHEMES, run_demo
    from reports.page import write_report
    from reports.records import load_records
    from reports.text import comparison_table

    console = Console()
    columns = (TextColumn("{task.description:48.48}"), BarColumn(), MofNCompleteColumn(),
               Elapsed())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1 + len(SCHEMES) + len(TINY_SCHEMES))
        summary = run_demo(
            out, model=model, hardware=hardware, tokens=tokens, build_dir=build_dir, fresh=fresh,
            progress=lambda text: bar.update(task, description=text),
            finished=lambda: bar.advance(task),
        )
    page = write_report(out)
    generated = summary["generation"]
    spoken = write_report(out / GENERATION)
    click.echo(f"{PROMPT}{generated['text']!r}: {generated['cycles']:,} cycles for "
               f"{len(generated['token_ids'])} tokens, all layers in RTL; {spoken}")
    console.print(comparison_table(load_records(out)))
    for run in summary["tiny"]:
        other = run["icarus_cycles"]
        compared = ("Icarus not installed" if other is None
                    else "equal on Icarus" if run["equal"] else f"Icarus: {other}")
        click.echo(f"{run['scheme']} on tiny: {run['verilator_cycles']} cycles on Verilator, "
                   f"{compared}")
    click.echo(f"{page}: {'all runs bit-exact' if summary['all_bit_exact'] else 'NOT bit-exact'}")
    write_json(json_path, summary)
    return 0 if summary["all_bit_exact"] and summary["all_cycles_equal"] else 1
