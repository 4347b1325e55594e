"""The page of a study: every part from study.json, whole or refused in one line."""

import csv
import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from hw.errors import LutripError
from lutrip.cli import main
from reports.numbers import Tag
from reports.study_page import tables
from reports.study_page.chart_data import chart_data, coded, rounded
from reports.study_page.page import (
    breakable,
    drawings_of,
    lighter,
    render,
    write_study_report,
)
from reports.study_page.study import Study, load_study, study_of
from tests.reports.html_page import check_markup
from tests.reports.synthetic_study import OBJECTIVES, REFERENCE_NAME, synthetic_study

FIGURES = ("bounds", "front", "importance", "parallel", "references", "rtl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("study")
    synthetic_study(place)
    write_study_report(place)
    return place


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return load_study(folder)


def changed(tmp_path: Path, **changes: Any) -> Study:
    synthetic_study(tmp_path, 60, **changes)
    return load_study(tmp_path)


def test_everything_is_written(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {"study.json", "report.html", "points.csv", "front.csv", "figures"}
    found = {path.name for path in (folder / "figures").iterdir()}
    assert found == {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    for name in FIGURES:
        assert (folder / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (folder / f"figures/{name}.svg").read_bytes()[:1000]
    assert not list(folder.rglob("*.partial"))


def test_markup(folder: Path, study: Study) -> None:
    text = (folder / "report.html").read_text()
    page = check_markup(text)
    assert len(page.sources) == 5
    assert {f"detail-{design}" for design in study.designs} <= set(page.ids)
    for tag in Tag:
        assert f'class="tag {tag}"' in text
    assert "# &lt;card&gt;" in text
    assert "# <card>" not in text


def test_what_the_page_says(folder: Path, study: Study) -> None:
    text = unescape((folder / "report.html").read_text())
    values = study.values
    first = values["designs"][0]
    for part in (*values["findings"], values["question"], values["command"], *first["commands"],
                 first["verdict"], "LUTs at most 1,267,909", "20,736 possible", REFERENCE_NAME,
                 "does not fit: lut by …", "optuna", "made-up source of cost"):
        assert part in text
    assert tables.shown(first["metrics"]["time_per_token_s"], "s") in text
    assert text.count("within the stated error") == 1
    assert "device: v80" in text


def test_losses_say_where_they_come_from(folder: Path, study: Study, tmp_path: Path) -> None:
    """Measured for some designs, predicted for others: in the table, in the detail, in the CSV."""
    text = unescape((folder / "report.html").read_text())
    section = text[text.index('<h2 id="accuracy">'):text.index('<h2 id="rtl">')]
    count = sum(study["points"]["accuracy"][study.rows[number]] == "measured"
                for number in study.front)
    assert 0 < count < len(study.front)
    assert f"On the front {count} of {len(study.front)} designs" in section
    for part in ("mix-of-everything, rows of 12 bits, keys of 4 bits", "0.625", "0.500", "1.649",
                 "3,066", "--scheme mix.yaml", "<td>too-wide</td>",
                 "not evaluated</span> hardware holds 128 inputs"):
        assert part in section
    first = study["evaluations"][0]["id"]
    detail = text[text.index(f'id="detail-{first}"'):]
    assert "0.500 nats" in detail[:detail.index("</article>")]
    measured = next(number for number in study.front if study.tag("perplexity_ratio", number)
                    == Tag.MEASURED)
    assert study.tag("time_per_token_s", measured) == Tag.MODELLED
    rows = list(csv.DictReader((folder / "points.csv").read_text().splitlines()))
    assert [row["accuracy"] for row in rows] == study["points"]["accuracy"]
    assert set(chart_data(study)["accuracy"]["values"]) == {"", "measured", "predicted"}
    silent = changed(tmp_path, accuracy_model=None)
    assert '<h2 id="accuracy">' not in render(silent, drawings_of(silent))


def test_equal_studies_give_equal_pages(folder: Path, tmp_path: Path) -> None:
    synthetic_study(tmp_path)
    write_study_report(tmp_path)
    for name in ("report.html", "points.csv", "figures/front.svg", "figures/front.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_tables_hold_every_point(folder: Path, study: Study) -> None:
    columns = study["points"]
    rows = list(csv.DictReader((folder / "points.csv").read_text().splitlines()))
    assert [int(row["id"]) for row in rows] == columns["id"]
    for place, row in enumerate(rows):
        value = columns["metrics"]["time_per_token_s"][place]
        assert row["time_per_token_s"] == ("" if value is None else str(value))
        assert row["scheme.mlp"] == columns["parameters"]["scheme.mlp"][place]
    front = list(csv.DictReader((folder / "front.csv").read_text().splitlines()))
    assert [int(row["id"]) for row in front] == study.front
    assert len(front) == study["counts"]["front"]
    assert all(row["front"] == "1" for row in front)


def test_headline_is_the_best_of_the_front(study: Study) -> None:
    columns = study["points"]
    found = tables.headline(study)
    assert [fact.label for fact, _ in found] == [f"lowest {study.label(name)}"
                                                 for name in OBJECTIVES]
    for name, (fact, design) in zip(OBJECTIVES, found, strict=True):
        best = min(value for value, state in zip(columns["metrics"][name], columns["state"],
                                                 strict=True) if state == "feasible")
        assert study.metric(name, design) == best
        unit = study["metrics"][name]["unit"]
        assert fact.value == tables.shown(best, unit)
        published = study["references"][0]["metrics"][name]
        assert fact.note.startswith(f"{published / best:.3g}"[:4])


def test_goals_turn_ratios(tmp_path: Path) -> None:
    study = changed(tmp_path, objectives=[{"name": "time_per_token_s", "goal": "maximize"}])
    (fact, design), = tables.headline(study)
    assert fact.label == "highest time per token"
    value = study.metric("time_per_token_s", design)
    assert value == max(study.metric("time_per_token_s", number) or 0 for number in study.front)
    assert tables.gain(study, "time_per_token_s", 2.0, 1.0) == 2.0
    assert tables.gain(study, "energy_per_token_j", 2.0, 1.0) == 0.5


def test_ratios_beside_references(study: Study) -> None:
    rows = tables.beside_references(study)
    assert rows[0]["id"] == study.best(OBJECTIVES[0])
    assert [row["name"] for row in rows][-2:] == [REFERENCE_NAME, "NVIDIA A100, INT4"]
    for row in rows:
        for name, cell in row["cells"].items():
            assert cell.ratio == pytest.approx(cell.value / rows[0]["metrics"][name])
    assert rows[0]["cells"]["time_per_token_s"].ratio == 1


def test_reasons_are_grouped_without_their_numbers(study: Study) -> None:
    rows = tables.reasons(study)
    assert sum(row["count"] for row in rows if row["state"] == "refused") \
        == study["counts"]["refused"]
    infeasible, = (row for row in rows if row["state"] == "infeasible")
    assert infeasible["reason"] == "does not fit: lut by …"
    assert infeasible["count"] == study["counts"]["infeasible"]
    assert infeasible["example"] in study["points"]["reason"]


def test_paths() -> None:
    steps = [{"name": str(place), "bound": "ab"[place % 2], "cycles": 10.0} for place in range(20)]
    steps[7]["cycles"] = 20.0
    bars = tables.largest([*steps, {"name": "none", "cycles": 0}], "cycles", "name", 4)
    assert [bar["name"] for bar in bars] == ["7", "0", "1", "2", "16 smaller"]
    assert sum(bar["share"] for bar in bars) == pytest.approx(1)
    assert [bar["length"] for bar in bars] == [0.125, 0.0625, 0.0625, 0.0625, 1]
    assert tables.largest([], "cycles", "name", 4) == []
    steps[7]["cycles"] = 10.0
    assert dict(tables.bound_shares(Study(Path(), {}), steps)) == {"a": 0.5, "b": 0.5}


def test_chart_data_keeps_every_value(study: Study) -> None:
    data, points = chart_data(study), study["points"]
    for each in data["parameters"]:
        assert [each["values"][code] for code in each["codes"]] \
            == points["parameters"][each["name"]]
    for name, column in data["columns"].items():
        for short, value in zip(column, points["metrics"][name], strict=True):
            assert (short is None) == (value is None)
            assert short is None or short == pytest.approx(value, rel=1e-5)
    assert data["map"] == ["hardware.lanes", "hardware.clock_mhz"]


def test_coded_and_rounded() -> None:
    assert coded(["b", "a", "b", 1, True], ["a"]) == {"values": ["a", "b", 1, True],
                                                      "codes": [1, 0, 1, 2, 3]}
    assert [rounded(value) for value in (None, 1_267_909, 2.0, 0.123456789)] \
        == [None, 1_267_909, 2, 0.123457]
    assert lighter("#000000") == "#4c4c4c"
    assert breakable("a.b_c<") == "a.<wbr>b_<wbr>c&lt;"


@pytest.mark.parametrize("changes", [
    {"references": [], "confirmations": [], "importance": {}, "designs": [], "findings": []},
    {"measured_error": None, "constraints": [], "accuracy_model": None, "workloads": []},
    {"objectives": [{"name": "power_w", "goal": "minimize"}], "state": "interrupted"},
])
def test_page_of_a_sparse_study(tmp_path: Path, changes: dict[str, Any]) -> None:
    study = changed(tmp_path, **changes)
    text = render(study, drawings_of(study))
    check_markup(text)
    assert ("The search was interrupted" in text) == ("state" in changes)


def test_page_without_a_feasible_point(tmp_path: Path) -> None:
    values = synthetic_study(tmp_path, 40, designs=[], evaluations=[], confirmations=[],
                             importance={})
    points = values["points"]
    values["points"] |= {"state": ["refused"] * 40, "front": [False] * 40,
                         "metrics": {name: [None] * 40 for name in points["metrics"]}}
    study = study_of(tmp_path, values)
    text = render(study, drawings_of(study))
    check_markup(text)
    assert "No design meets all constraints" in text
    values["points"] = {
        **points, **{name: [] for name in ("id", "state", "reason", "front", "accuracy",
                                           "bound_prefill", "bound_decode")},
        "parameters": {name: [] for name in points["parameters"]},
        "metrics": {name: [] for name in points["metrics"]}}
    empty = study_of(tmp_path, values)
    check_markup(render(empty, drawings_of(empty)))


def test_metrics_that_no_point_has_are_left_out(tmp_path: Path) -> None:
    values = synthetic_study(tmp_path, 20)
    del values["points"]["metrics"]["cost"]
    assert "cost" not in study_of(tmp_path, values)["metrics"]


def damage(values: dict[str, Any], path: str, new: Any) -> None:
    *way, last = path.split(".")
    place: Any = values
    for key in way:
        place = place[int(key) if key.isdigit() else key]
    if new is None:
        del place[last]
    else:
        place[int(last) if last.isdigit() else last] = new


@pytest.mark.parametrize(("path", "new", "part"), [
    ("format", 1, "has format 1, this version of lutrip reads 2"),
    ("title", None, "study lacks title"),
    ("points.state.3", "odd", "'odd' is none of feasible, infeasible, refused"),
    ("points.front", [True], "study.points.front has 1 entries, not 20"),
    ("points.id.1", 0, "study.points.id holds a number twice"),
    ("points.metrics.power_w.0", "much", "study.points.metrics.power_w[0] must be a number"),
    ("points.metrics.power_w.0", float("nan"), "NaN is no number"),
    ("points.metrics.other", [1.0] * 20, "study.metrics lacks other"),
    ("points.parameters.other", [1] * 20, "differ in other"),
    ("metrics.cost.provenance", "guessed", "no provenance is called 'guessed'"),
    ("objectives.0.goal", "shrink", "'shrink' is no goal"),
    ("objectives.0.name", "beauty", "lacks the objective beauty"),
    ("points.accuracy.3", "guessed", "study.points.accuracy: no provenance is called 'guessed'"),
    ("points.accuracy", [""], "study.points.accuracy has 1 entries, not 20"),
    ("evaluations.0.id", 999, "study.evaluations: there is no point 999"),
    ("confirmations.0.id", 999, "study.confirmations: there is no point 999"),
    ("designs.0.neighbours.0.state", 1, "study.designs.neighbours[0].state must be str"),
])
def test_damaged_study_is_refused_in_one_line(
    tmp_path: Path, path: str, new: Any, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    values = synthetic_study(tmp_path, 20)
    damage(values, path, new)
    (tmp_path / "study.json").write_text(json.dumps(values))
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert part in error
    assert "lutrip explore" in error
    assert {each.name for each in tmp_path.iterdir()} == {"study.json"}


def test_truncated_and_missing_study(tmp_path: Path) -> None:
    with pytest.raises(LutripError, match=r"holds no study \(no study.json\)"):
        load_study(tmp_path)
    synthetic_study(tmp_path, 20)
    whole = (tmp_path / "study.json").read_text()
    (tmp_path / "study.json").write_text(whole[:len(whole) // 2])
    with pytest.raises(LutripError, match="damaged"):
        load_study(tmp_path)
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(LutripError, match="has format None"):
        load_study(tmp_path)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic_study(tmp_path / "study", 40)
    assert main(["report", str(tmp_path / "study"), "--json", str(tmp_path / "made.json")]) == 0
    assert "points.csv" in capsys.readouterr().out
    values = json.loads((tmp_path / "made.json").read_text())
    assert len(values["figures"]) == 2 * len(FIGURES)
    assert all(Path(path).is_file()
               for path in (values["report"], *values["figures"], *values["tables"]))
