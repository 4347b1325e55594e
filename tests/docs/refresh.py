"""Follow every page and bring its shown output and its figures up to date.

``python -m tests.docs.refresh [--slow] [PAGE ...]``: shown lines keep their words and take the
numbers of the run; a line that the output no longer has is named, with the output, and left to
whoever wrote the page. Figures are copied from where the page's commands wrote them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from compiler.frontends.packaged import CACHE_VARIABLE
from tests.docs.pages import ROOT, RUN_PAGES
from tests.docs.reader import Step, follow
from tests.docs.shown import renewed


def apply(page: Path, steps: Sequence[Step]) -> list[str]:
    """Write what changed into the page and its figures; returns what is left to do."""
    lines, left = page.read_text().splitlines(), []
    for step in steps:
        block = step.block
        if block.language == "figure":
            target = page.parent / block.text
            target.parent.mkdir(exist_ok=True)
            shutil.copy(block.title, target)
            continue
        count = len(block.text.splitlines())
        try:
            lines[block.line:block.line + count] = renewed(block.text.splitlines(), step.output)
        except ValueError as error:
            left.append(f"{page}:{block.line}: {error}\n" + "\n".join(step.output))
    text = "\n".join(lines) + "\n"
    if text != page.read_text():
        scratch = page.with_suffix(".new")
        scratch.write_text(text)
        scratch.replace(page)
    return left


def refresh(page: Path, build: Path, *, slow: bool) -> list[str]:
    """Follow one page in a folder of its own; build: circuits that pages share."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        Path("build").symlink_to(build)
        Path("configs").symlink_to(ROOT / "configs")
        return apply(page, list(follow(page, slow=slow)))


def main() -> int:
    """Returns 1 where a shown line needs an author."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE")
    parser.add_argument("--slow", action="store_true", help="run the slow blocks, too")
    given = parser.parse_args()
    os.environ.setdefault(CACHE_VARIABLE, str(ROOT / ".cache" / "lutrip"))
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    left = []
    for page in [path.resolve() for path in given.pages] or RUN_PAGES:
        print(page.relative_to(ROOT), flush=True)
        left += refresh(page, build, slow=given.slow)
    print("\n".join(left), end="\n" if left else "")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
