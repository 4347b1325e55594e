"""Links of Markdown files: whether their files and headings exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from markdown.extensions.toc import slugify

from tests.docs.pages import DOCS, ROOT

LINKED_PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md")))
LINK = re.compile(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)")
HEADING = re.compile(r"^#+ +(.+?)(?: +#+)?$", re.MULTILINE)
FENCED = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")


def prose(page: Path) -> str:
    """A page's text without fenced code."""
    return FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings; the second of a name gets ``_1``."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(page)):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = name = slugify(plain, "-")
        count = 0
        while name in found:
            count += 1
            name = f"{slug}_{count}"
        found.add(name)
    return found


def links(page: Path) -> Iterator[str]:
    """Targets of a page's links into this repository."""
    for target in LINK.findall(CODE.sub("", prose(page))):
        if not re.match(r"[a-z]+:", target):
            yield target


def broken(page: Path) -> list[str]:
    """Links of a page whose file or heading does not exist."""
    wrong = []
    for target in links(page):
        file, _, anchor = target.partition("#")
        path = (page.parent / file) if file else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            wrong.append(target)
    return wrong
