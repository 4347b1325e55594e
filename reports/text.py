"""Runs side by side, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from reports.differences import Result
from reports.facts import labels, largest_error
from reports.numbers import number, percent, quantity
from reports.records import RunRecord


def comparison_table(records: Sequence[RunRecord]) -> Table:
    """One row a run; the caption says which columns are simulated and which modelled."""
    table = Table(
        box=None, title_justify="left", caption_justify="left",
        padding=(0, 1, 0, 0),
        caption="cycles, bits per weight, error: simulated; rates, energy: modelled; "
                "wall: measured",
    )
    table.add_column("run", no_wrap=True)
    table.add_column("exact", no_wrap=True)
    for heading in ("cycles", "tokens/s", "energy", "tokens/J", "bits/w", "error", "wall"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, record in zip(labels(records), records, strict=True):
        worst = largest_error(record)
        table.add_row(
            name, "[green]yes[/green]" if record["bit_exact"] else "[bold red]NO[/bold red]",
            number(record["cycles"]), number(record["tokens_per_s"]),
            quantity(record["energy_j"], "J", 3), number(record["tokens_per_j"]),
            number(record["bits_per_weight"]["weights"], 3),
            percent(worst["relative_error"], 1) if worst else "–",
            quantity(record["wall_s"], "s", 3),
        )
    return table


def differences_table(names: Sequence[str], results: Sequence[Result]) -> Table:
    """One row a result, one column a run or study, with ratios to the first."""
    table = Table(box=None, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column("result")
    for name in names:
        table.add_column(name, justify="right")
    for row in results:
        table.add_row(row.label, *(
            value if not place or ratio is None else f"{value} ({ratio:.3g}×)"
            for place, (value, ratio) in enumerate(zip(row.values, row.ratios, strict=True))))
    return table
