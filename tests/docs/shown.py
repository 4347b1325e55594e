"""Shown output beside real output: the same words, whole numbers, and fractions but for the last.

Wall times are free: numbers of a line that calls one measured, and the seconds of a search.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?!\w)")
TOLERANCE = 1e-3
"""Of a fraction beside the one that is shown: libraries of linear algebra differ a little."""
MEASURED = "(measured)"
SEARCH_TIME = re.compile(r"(?<=evaluated in )[\d,.]+(?= s,)")
LEFT_OUT = "..."


def words(line: str) -> str:
    """A line without its numbers and with single spaces."""
    return " ".join(NUMBER.sub("#", line).split())


def numbers(line: str) -> list[str]:
    """Numbers of a line but wall times."""
    if MEASURED in line:
        return []
    return [found.replace(",", "") for found in NUMBER.findall(SEARCH_TIME.sub("0", line))]


def equal(shown: str, real: str) -> bool:
    """Whether two numbers are: exactly if they are whole."""
    if not set(".e") & set(shown + real):
        return int(shown) == int(real)
    here, there = float(shown), float(real)
    return abs(here - there) <= TOLERANCE * max(abs(here), abs(there))


def agrees(shown: str, real: str) -> bool:
    """Whether a line is the one that is shown."""
    return words(shown) == words(real) and all(
        equal(here, there) for here, there in zip(numbers(shown), numbers(real), strict=True))


def missing(shown: Sequence[str], real: Sequence[str]) -> str | None:
    """The first shown line that the output does not have behind those before it, or None."""
    rest = iter(real)
    for line in shown:
        if line.strip() in ("", LEFT_OUT):
            continue
        if not any(agrees(line, other) for other in rest):
            return line
    return None


def renewed(shown: Sequence[str], real: Sequence[str]) -> list[str]:
    """The shown lines with the output's numbers; raises ValueError for a line of other words."""
    rest, lines = iter(real), []
    for line in shown:
        if line.strip() in ("", LEFT_OUT):
            lines.append(line)
            continue
        found = next((other for other in rest if words(other) == words(line)), None)
        if found is None:
            raise ValueError(f"no such line in the output: {line!r}")
        lines.append(line if agrees(line, found) else found.rstrip())
    return lines
