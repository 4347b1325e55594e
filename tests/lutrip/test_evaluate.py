"""``lutrip evaluate``: numbers as data, states taken over, and one line for what is wrong."""

from __future__ import annotations

import json

import pytest

from compiler.decoder import quantize
from lutrip import evaluation
from lutrip.cli import main

TEXT = "An entangled bank, clothed with many plants of many kinds, with birds singing.\n" * 3
TINY = ("evaluate", "--model", "shape:tiny", "--hw", "tiny", "--window", "64", "--tokens", "150")
COMMAND = (*TINY, "--scheme", "simd-w8a8-tiny")
WALL = ("quantize_s", "evaluate_s", "peak_memory_bytes")


@pytest.fixture
def here(tmp_path):
    """Arguments for a text and a work folder, and the file of the result."""
    text, result = tmp_path / "text.txt", tmp_path / "result.json"
    text.write_text(TEXT)
    return ["--text", str(text), "--work", str(tmp_path / "work"), "--json", str(result)], result


@pytest.mark.parametrize("flags", [(), ("--fixed-point-only",)])
def test_evaluate(here, capsys, flags):
    arguments, result = here
    assert main([*COMMAND, *arguments, *flags]) == 0
    printed = capsys.readouterr().out
    for words in ("perplexity", "147 predictions in 3 windows", "nats", "text: ", "tokens 0 to 149",
                  "calibration: Lincoln, Austen and Melville passages"):
        assert words in printed
    values = json.loads(result.read_text())
    assert (values["tokens"], values["windows"], values["predictions"]) == (150, 3, 147)
    assert values["perplexity"] == pytest.approx(values["perplexity_float"], rel=0.05)
    assert values["relative"] == pytest.approx(
        values["perplexity"] / values["perplexity_float"] - 1)
    assert values["fixed_point_only"] is bool(flags)
    assert 0 < values["top1_agreement"] <= 1
    assert 0 <= values["kl_divergence_nats"] < 0.1
    assert len(values["layer_errors"]) == 2
    assert values["bits_per_weight"] == (None if flags else pytest.approx(8.5))
    assert values["calibration"]["source"] == "builtin"
    assert len(values["text"]["sha256"]) == 64


def test_schemes_side_by_side(here, capsys):
    arguments, result = here
    assert main([*COMMAND, "--scheme", "simd-w4a8-tiny", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    first, second = (next(at for at, line in enumerate(lines) if line.startswith(scheme))
                     for scheme in ("simd-w8a8-tiny", "simd-w4a8-tiny"))
    assert first != second
    runs = json.loads(result.read_text())["runs"]
    assert [run["scheme"] for run in runs] == ["simd-w8a8-tiny", "simd-w4a8-tiny"]
    assert (first < second) == (runs[0]["perplexity"] < runs[1]["perplexity"])
    assert runs[0]["perplexity_float"] == runs[1]["perplexity_float"]
    assert runs[0]["kl_divergence_nats"] < runs[1]["kl_divergence_nats"]


def test_a_result_is_taken_over_and_made_again(here, monkeypatch):
    arguments, result = here
    assert main([*COMMAND, *arguments]) == 0
    first = json.loads(result.read_text())
    calls: list[int] = []

    def counted(*given, **options):
        calls.append(1)
        return quantize.quantize_decoder(*given, **options)

    monkeypatch.setattr(evaluation, "quantize_decoder", counted)
    assert main([*COMMAND, *arguments]) == 0
    assert json.loads(result.read_text()) == first
    assert not calls
    for again in (["--no-resume"], ["--first-window", "1"], ["--calibration-tokens", "100"]):
        calls.clear()
        assert main([*COMMAND, *arguments, *again]) == 0
        assert calls
        made = json.loads(result.read_text())
        same = {key for key in first if key not in WALL and made[key] == first[key]}
        assert (same == set(first) - set(WALL)) is (again == ["--no-resume"])


@pytest.mark.parametrize(("text", "more", "message"), [
    ("", (), "the text is too short for a perplexity: it has less than 2 tokens"),
    (None, (), "no.txt"),
    (TEXT, ("--first-window", "9"), "ends before window 9; give a smaller --first-window"),
    (TEXT, ("--calibration", "nws"), "nws: no such text; give a file or one of news"),
    (TEXT, ("--calibration-tokens", "9999"), "builtin has 2057 tokens, fewer than the 9999"),
    (TEXT, ("--scheme", "lut3d"), "did you mean lut2d?"),
])
def test_wrong_text(tmp_path, capsys, text, more, message):
    path = tmp_path / "no.txt"
    if text is not None:
        path.write_text(text)
    assert main([*COMMAND, "--text", str(path), "--work", str(tmp_path / "work"), *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_calibration_on_the_evaluated_text(here, tmp_path, capsys):
    arguments, _ = here
    assert main([*COMMAND, *arguments, "--calibration", str(tmp_path / "text.txt"),
                 "--calibration-tokens", "65", "--first-window", "1"]) == 2
    error = capsys.readouterr().err
    assert "calibration takes tokens 0 to 64 of" in error
    assert "which overlap the evaluated tokens 64 to 213; evaluate fewer" in error
    assert error.count("\n") == 1
