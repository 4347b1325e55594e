"""Run a build on the generated circuit."""

from __future__ import annotations

from pathlib import Path

import click

from lutrip.options import json_option, write_json


@click.command(name="simulate")
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--simulator", type=click.Choice(["verilator", "icarus"]), default="verilator",
              show_default=True)
@click.option("--waves", is_flag=True, help="Write waves to BUILD/simulation/waves.fst.")
@click.option("--max-cycles", type=click.IntRange(1), default=None,
              help="Stop after this many cycles.")
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
    build: Path, simulator: str, waves: bool, max_cycles: int | None, latency: int,
    bytes_per_cycle: float | None, outstanding: int, build_dir: Path, json_path: Path | None,
) -> int:
    """Run a build in RTL, compare every write with golden, count cycles and energy.

    Exit status 1 when the circuit and golden differ; the first difference is named.

    \b
    Examples:
      lutrip simulate runs/rowgen
      lutrip simulate runs/rowgen --waves --latency 120 --bytes-per-cycle 16
    """
    from rich.console import Console

    from lutrip.api import simulate
    from sim.records import MemoryModel

    console = Console()
    memory = MemoryModel(latency_cycles=latency, bytes_per_cycle=bytes_per_cycle,
                         outstanding=outstanding)
    with console.status("starting") as status:
        values = simulate(
            build, simulator=simulator, waves=waves, max_cycles=max_cycles, memory=memory,
            build_dir=build_dir, progress=status.update,
        )
    write_json(json_path, values)
    click.echo(f"{values['title']}: {values['cycles']:,} cycles ({values['simulator']}), "
               f"{values['latency_s'] * 1e6:,.1f} us at {values['clock_mhz']:g} MHz (simulated)")
    click.echo(f"  {values['energy_j'] * 1e3:.4g} mJ (modelled), "
               f"{values['cycles_per_wall_s']:,.0f} cycles per second of wall time (measured)")
    if values["bit_exact"]:
        click.echo(f"  bit-exact: all {sum(values['beats'].values()):,} writes equal golden")
        return 0
    first = values["first_mismatch"]
    if values["status"] != "done":
        causes = " ".join([values["status"], *values["errors"]])
        click.echo(f"  stopped after {values['cycles']} cycles: {causes}", err=True)
    # A run that was stopped lacks writes; only one that differs is a mismatch.
    if first is not None and (values["status"] == "done" or first["cycle"] is not None):
        click.echo(
            f"  first mismatch: instruction {first['instruction']} {first['opcode']} "
            f"{first['op']}, element {first['element']}, expected {first['expected']}, "
            f"got {first['got']}, cycle {first['cycle']}", err=True)
    return 1
