"""Texts that scales, codebooks and statistics come from, and texts that are evaluated.

A text is a name of `SOURCES` or a file. Calibration on the news corpus takes its windows from 40
on, so that the first 40 are left for evaluation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compiler.decoder.weights import needs_calibration
from compiler.errors import CompileError, FrontendError
from compiler.frontends import packaged
from compiler.frontends.tokenizer import Tokenizer
from compiler.model import Model
from compiler.quant.scheme import SchemeMap
from compiler.text import CALIBRATION_TEXT

SOURCES: dict[str, Callable[[], str]] = {
    "news": packaged.sample_text, "wikipedia": packaged.encyclopedia_text,
    "builtin": lambda: CALIBRATION_TEXT,
}
"""Texts by name: the Lee news corpus and a sample of the English Wikipedia, both in gensim's
wheel, and the public-domain passages of `compiler.text`."""
DESCRIPTIONS = {
    "news": "Lee news corpus, gensim 4.4.0", "wikipedia": "English Wikipedia sample, gensim 4.4.0",
    "builtin": "Lincoln, Austen and Melville passages",
}
NEWS_FIRST = 40 * 512
"""First token of the news corpus that calibration takes: window 40 of 512."""
CALIBRATION_TOKENS = 12 * 512
"""Tokens that calibration takes of a long text."""
CHARACTERS = 16
"""Characters of a text that are read for each token wanted; no real text needs as many."""


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """Consecutive tokens of a text.

    source: name or path; sha256: of the whole text in UTF-8; first: place of the first token.
    """

    source: str
    sha256: str
    first: int
    ids: tuple[int, ...]

    @property
    def end(self) -> int:
        """Place behind the last token."""
        return self.first + len(self.ids)

    def facts(self) -> dict[str, str | int]:
        """What a result says about its text."""
        return {"source": self.source, "sha256": self.sha256, "first_token": self.first,
                "tokens": len(self.ids)}


def source_text(source: str) -> str:
    """A whole text by name or file; raises LutripError in one line when it is not here."""
    if source in SOURCES:
        return SOURCES[source]()
    path = Path(source)
    if not path.is_file():
        raise CompileError(f"{source}: no such text; give a file or one of {', '.join(SOURCES)}")
    return path.read_text("utf-8", "replace")


def excerpt(tokenizer: Tokenizer, source: str, first: int, tokens: int | None) -> Excerpt:
    """``tokens`` tokens of a text from place ``first`` on; fewer where it ends, None: all."""
    text = source_text(source)
    digest = hashlib.sha256(text.encode()).hexdigest()
    # The rest of a long text is not needed.
    used = text if tokens is None else text[:(first + tokens) * CHARACTERS]
    ids = tokenizer.encode(used)[first:None if tokens is None else first + tokens]
    return Excerpt(source=source, sha256=digest, first=first, ids=tuple(ids))


def calibration_excerpt(
    tokenizer: Tokenizer, source: str, tokens: int | None = None
) -> Excerpt:
    """Calibration tokens of a text: all of ``builtin``, `CALIBRATION_TOKENS` of the others.

    The news corpus begins at `NEWS_FIRST`, every other text at its start. Raises CompileError
    where the text has fewer than the ``tokens`` asked for, or none.
    """
    first = NEWS_FIRST if source == "news" else 0
    limit = CALIBRATION_TOKENS if tokens is None and source != "builtin" else tokens
    made = excerpt(tokenizer, source, first, limit)
    if not made.ids:
        raise CompileError(f"calibration text {source} has no tokens"
                           + (f" from place {first} on" if first else ""))
    if tokens is not None and len(made.ids) < tokens:
        raise CompileError(f"calibration text {source} has {len(made.ids)} tokens"
                           + (f" from place {first} on" if first else "")
                           + f", fewer than the {tokens} asked for")
    return made


def calibration_tokens(
    tokenizer: Tokenizer, source: str, tokens: int | None = None
) -> list[int]:
    """Tokens of `calibration_excerpt`."""
    return list(calibration_excerpt(tokenizer, source, tokens).ids)


def default_calibration(text: Excerpt) -> str:
    """``news`` where the evaluated text is that corpus, else ``builtin``."""
    try:
        news = hashlib.sha256(source_text("news").encode()).hexdigest()
    except FrontendError:
        return "builtin"
    return "news" if text.sha256 == news else "builtin"


def compile_calibration(model: Model, scheme: SchemeMap) -> str:
    """``news`` for schemes whose weights need much text, where that corpus is here; else builtin.

    Ranges alone come from the short built-in passages well enough.
    """
    if not needs_calibration(model, scheme):
        return "builtin"
    try:
        source_text("news")
    except FrontendError:
        return "builtin"
    return "news"


def check_apart(evaluated: Excerpt, calibration: Excerpt) -> None:
    """Raise CompileError when a text is calibrated on what is evaluated."""
    if (evaluated.sha256 == calibration.sha256 and evaluated.first < calibration.end
            and calibration.first < evaluated.end):
        raise CompileError(
            f"calibration takes tokens {calibration.first} to {calibration.end - 1} of "
            f"{calibration.source}, which overlap the evaluated tokens {evaluated.first} to "
            f"{evaluated.end - 1}; evaluate fewer tokens or choose another --calibration")
