"""Prose out of a MediaWiki export: markup, tables, lists and redirects are left out."""

from __future__ import annotations

import html
import io
import re
from xml.etree import ElementTree

PARAGRAPH = 120
"""Characters of a paragraph at least; shorter lines are mostly captions and leftovers."""

_DROPPED = re.compile(
    r"<!--.*?-->|<(ref|math|gallery|timeline|score|table)\b[^>/]*>.*?</\1>|<[^>]*>", re.DOTALL)
_INNERMOST = re.compile(r"\{\{[^{}]*\}\}|\{\|(?:(?!\{\||\|\}).)*\|\}", re.DOTALL)
_FILE = re.compile(r"\[\[(?:File|Image|Category):(?:[^\[\]]|\[\[[^\[\]]*\]\])*\]\]", re.IGNORECASE)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]]*)\]\]")
_ADDRESS = re.compile(r"\[https?://\S+ ?([^\]]*)\]")


def articles(export: bytes, characters: int) -> list[str]:
    """Wikitext of the pages of an export that are no redirects, until so much is read.

    Raises ElementTree.ParseError for what is not an export.
    """
    found: list[str] = []
    read = 0
    for _, element in ElementTree.iterparse(io.BytesIO(export)):
        if element.tag.rpartition("}")[2] == "text":
            text = element.text or ""
            if not text.lstrip().upper().startswith("#REDIRECT"):
                found.append(text)
                read += len(text)
            element.clear()
        if read >= characters:
            break
    return found


def prose(wikitext: str) -> str:
    """The paragraphs of an article, each on a line, without markup."""
    text = _DROPPED.sub("", html.unescape(wikitext))
    while (shorter := _INNERMOST.sub("", text)) != text:
        text = shorter
    text = _LINK.sub(r"\1", _FILE.sub("", text))
    text = _ADDRESS.sub(r"\1", text).replace("'''", "").replace("''", "")
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines
                   if len(line) >= PARAGRAPH and line[0] not in "*#:;|!={}")
