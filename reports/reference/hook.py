"""MkDocs hook: tables of `reports.reference.tables`, and the examples of the commands' help."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.exceptions import PluginError

from reports.reference.tables import TABLES

ASKED = re.compile(r"^<!-- table: (\S+) -->$", re.MULTILINE)
EXAMPLES = re.compile(r"<p>([^<\n]*:)\n((?: *lutrip [^<\n]*(?:\n|(?=</p>)))+)</p>")
"""A paragraph of help whose lines behind the first are commands."""


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page's text with its tables; raises PluginError for a table that does not exist."""
    def made(match: re.Match[str]) -> str:
        if match[1] not in TABLES:
            raise PluginError(f"{page.file.src_path}: no table called {match[1]!r}; known: "
                              f"{', '.join(sorted(TABLES))}")
        return TABLES[match[1]]()

    return ASKED.sub(made, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """The page with a line for each example command; Markdown has joined them to a paragraph."""
    def lines(match: re.Match[str]) -> str:
        commands = "\n".join(line.strip() for line in match[2].splitlines())
        return f"<p>{match[1]}</p>\n<pre><code>{commands}\n</code></pre>"

    return EXAMPLES.sub(lines, html)
