"""Texts by name, excerpts of them, and Wikipedia's markup taken away."""

from __future__ import annotations

import bz2
import hashlib
import zipfile

import pytest

from compiler import calibration_text
from compiler.calibration_text import (
    CALIBRATION_TOKENS,
    NEWS_FIRST,
    calibration_excerpt,
    calibration_tokens,
    check_apart,
    compile_calibration,
    default_calibration,
    excerpt,
    source_text,
)
from compiler.errors import CompileError, FrontendError
from compiler.frontends import packaged, wikitext
from compiler.frontends.load import load_model
from compiler.frontends.tokenizer import bytes_tokenizer
from compiler.quant.scheme import load_scheme
from compiler.text import CALIBRATION_TEXT

BYTES = bytes_tokenizer()
NEWS = "".join(f"{number:07d}\n" for number in range(5000))
PROSE = "An article of many words about one thing, " * 4


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with a news corpus and an encyclopedia in the cache."""
    monkeypatch.setenv("LUTRIP_CACHE", str(tmp_path))
    monkeypatch.setattr(packaged, "_installed", lambda packaged: None)
    pages = "".join(f"<page><revision><text>{text}</text></revision></page>"
                    for text in ("#REDIRECT [[B]]", f"'''A''' {PROSE}", "short"))
    with zipfile.ZipFile(tmp_path / "gensim-4.4.0-cp311-none.whl", "w") as archive:
        archive.writestr(packaged.SAMPLE_TEXT.path, NEWS)
        archive.writestr(packaged.ENCYCLOPEDIA.path,
                         bz2.compress(f"<mediawiki>{pages}</mediawiki>".encode()))
    return tmp_path


def test_calibration_takes_the_end_of_the_news(wheel):
    made = calibration_excerpt(BYTES, "news")
    assert bytes(made.ids).decode() == NEWS[NEWS_FIRST:NEWS_FIRST + CALIBRATION_TOKENS]
    assert (made.first, made.end) == (20480, 26624)
    assert made.sha256 == hashlib.sha256(NEWS.encode()).hexdigest()
    assert calibration_tokens(BYTES, "news", 4) == list(NEWS[NEWS_FIRST:NEWS_FIRST + 4].encode())
    with pytest.raises(CompileError, match=r"news has 19520 tokens from place 20480 on, fewer"):
        calibration_tokens(BYTES, "news", 20000)


def test_other_texts_begin_at_their_start(wheel, tmp_path):
    assert bytes(calibration_tokens(BYTES, "builtin")).decode() == CALIBRATION_TEXT
    assert source_text("wikipedia") == f"A {PROSE.strip()}\n"
    path = tmp_path / "text.txt"
    path.write_text("abcdef")
    assert calibration_tokens(BYTES, str(path), 3) == list(b"abc")
    assert calibration_tokens(BYTES, str(path)) == list(b"abcdef")
    path.write_text("")
    with pytest.raises(CompileError, match="has no tokens"):
        calibration_tokens(BYTES, str(path))
    with pytest.raises(CompileError, match="no such text; give a file or one of news, wikipedia"):
        calibration_tokens(BYTES, "nws")


def test_calibration_is_not_evaluated(wheel, tmp_path):
    calibration = calibration_excerpt(BYTES, "news")
    check_apart(excerpt(BYTES, "news", 0, NEWS_FIRST), calibration)
    check_apart(excerpt(BYTES, "news", calibration.end, 100), calibration)
    copy = tmp_path / "copy.txt"
    copy.write_text(NEWS)
    for source in ("news", str(copy)):
        with pytest.raises(CompileError, match=r"tokens 20480 to 26623 of news, which overlap"):
            check_apart(excerpt(BYTES, source, 0, NEWS_FIRST + 1), calibration)
    assert default_calibration(excerpt(BYTES, str(copy), 0, 9)) == "news"
    assert default_calibration(excerpt(BYTES, "builtin", 0, 9)) == "builtin"


def test_without_the_wheel(tmp_path, monkeypatch):
    monkeypatch.setenv("LUTRIP_CACHE", str(tmp_path))
    monkeypatch.setattr(packaged, "_installed", lambda packaged: None)
    assert default_calibration(excerpt(BYTES, "builtin", 0, 9)) == "builtin"
    with pytest.raises(FrontendError, match="the sample text is not here: run `pip download"):
        calibration_tokens(BYTES, "wikipedia")
    (tmp_path / "gensim-4.4.0-cp311-none.whl").write_bytes(b"PK")
    with pytest.raises(FrontendError, match="the wheel is damaged"):
        calibration_tokens(BYTES, "wikipedia")


def test_markup_is_left_out():
    text = ("{{Infobox|{{nested}}|x=1}}[[File:a.jpg|thumb|of [[birds]]]]'''Birds''' are "
            "[[animal|animals]] with [[feather]]s<ref name=\"a\">{{cite}}</ref>, "
            "[http://x.org see there]; " + "they sing. " * 12 + "\n\n* a list " + "x" * 200
            + "\n{| class\n| table " + "y" * 200 + "\n|}\nshort\n<!-- gone -->")
    assert wikitext.prose(text) == (
        "Birds are animals with feathers, see there; " + ("they sing. " * 12).strip() + "\n")


def test_compile_takes_much_text_only_for_weights_that_need_it(monkeypatch):
    model = load_model("shape:tiny")
    assert compile_calibration(model, load_scheme("simd-w8a8-tiny")) == "builtin"
    monkeypatch.setitem(calibration_text.SOURCES, "news", lambda: "some news")
    assert compile_calibration(model, load_scheme("rowgen-2bit")) == "news"

    def absent() -> str:
        raise FrontendError("it is not here")

    monkeypatch.setitem(calibration_text.SOURCES, "news", absent)
    assert compile_calibration(model, load_scheme("rowgen-2bit")) == "builtin"
