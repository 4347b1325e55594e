"""Passes of a whole model's run by position and layer, and operations by part of the model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import linear_regression
from typing import Any

from reports.decoder_format import DECODE, PREFILL
from reports.records import RunRecord

PROJECTIONS, ATTENTION, MLP, NORMS = "q, k, v, o projections", "attention", "MLP", "norms"
HEAD, EMBEDDING, OTHER = "head", "embedding", "other"
PARTS = (PROJECTIONS, ATTENTION, MLP, NORMS, HEAD, EMBEDDING, OTHER)
"""Parts of a decoder that its operations belong to."""
_PART_OF = {
    **dict.fromkeys(("q", "k", "v", "o", "attention_input", "attention_output"), PROJECTIONS),
    **dict.fromkeys(("gate", "up", "down", "activation", "mlp_input", "mlp_hidden"), MLP),
    **dict.fromkeys(("head", "head_input", "next_token"), HEAD),
    **dict.fromkeys(("embedding", "positions"), EMBEDDING),
    "attention": ATTENTION,
}
_LAYER = re.compile(r"^layers\.(\d+)\.")


def split_operation(name: str) -> tuple[int | None, str]:
    """Layer of an operation, None outside all, and the rest of its name."""
    found = _LAYER.match(name)
    return (int(found[1]), name[found.end():]) if found else (None, name)


def part_of(name: str) -> str:
    """Which of `PARTS` an operation belongs to."""
    first, *rest = split_operation(name)[1].split(".")
    if first.endswith("norm"):
        return NORMS
    if rest[:1] in (["rope"], ["append"]):
        return ATTENTION
    return _PART_OF.get(first, OTHER)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Positions that the model computed together: one pass, or one for each layer.

    ran: the passes of it that ran in RTL; ``passes`` counts all.
    """

    first: int
    tokens: int
    kind: str
    passes: int
    ran: tuple[Mapping[str, Any], ...]
    token: int | None

    @property
    def positions(self) -> str:
        """The positions in words."""
        last = self.first + self.tokens - 1
        return str(self.first) if last == self.first else f"{self.first} to {last}"

    @property
    def bit_exact(self) -> bool:
        """Every pass that ran equals golden."""
        return all(row["bit_exact"] for row in self.ran)

    def total(self, key: str) -> Any:
        """Sum over the passes that ran."""
        return sum(row[key] for row in self.ran)

    @property
    def cycles(self) -> int:
        """Cycles of the passes that ran."""
        return int(self.total("cycles"))


def kind_of(name: str) -> str:
    """Prefill or decode, by the name of a pass."""
    return PREFILL if name.startswith(PREFILL) else DECODE


def steps_of(record: RunRecord) -> list[Step]:
    """Passes by the positions that they compute, in order."""
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for row in record["passes"]:
        groups.setdefault(row["first"], []).append(row)
    return [
        Step(first=first, tokens=rows[0]["tokens"], kind=kind_of(rows[0]["name"]),
             passes=len(rows), ran=tuple(row for row in rows if row["simulated"]),
             token=next((row["token"] for row in rows if row["token"] is not None), None))
        for first, rows in groups.items()
    ]


def growth(steps: Sequence[Step]) -> tuple[float, float] | None:
    """Straight line through the cycles of finished decode steps: at position 0, and for each."""
    points = [(step.first, step.cycles) for step in steps
              if step.kind == DECODE and step.ran and step.bit_exact]
    if len(points) < 2:
        return None
    line = linear_regression(*zip(*points, strict=True))
    return line.intercept, line.slope


def finished(record: RunRecord) -> list[Step]:
    """Steps of which as many passes ran, bit-exact, as of any step of their kind."""
    steps = steps_of(record)
    most = {kind: max((len(step.ran) for step in steps if step.kind == kind), default=0)
            for kind in (PREFILL, DECODE)}
    return [step for step in steps
            if step.ran and step.bit_exact and len(step.ran) >= most[step.kind]]


def layer_rows(record: RunRecord) -> list[dict[str, Any]]:
    """For each layer with passes of its own: where it ran, and its cycles; else nothing."""
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for row in record["passes"]:
        if row["layer"] is not None:
            groups.setdefault(row["layer"], []).append(row)
    result = []
    for layer, rows in sorted(groups.items()):
        ran = [row for row in rows if row["simulated"]]
        cycles = {kind: sum(row["cycles"] for row in ran if kind_of(row["name"]) == kind)
                  for kind in (PREFILL, DECODE)}
        chosen = record["simulated_layers"] is None or layer in record["simulated_layers"]
        result.append({
            "layer": layer, "in_rtl": chosen, "passes": len(rows), "ran": len(ran), **cycles,
            "bit_exact": all(row["bit_exact"] for row in ran),
        })
    return result


def layer_count(record: RunRecord) -> int:
    """Layers of the model."""
    return int(str(record["layers"]).rpartition(":")[2])
