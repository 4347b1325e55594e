"""``lutrip mix``: scheme files that evaluate takes, a front as data and as a figure, its errors."""

from __future__ import annotations

import json

import pytest

from compiler.quant.scheme import load_scheme
from compiler.text import DEFAULT_PROMPT
from hw.errors import LutripError
from hw.presets import load_hardware
from lutrip.cli import main
from lutrip.commands.mix import budget_of
from lutrip.mixing import energy_of, spread_over
from sim.energy import EVENTS, energy
from sim.energy_table import load_energy

COMMAND = ("mix", "--model", "shape:tiny", "--hw", "tiny", "--text-tokens", "24",
           "--candidates", "simd-w4a8-tiny,simd-w8a8-tiny,rowgen-2bit")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(f"{DEFAULT_PROMPT}\n" * 2)
    return str(path)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("mix")


def test_front_and_budget(text, out, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LUTRIP_CACHE", str(tmp_path))
    arguments = [*COMMAND, "--text", text, "--out", str(out)]
    assert main([*arguments, "--front", "4", "--evaluate", "1", "--evaluate-tokens", "60"]) == 0
    printed = capsys.readouterr().out
    values = json.loads((out / "front.json").read_text())
    points, singles = values["points"], {row["scheme"]: row for row in values["single"]}
    assert 2 <= len(points) <= 4
    assert [p["cost"] for p in points] == sorted(p["cost"] for p in points)
    assert points[0]["cost"] <= min(row["cost"] for row in singles.values())
    assert points[-1]["predicted_loss"] <= min(r["predicted_loss"] for r in singles.values())
    for point in points:
        assert sum(point["linears"].values()) == 14
        assert load_scheme(str(out / point["file"])).name == point["scheme"]
        assert f"{point['scheme']}: " in printed
    (measured,) = [p["measured"] for p in points if p["measured"] is not None]
    assert measured["perplexity"] > 1
    assert (out / "front.svg").read_text().startswith("<?xml")
    budget = (points[0]["cost"] + points[-1]["cost"]) / 2
    report = tmp_path / "mix.json"
    assert main([*arguments, "--budget", f"bytes={budget}", "--json", str(report)]) == 0
    (point,) = json.loads(report.read_text())["points"]
    assert point["cost"] <= budget
    assert not (out / "mix-2.yaml").exists()
    assert main([*arguments, "--budget", "energy=1n"]) == 2
    assert "no mix of these candidates costs 1e-09 or less" in capsys.readouterr().err


@pytest.mark.parametrize(("more", "message"), [
    (("--candidates", ","), "a mix needs at least one candidate scheme"),
    (("--candidates", "mix-lut-simd"), "candidate mix-lut-simd is a mix"),
    (("--candidates", "lut2d"), "64 activation centroids, it searches 8"),
    (("--candidates", "simd-w4a9"), "did you mean simd-w4a8?"),
    (("--budget", "bytes"), "--budget must be COST=AMOUNT such as bytes=30M"),
    (("--budget", "joules=3"), "a cost must be bytes, cycles, energy, not 'joules'"),
    (("--budget", "bytes=3M", "--cost", "energy"), "--cost energy does not go with --budget"),
    (("--text-tokens", "99999"), "fewer than the 99999 asked for; give a longer --text"),
    (("--text", "no.txt"), "no.txt"),
])
def test_wrong_input(text, more, message, capsys, tmp_path):
    assert main([*COMMAND, "--text", text, "--out", str(tmp_path / "out"), *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_budgets():
    assert budget_of("bytes=30M") == ("bytes", 30e6)
    assert budget_of("energy=1.5m") == ("energy", 1.5e-3)
    assert budget_of("cycles=2e6") == ("cycles", 2e6)
    with pytest.raises(LutripError):
        budget_of("bytes=3MB")
    assert spread_over(8, 3) == [0, 4, 7]
    assert spread_over(2, 5) == [0, 1]
    assert spread_over(5, 1) == [2]


def test_energy_is_that_of_the_energy_model():
    from hw.resources import load_device, total

    config = load_hardware("tiny")
    counters = {event.counter.rstrip("_"): 10 + i for i, event in enumerate(EVENTS)
                if event.counter != "read_words_"}
    counters |= {"read_words_w0": 7, "read_words_aux": 5, "cycles": 1000}
    device = load_device(config.device)
    expected = energy(counters, config, total(config), load_energy(device.energy, config.device))
    assert energy_of(config)(counters) == pytest.approx(expected.total.value)
