"""What a documentation page has that a machine can check: commands, files, shown output, figures.

A page is Markdown. A fenced ``bash`` block is run; the ``text`` block right behind it shows lines
of its output, in order. A block with ``title="FILE"`` is a file that the reader writes. A figure
behind ``<!-- figure: PATH -->`` is the file that the commands before it have written to PATH.
``<!-- not run: REASON -->``, ``<!-- slow: REASON -->`` and ``<!-- fails -->`` (the commands end
with an error) before a block concern that block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RUN_PAGES = (DOCS / "tutorial.md", DOCS / "reference" / "python.md",
             *sorted((DOCS / "how-to").glob("*.md")))
"""Pages whose commands are run."""

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)(?: +title=\"(?P<title>[^\"]+)\")?\s*$")
MARK = re.compile(r"^ *<!-- (?:(?P<mark>not run|slow): (?P<reason>.+)|(?P<fails>fails)) -->$")
FIGURE = re.compile(r"^ *<!-- figure: (?P<path>\S+) -->$")
IMAGE = re.compile(r"^ *!\[[^\]]*\]\((?P<path>[^)\s]+)\)")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block, or a figure with its source as ``title`` and its file as ``text``.

    line: of the fence, from 1. mark: "not run", "slow", "fails" or "". follows: nothing but empty
    lines lies between the block before and this one.
    """

    line: int
    language: str
    title: str
    text: str
    mark: str
    follows: bool


def blocks(page: Path) -> Iterator[Block]:
    """Blocks and figures of a page, in order; raises ValueError for a fence that is left open."""
    lines = page.read_text().splitlines()
    mark, follows, number = "", False, 0
    while number < len(lines):
        line = lines[number]
        start = number + 1
        if found := FENCE.match(line):
            indent = len(found["indent"])
            end = next((index for index in range(start, len(lines))
                        if lines[index].strip() == "```"), None)
            if end is None:
                raise ValueError(f"{page}:{start}: fence without an end")
            text = "\n".join(inner[indent:] for inner in lines[start:end])
            yield Block(line=start, language=found["language"], title=found["title"] or "",
                        text=text, mark=mark, follows=follows)
            number, mark, follows = end, "", True
        elif found := FIGURE.match(line):
            image = IMAGE.match(lines[number + 1])
            if image is None:
                raise ValueError(f"{page}:{start}: no figure behind its source")
            yield Block(line=start, language="figure", title=found["path"], text=image["path"],
                        mark=mark, follows=False)
            number, mark, follows = number + 1, "", False
        elif found := MARK.match(line):
            mark, follows = found["mark"] or found["fails"], False
        elif line.strip():
            mark, follows = "", False
        number += 1


def commands(text: str) -> list[str]:
    """Commands of a ``bash`` block: a line each, or several joined by backslashes."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line.strip() for line in joined.splitlines() if line.strip()
            and not line.lstrip().startswith("#")]
