"""Folders side by side: differences marked, ratios to the first, one line for what cannot be."""

import json
from pathlib import Path

import pytest

from hw.errors import LutripError
from lutrip.cli import main
from reports.comparison import kind_of, write_comparison
from reports.differences import MISSING, result, settings_of
from reports.numbers import Tag
from reports.study_page import compare
from reports.study_page.study import load_study, study_of
from reports.study_page.tables import shown
from tests.reports.html_page import check_markup
from tests.reports.synthetic import synthetic_demo, synthetic_run
from tests.reports.synthetic_study import OBJECTIVES, synthetic_study


def two_studies(folder: Path) -> list[Path]:
    synthetic_study(folder / "a", 60)
    synthetic_study(folder / "b", 60, seed=7, name="other", model="shape:qwen3-0.6b",
                    study_text="name: other\nmodel: shape:qwen3-0.6b\n")
    return [folder / "a", folder / "b"]


def test_settings_and_ratios() -> None:
    rows = settings_of([{"same": 1, "odd": "a"}, {"same": 1, "odd": "b", "new": None}])
    assert [(row.label, row.values, row.differs) for row in rows] == [
        ("same", ("1", "1"), False), ("odd", ("a", "b"), True), ("new", (MISSING, "none"), True)]
    row = result("x", Tag.SIMULATED, [2.0, None, 5.0], str)
    assert row.values == ("2.0", MISSING, "5.0")
    assert row.ratios == (1.0, None, 2.5)
    assert result("x", Tag.SIMULATED, [0, 3], str).ratios == (None, None)


def test_studies(tmp_path: Path) -> None:
    folders = two_studies(tmp_path)
    made = write_comparison(folders, tmp_path / "out")
    text = made.page.read_text()
    check_markup(text)
    assert made.names == ("made-up", "other")
    assert {row.label for row in made.settings if row.differs} == {"model", "search seed"}
    assert "<mark>shape:qwen3-0.6b</mark>" in text
    assert "<ins>+model: shape:qwen3-0.6b</ins>" in text
    assert {path.name for path in made.figures} == {"fronts.png", "fronts.svg"}
    studies = [load_study(folder) for folder in folders]
    for name, row in zip(OBJECTIVES, made.results, strict=False):
        best = [min(value for value, state in zip(
            study["points"]["metrics"][name], study["points"]["state"], strict=True)
            if state == "feasible") for study in studies]
        assert row.label == f"best {studies[0].label(name)}"
        assert row.ratios == (1.0, pytest.approx(best[1] / best[0]))


def test_best_of_what_is_no_objective(tmp_path: Path) -> None:
    synthetic_study(tmp_path / "a", 60)
    synthetic_study(tmp_path / "b", 60, objectives=[{"name": "power_w", "goal": "maximize"}])
    studies = [load_study(tmp_path / name) for name in ("a", "b")]
    rows = {row.label: row for row in compare.study_results(studies)}
    assert list(rows)[:4] == [*(f"best {studies[0].label(name)}" for name in OBJECTIVES),
                              "best power"]
    points = studies[0]["points"]
    highest = max(power for power, state in zip(points["metrics"]["power_w"], points["state"],
                                                strict=True) if state == "feasible")
    assert rows["best power"].values[0] == shown(highest, "W")
    assert "–" not in rows["best time per token"].values


@pytest.mark.parametrize("accuracy", [("measured", "predicted"), ("predicted", "measured"),
                                      ("measured", "measured")])
def test_best_losses_are_measured_only_where_all_are(
    tmp_path: Path, accuracy: tuple[str, str]
) -> None:
    objectives = [{"name": "perplexity_ratio", "goal": "minimize"}]
    studies = []
    for name, kind in zip("ab", accuracy, strict=True):
        values = synthetic_study(tmp_path / name, 60, objectives=objectives)
        values["points"]["accuracy"] = [kind] * 60
        studies.append(study_of(tmp_path / name, values))
    row = compare.study_results(studies)[0]
    assert row.label == "best perplexity over float"
    assert row.tag == ("measured" if accuracy == ("measured", "measured") else "predicted")


def test_study_with_itself(tmp_path: Path) -> None:
    synthetic_study(tmp_path / "a", 30)
    made = write_comparison([tmp_path / "a"] * 3, tmp_path / "out")
    assert made.names == ("made-up (1)", "made-up (2)", "made-up (3)")
    assert not any(row.differs for row in (*made.settings, *made.results))
    assert "The study files are equal" in made.page.read_text()


def test_studies_without_a_common_metric(tmp_path: Path) -> None:
    folders = two_studies(tmp_path)
    studies = [load_study(folder) for folder in folders]
    values = dict(studies[1].values)
    points = values["points"]
    values["points"] = points | {"metrics": {"new": points["metrics"]["power_w"]}}
    values |= {"metrics": {"new": values["metrics"]["power_w"]},
               "objectives": [{"name": "new", "goal": "maximize"}], "designs": []}
    other = type(studies[1])(path=folders[1], values=values)
    text, drawings = compare.compare_studies([studies[0], other])
    assert drawings == {}
    assert "no metric in common" in text


def test_runs(tmp_path: Path) -> None:
    synthetic_demo(tmp_path / "demo")
    (tmp_path / "run").mkdir()
    synthetic_run(tmp_path / "run")
    made = write_comparison([tmp_path / "demo", tmp_path / "run"], tmp_path / "out")
    assert made.names == ("lut2d", "simd", "run")
    cycles = made.results[0]
    assert cycles.values == ("120,000", "90,000", "120,000")
    assert cycles.ratios == (1.0, 0.75, 1.0)
    assert [row.label for row in made.settings if row.differs] == ["scheme"]
    assert "<mark>simd-w4a8</mark>" in made.page.read_text()
    assert all(path.is_file() for path in made.figures)


def test_kinds(tmp_path: Path) -> None:
    synthetic_study(tmp_path / "study", 20)
    synthetic_demo(tmp_path / "demo")
    (tmp_path / "empty").mkdir()
    assert kind_of(tmp_path / "study") == "studies"
    assert kind_of(tmp_path / "demo") == "runs"
    for name, part in (("empty", "holds neither a finished run nor a study"),
                       ("nowhere", "no such folder")):
        with pytest.raises(LutripError, match=part):
            kind_of(tmp_path / name)
    with pytest.raises(LutripError, match=r"demo holds runs and .*study a study; compare runs"):
        write_comparison([tmp_path / "study", tmp_path / "demo"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(folder) for folder in two_studies(tmp_path)]
    assert main(["report", *folders, "--json", str(tmp_path / "made.json")]) == 0
    assert "2 studies, 2 of " in capsys.readouterr().out
    values = json.loads((tmp_path / "made.json").read_text())
    assert values["report"] == str(tmp_path / "comparison" / "report.html")
    assert values["kind"] == "studies"
    assert sum(row["differs"] for row in values["settings"]) == 2
    assert main(["report", folders[0], "--out", str(tmp_path / "x")]) == 2
    assert main(["report", folders[0], str(tmp_path / "nowhere")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "--out belongs to a comparison" in errors[0]
    assert "nowhere: no such folder" in errors[1]


def test_labels_of_studies_with_one_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        synthetic_study(tmp_path / name, 20)
    assert compare.labels([load_study(tmp_path / name) for name in ("a", "b")]) == ["a", "b"]
