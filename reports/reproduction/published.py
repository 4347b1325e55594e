"""Published numbers, as data: `configs/published` has each with its source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hw.presets import find, load_yaml


def load_published(name: str) -> dict[str, Any]:
    """Published numbers of one work; raises ConfigError."""
    return load_yaml(find("published", name))


def fit_line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Start and slope of the line through points, by least squares."""
    count = len(x)
    mean_x, mean_y = sum(x) / count, sum(y) / count
    spread = sum((value - mean_x) ** 2 for value in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    return mean_y - slope * mean_x, slope


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, with an empty line behind."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:], ""]


def error(value: float, reference: float) -> str:
    """How far a value is from a reference, in percent with a sign."""
    return f"{100 * (value / reference - 1):+.1f} %"
