"""``lutrip evaluate``: numbers as data, and one line for what is wrong."""

from __future__ import annotations

import json

import pytest

from lutrip.cli import main

TEXT = "An entangled bank, clothed with many plants of many kinds, with birds singing.\n" * 3
COMMAND = ("evaluate", "--model", "shape:tiny", "--scheme", "simd-w8a8-tiny", "--hw", "tiny",
           "--window", "64", "--tokens", "150")


@pytest.mark.parametrize("flags", [(), ("--fixed-point-only",)])
def test_evaluate(tmp_path, capsys, flags):
    text, result = tmp_path / "text.txt", tmp_path / "result.json"
    text.write_text(TEXT)
    assert main([*COMMAND, "--text", str(text), "--json", str(result), *flags]) == 0
    assert "perplexity" in capsys.readouterr().out
    values = json.loads(result.read_text())
    assert (values["tokens"], values["windows"], values["predictions"]) == (150, 3, 147)
    assert values["perplexity"] == pytest.approx(values["perplexity_float"], rel=0.05)
    assert values["relative"] == pytest.approx(
        values["perplexity"] / values["perplexity_float"] - 1)
    assert values["fixed_point_only"] is bool(flags)


@pytest.mark.parametrize(("text", "message"), [
    ("", "the text is too short for a perplexity: it has less than 2 tokens"), (None, "no.txt"),
])
def test_wrong_text(tmp_path, capsys, text, message):
    path = tmp_path / "no.txt"
    if text is not None:
        path.write_text(text)
    assert main([*COMMAND, "--text", str(path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
