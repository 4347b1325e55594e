"""``lutrip explore``: from a study file to a report, proved in RTL; its errors; Ctrl-C."""

from __future__ import annotations

import json
import math
import shlex
import signal
import subprocess
import sys
import time

import pytest

from compiler.text import DEFAULT_PROMPT
from lutrip.cli import main
from reports.explore.journal import FILE
from tests.reports.explore.studies import TEXT, write


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explored")
    study = write(folder)
    status = main(["explore", str(study), "--out", str(folder / "out"), "--json",
                   str(folder / "values.json")])
    return status, folder / "out", json.loads((folder / "values.json").read_text())


def test_result(explored):
    status, out, values = explored
    assert status == 0
    written = json.loads((out / "study.json").read_text())
    assert {key: values[key] for key in written} == written
    assert written["study_text"] == TEXT
    assert written["counts"]["distinct"] == len(written["points"]["id"]) == 36
    assert written["counts"]["front"] == len(written["designs"]) == sum(
        written["points"]["front"])
    assert values["evaluated"] == 36
    first = written["designs"][0]
    column = written["points"]["metrics"]["time_per_token_s"]
    assert first["metrics"]["time_per_token_s"] == min(x for x in column if x is not None)
    assert first["neighbours"]
    assert any("instead of" in line for line in written["findings"])
    for name in ("report.html", "points.csv", "front.csv"):
        assert (out / name).stat().st_size > 100
    assert list((out / "figures").glob("*.svg"))


def test_front_is_proved_in_rtl(explored):
    _, _, values = explored
    rows = values["confirmations"]
    assert {row["phase"] for row in rows} == {"prefill", "decode"}
    for row in rows:
        assert row["bit_exact"]
        assert row["writes"] > 500
        assert abs(row["error"]) < 0.05
    assert values["designs"][0]["confirmation"] == [
        row for row in rows if row["id"] == values["designs"][0]["id"]]


def test_files_reproduce_the_design(explored, capsys):
    _, out, values = explored
    design = values["designs"][0]
    assert main(["estimate", *design["commands"][0].split()[2:], "--json",
                 str(out / "again.json")]) == 0
    capsys.readouterr()
    again = json.loads((out / "again.json").read_text())
    (phase,) = [row for row in design["phases"]
                if row["workload"] == "short" and row["phase"] == "decode"]
    assert again["decode"]["cycles"] == phase["cycles"]
    assert again["decode"]["energy_j"] == pytest.approx(phase["energy_j"])


def test_resume_takes_everything_over(explored, tmp_path, capsys):
    _, out, values = explored
    arguments = ["explore", str(out.parent / "small.yaml"), "--out", str(out), "--no-confirm"]
    assert main(arguments) == 2
    assert "--resume goes on with them" in capsys.readouterr().err
    report = tmp_path / "again.json"
    assert main([*arguments, "--resume", "--json", str(report)]) == 0
    again = json.loads(report.read_text())
    assert (again["evaluated"], again["taken_over"]) == (0, 36)
    assert again["points"] == values["points"]


def heed_interrupts():
    """A process that a shell put into the background, such as a test's, was told to ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupted_then_resumed(tmp_path):
    """Ctrl-C in the middle; the rest gives the same front."""
    text = TEXT.replace("{from: 50, to: 200, factor: 2}", "{from: 50, to: 200, step: 10}")
    study, out = write(tmp_path, text), tmp_path / "out"
    count = 16 * 12
    command = [sys.executable, "-m", "lutrip.cli", "explore", str(study), "--out", str(out),
               "--no-confirm"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True, preexec_fn=heed_interrupts) as process:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if (out / FILE).is_file() and (out / FILE).read_text().count("\n") > 5:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not (out / "study.json").exists()
    lines = (out / FILE).read_text().splitlines()[1:]
    assert 0 < len(lines) < count
    report, whole = tmp_path / "values.json", tmp_path / "whole.json"
    assert main([*command[3:], "--resume", "--json", str(report)]) == 0
    again = json.loads(report.read_text())
    assert again["evaluated"] + len(lines) == count
    assert main(["explore", str(study), "--out", str(tmp_path / "whole"), "--no-confirm", "--json",
                 str(whole)]) == 0
    assert again["points"] == json.loads(whole.read_text())["points"]


@pytest.mark.parametrize(("change", "said"), [
    (("objectives:", "objective:"), "small.yaml:16:1: unknown key 'objective'; did you mean"),
    (("ports: {max: 8}", "ports: {max: 1, min: 2}"), "small.yaml:15:10: no memory ports is at "),
    (("hardware: tiny", "hardware: tinny"), "did you mean tiny?"),
    (("ports: {max: 8}", "lut: {max: 1}"),
     "small.yaml:15:8: no design meets the constraints; 36 of 36 points break this one"),
    (("hardware.clock_mhz: {from: 50, to: 200, factor: 2}", "hardware.vector_length: [3]"),
     "no design can be built"),
])
def test_errors(tmp_path, capsys, change, said):
    study = write(tmp_path, TEXT.replace(*change))
    assert main(["explore", str(study), "--out", str(tmp_path / "out"), "--no-confirm"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_unknown_sensitivity(tmp_path, capsys):
    text = TEXT.replace("model: shape:tiny", "model: shape:tiny\naccuracy: smollm2-135m")
    study = write(tmp_path, text)
    assert main(["explore", str(study), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "no sensitivity of smollm2-135m is known for simd-w4a8-tiny, simd-w8a8-tiny" in error
    assert "--measure measures it" in error


@pytest.mark.parametrize(("arguments", "status", "said"), [
    (["--scheduler", "tcp://127.0.0.1:1", "--storage", "sqlite:///x"], 2, "exclude each other"),
    (["--worker"], 2, "--worker needs --storage"),
    (["--storage", "nosuch://x"], 3, "give a database such as"),
])
def test_wrong_options(tmp_path, capsys, arguments, status, said):
    study = write(tmp_path)
    assert main(["explore", str(study), "--out", str(tmp_path / "out"), *arguments]) == status
    assert said in capsys.readouterr().err


OWN = """\
title: own model
model: shape:tiny
accuracy: shape:tiny
workloads:
  - {prefill: 6, decode: 4}
hardware: sim
scheme: simd-w8a8
parameters:
  scheme.mlp: [simd-w8a8, simd-w4a8-g64-nearest]
objectives: [time_per_token_s, lut]
evaluate: {schemes: 1, tokens: 200, text: TEXT}
"""


def test_a_model_of_ones_own_is_measured_and_evaluated(tmp_path, capsys, monkeypatch):
    """Nothing is known of it: sensitivities first, then the whole model for the front's best."""
    monkeypatch.setenv("LUTRIP_CACHE", str(tmp_path / "cache"))
    text, out, report = tmp_path / "text.txt", tmp_path / "out", tmp_path / "values.json"
    text.write_text(f"{DEFAULT_PROMPT}\n" * 3)
    study = write(tmp_path, OWN.replace("TEXT", str(text)))
    arguments = ["explore", str(study), "--out", str(out), "--no-confirm", "--json", str(report)]
    assert main(arguments) == 2
    assert "is known for simd-w4a8-g64-nearest, simd-w8a8; --measure" in capsys.readouterr().err
    assert main([*arguments, "--measure"]) == 0
    assert "nats measured" in capsys.readouterr().out
    values = json.loads(report.read_text())
    (row,) = values["evaluations"]
    assert row["error"] is None
    assert row["predictions"] == 199
    designs = {design["id"]: design for design in values["designs"]}
    own = designs[row["id"]]["accuracy"]
    assert (own["provenance"], own["loss_nats"]) == ("measured", row["measured_nats"])
    assert own["source"] == row["command"]
    assert values["points"]["accuracy"].count("measured") == 1
    assert row["predicted_nats"] != row["measured_nats"]
    assert "</html>" in (out / "report.html").read_text()
    # The command that the report names finds the same.
    again = tmp_path / "again.json"
    assert main([*shlex.split(row["command"])[1:], "--json", str(again)]) == 0
    found = json.loads(again.read_text())
    assert math.log(found["perplexity"] / found["perplexity_float"]) == pytest.approx(
        row["measured_nats"])
    assert main([*arguments, "--resume", "--no-evaluate"]) == 0
    assert json.loads(report.read_text())["evaluations"] == []
    # Measured losses beyond a bound: the report says so, and so does the error.
    tight = write(tmp_path, study.read_text().replace("schemes: 1", "schemes: 4")
                  + "constraints: {loss_nats: {max: 5}}\n", "tight.yaml")
    bound = ["explore", str(tight), "--out", str(out), "--no-confirm", "--no-resume"]
    with monkeypatch.context() as patch:
        patch.setattr("lutrip.exploring.evaluating", lambda *_: lambda design, number: {
            "perplexity": 1e6, "perplexity_float": 1.0, "predictions": 1, "command": "made up"})
        capsys.readouterr()
        assert main(bound) == 2
    assert "no design meets the constraints" in capsys.readouterr().err
    shown = json.loads((out / "study.json").read_text())
    assert (shown["counts"]["front"], len(shown["evaluations"])) == (0, 2)
    assert "No design meets all constraints" in (out / "report.html").read_text()
    # What was measured on another text does not count here.
    other = tmp_path / "other.txt"
    other.write_text(text.read_text())
    elsewhere = write(tmp_path, OWN.replace("TEXT", str(other)), "elsewhere.yaml")
    assert main(["explore", str(elsewhere), "--out", str(out), "--no-confirm"]) == 2
    assert "holds sensitivities of text" in capsys.readouterr().err
    assert main([*arguments, "--no-resume", "--no-evaluate"]) == 0
    text.rename(tmp_path / "gone.txt")
    assert main([*arguments, "--resume"]) == 2
    assert "no such text; give news" in capsys.readouterr().err
    text.write_text("short")
    capsys.readouterr()
    assert main([*arguments, "--resume"]) == 0
    assert "not evaluated" in (said := capsys.readouterr().out)
    assert "ends before window 1" in said
