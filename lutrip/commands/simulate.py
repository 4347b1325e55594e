"""Run a build on the generated circuit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hw.errors import LutripError
from lutrip.options import json_option, write_json

if TYPE_CHECKING:
    from sim.passes import PassProgress


def layer_list(text: str | None) -> list[int] | None:
    """``A,B,..`` as layers; raises LutripError."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise LutripError(f"--sample-layers must be numbers such as 0,14,29, not {text!r}")
    return sorted({int(part) for part in parts})


class Display:
    """The line on the terminal: words for what happens, or a bar while passes run."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24),
            TextColumn("{task.fields[counts]}"), TimeElapsedColumn(), transient=True,
        )
        self._task = self.bar.add_task("starting", total=None, counts="")

    def say(self, text: str) -> None:
        """Show what happens."""
        self.bar.update(self._task, description=text)

    def show(self, report: PassProgress) -> None:
        """Show tokens, cycles, rate and time left of a decoder's simulation."""
        if report.stage == "golden":
            self.bar.update(self._task, description=f"golden, {report.name}", counts="")
            return
        counts = (f"{report.tokens_done}/{report.tokens} tokens, {report.cycles:,} cycles, "
                  f"{report.cycles_per_s:,.0f} cycles/s, {left(report.left_s)}")
        self.bar.update(self._task, description=report.name, total=report.passes,
                        completed=report.passes_done, counts=counts)


def left(seconds: float | None) -> str:
    """Time left in words."""
    if seconds is None:
        return "time left unknown"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s left" if minutes else f"{rest} s left"


@click.command(name="simulate")
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--simulator", type=click.Choice(["verilator", "icarus"]), default="verilator",
              show_default=True)
@click.option("--waves", is_flag=True, help="Write waves to BUILD/simulation/waves.fst.")
@click.option("--activity", is_flag=True,
              help="Count how often nets change and use that for the energy (slower).")
@click.option("--max-cycles", type=click.IntRange(1), default=None,
              help="Stop a program after this many cycles.")
@click.option("--resume/--no-resume", default=True, show_default=True,
              help="Whole models: keep the passes that an earlier run has finished.")
@click.option("--sample-layers", "sample", default=None, metavar="A,B,..",
              help="Whole models compiled with --split-layers: run only these layers in RTL.")
@click.option("--latency", type=click.IntRange(2), default=64, show_default=True,
              help="Memory latency in cycles.")
@click.option("--bytes-per-cycle", type=click.FloatRange(0, min_open=True), default=None,
              help="Limit of each memory port; default: its width.")
@click.option("--outstanding", type=click.IntRange(1, 64), default=16, show_default=True,
              help="Bursts in flight on each memory port.")
@click.option("--build-dir", type=click.Path(path_type=Path), default=Path("build"),
              show_default=True, help="Where generated and compiled circuits are kept.")
@json_option
def command(
    build: Path, simulator: str, waves: bool, activity: bool, max_cycles: int | None,
    resume: bool, sample: str | None, latency: int, bytes_per_cycle: float | None, outstanding: int,
    build_dir: Path, json_path: Path | None,
) -> int:
    """Run a build in RTL, compare every write with golden, count cycles and energy.

    Exit status 1 when the circuit and golden differ; the first difference is named. An interrupted
    run of a whole model goes on where it was.

    \b
    Examples:
      lutrip simulate runs/rowgen
      lutrip simulate runs/rowgen --waves --latency 120 --bytes-per-cycle 16
      lutrip simulate runs/rowgen --activity
      lutrip simulate runs/smollm2 --sample-layers 0,14,29
    """
    from lutrip.api import simulate
    from sim.records import MemoryModel

    memory = MemoryModel(latency_cycles=latency, bytes_per_cycle=bytes_per_cycle,
                         outstanding=outstanding)
    layers = layer_list(sample)
    display = Display()
    with display.bar:
        values = simulate(
            build, simulator=simulator, waves=waves, activity=activity, max_cycles=max_cycles,
            memory=memory, build_dir=build_dir, resume=resume, sample_layers=layers,
            progress=display.say, passes=display.show,
        )
    write_json(json_path, values)
    click.echo(f"{values['title']}: {values['cycles']:,} cycles ({values['simulator']}), "
               f"{values['latency_s'] * 1e6:,.1f} us at {values['clock_mhz']:g} MHz (simulated)")
    click.echo(f"  {values['energy_j'] * 1e3:.4g} mJ (modelled), "
               f"{values['cycles_per_wall_s']:,.0f} cycles per second of wall time (measured)")
    if values.get("kind") == "decoder":
        print_decoder(values)
    return verdict(values)


def print_decoder(values: Mapping[str, Any]) -> None:
    """Tokens and rates of a whole model."""
    click.echo(f"  {values['scope']}")
    if values["resumed_passes"]:
        click.echo(f"  kept from an earlier run: {values['resumed_passes']} of "
                   f"{sum(item['simulated'] for item in values['passes'])} passes")
    for kind in ("prefill", "decode"):
        if phase := values[kind]:
            click.echo(f"  {kind}: {phase['tokens']} tokens in {phase['cycles']:,} cycles, "
                       f"{phase['tokens_per_s']:,.2f} tokens/s, "
                       f"{phase['tokens_per_j']:.4g} tokens/J; "
                       f"{phase['wall_s_per_token']:.3g} s of wall time a token (measured)")
    overlap = values["overlap"]
    click.echo(f"  while the linear engine computes, another engine is busy "
               f"{overlap['others_busy']:.0%} and weights arrive "
               f"{overlap['weights_arriving']:.0%} of the time")
    click.echo(f"  tokens: {' '.join(map(str, values['token_ids']))}")
    if values["text"] is not None:
        click.echo(f"  text: {values['text']!r}")


def verdict(values: Mapping[str, Any]) -> int:
    """Say whether the circuit equals golden; returns the exit status."""
    if values["bit_exact"]:
        click.echo(f"  bit-exact: all {sum(values['beats'].values()):,} writes equal golden")
        return 0
    first = values["first_mismatch"]
    place = f"{values['failed_pass']}: " if values.get("failed_pass") else ""
    if values["status"] != "done":
        causes = " ".join([values["status"], *values["errors"]])
        click.echo(f"  {place}stopped after {values['cycles']} cycles: {causes}", err=True)
    # A run that was stopped lacks writes; only one that differs is a mismatch.
    if first is not None and (values["status"] == "done" or first["cycle"] is not None):
        click.echo(
            f"  first mismatch: {place}instruction {first['instruction']} {first['opcode']} "
            f"{first['op']}, element {first['element']}, expected {first['expected']}, "
            f"got {first['got']}, cycle {first['cycle']}", err=True)
    return 1
