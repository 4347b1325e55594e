"""Explore a design space: search, proof in RTL, report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hw.errors import LutripError
from lutrip.options import json_option, write_json

if TYPE_CHECKING:
    from reports.explore.run import Explored

SHOWN = 5


class Display:
    """The line on the terminal: a bar of points with the best so far, or words."""

    def __init__(self, points: int, choose: str) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.choose = choose
        self.bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24),
            MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), transient=True)
        self._task = self.bar.add_task("starting", total=points)

    def say(self, text: str) -> None:
        """Show what happens."""
        self.bar.update(self._task, description=text)

    def show(self, state: Explored) -> None:
        """Show how far the search is."""
        from reports.explore.metrics import told

        best = "nothing feasible yet" if state.best is None else (
            f"best {told(self.choose, state.best)}")
        self.bar.update(self._task, description=best,
                        completed=max(state.asked, len(state.outcomes)))


@click.command(name="explore")
@click.argument("study_name", metavar="STUDY")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=None,
              help="Folder of the result [default: runs/STUDY].")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True,
              help="Processes on this machine.")
@click.option("--scheduler", default=None, metavar="ADDRESS",
              help="Evaluate on a Dask cluster: tcp://host:8786.")
@click.option("--storage", default=None, metavar="URL",
              help="Hand points out over a database: sqlite:///points.db, postgresql://...")
@click.option("--worker", is_flag=True,
              help="With --storage: only evaluate points for a run of this study elsewhere.")
@click.option("--idle", "idle_s", type=click.FloatRange(0), default=600.0, show_default=True,
              help="With --worker: seconds without work until it ends.")
@click.option("--resume/--no-resume", "resume", default=None,
              help="Go on with the outcomes that the folder holds, or remove them.")
@click.option("--points", type=click.IntRange(1), default=None,
              help="Points to try [default: the study's].")
@click.option("--seed", type=click.IntRange(0), default=None, help="Seed [default: the study's].")
@click.option("--measure", is_flag=True,
              help="Measure the sensitivity of schemes that none is known of.")
@click.option("--evaluate/--no-evaluate", default=True, show_default=True,
              help="Evaluate the front's schemes on the whole model (to 15 minutes each).")
@click.option("--confirm/--no-confirm", default=True, show_default=True,
              help="Run the best designs in RTL.")
@click.option("--build-dir", type=click.Path(path_type=Path), default=Path("build"),
              show_default=True, help="Where generated and compiled circuits are kept.")
@json_option
def command(
    study_name: str, out: Path | None, jobs: int, scheduler: str | None, storage: str | None,
    worker: bool, idle_s: float, resume: bool | None, points: int | None, seed: int | None,
    measure: bool, evaluate: bool, confirm: bool, build_dir: Path, json_path: Path | None,
) -> int:
    """Find the designs worth building: search, evaluate the front, prove the best in RTL, report.

    STUDY is a file, or a name under configs/studies. Writes study.json, report.html, points.csv,
    front.csv, figures and the designs' files. The same study and seed give the same result with
    any number of workers. Exit status 1 when a design's circuit and golden differ.

    \b
    Examples:
      lutrip explore kv260 --jobs 2
      lutrip explore my-study.yaml --out runs/mine --points 5000 --no-confirm
      lutrip explore my-study.yaml --out runs/mine --resume
      lutrip explore lutllm-v80 --scheduler tcp://10.0.0.5:8786
      lutrip explore my-study.yaml --storage postgresql://db/points            # one coordinates
      lutrip explore my-study.yaml --storage postgresql://db/points --worker   # others help
    """
    from lutrip.exploring import Options, read_study, run_study, run_worker

    if scheduler is not None and storage is not None:
        raise LutripError("--scheduler and --storage exclude each other")
    if worker and storage is None:
        raise LutripError("--worker needs --storage, the database of the run that it helps")
    study = read_study(study_name, points, seed)
    out = Path("runs") / study.name if out is None else out
    if storage is not None and worker:
        served = run_worker(study, out, storage, idle_s, click.echo)
        click.echo(f"{served} chunks of points evaluated")
        return 0
    display = Display(study.budget, study.choose)
    options = Options(jobs=jobs, scheduler=scheduler, storage=storage, resume=resume,
                      measure=measure, evaluate=evaluate, confirm=confirm,
                      build_dir=build_dir)
    with display.bar:
        values = run_study(study, out, options, command_line(), display.say, display.show)
    write_json(json_path, values)
    return summary(values, out)


def command_line() -> str:
    """How the command was called."""
    return shlex.join(["lutrip", *sys.argv[1:]])


def summary(values: dict[str, Any], out: Path) -> int:
    """Say what was found; returns the exit status."""
    counts = values["counts"]
    click.echo(f"{values['title']}: {counts['distinct']:,} points of {values['search']['space']:,} "
               f"({values['search']['sampler']}), {counts['feasible']:,} feasible, "
               f"{counts['infeasible']:,} break constraints, {counts['refused']:,} cannot be built")
    click.echo(f"  {values['evaluated']:,} evaluated in {values['search_s']:,.1f} s, "
               f"{values['taken_over']:,} taken over")
    for line in values["findings"][:SHOWN]:
        click.echo(f"  {line}")
    from reports.explore.precision import evaluated

    for row in values["evaluations"]:
        click.echo(f"  design {row['id']}, scheme {evaluated(row)}: " + (
            f"not evaluated: {row['error']}" if row["error"] else
            f"loss {row['measured_nats']:.3f} nats measured, {row['predicted_nats']:.3f} "
            "predicted"))
    exact = True
    for row in values["confirmations"]:
        exact = exact and row["bit_exact"]
        click.echo(f"  design {row['id']} in RTL, {row['phase']}: {row['rtl_cycles']:,} cycles, "
                   f"model {row['error']:+.2%}, "
                   f"{'bit-exact' if row['bit_exact'] else 'NOT bit-exact'}")
    click.echo(f"  {out / 'report.html'}")
    return 0 if exact else 1
