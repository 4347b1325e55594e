"""The page: whole, self-contained, every number tagged, figures beside it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from hw.errors import LutripError
from lutrip.cli import main
from reports.numbers import Tag
from reports.page import render, write_report
from reports.records import RunRecord, load_records, run_record
from reports.text import comparison_table
from tests.reports.synthetic import synthetic_demo, synthetic_run, synthetic_values

EMPTY = {"html", "head", "meta", "img", "br", "link"}


class Checker(HTMLParser):
    """Collects what a page loads and whether its elements are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in EMPTY:
            self.open.append(tag)
        for name, value in attrs:
            if name == "src":
                self.sources.append(value or "")
            elif name == "href":
                self.targets.append(value or "")
            elif name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.open.pop() == tag


def check_page(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.sources
    assert all(source.startswith("data:image/png;base64,") for source in checker.sources)
    assert all(target.removeprefix("#") in checker.ids for target in checker.targets)
    assert "<script" not in text
    assert "url(" not in text
    assert "@import" not in text
    return checker


def test_page_of_one_run(tmp_path: Path) -> None:
    synthetic_run(tmp_path)
    page = write_report(tmp_path)
    text = page.read_text()
    checker = check_page(text)
    pictures = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert pictures == ["accuracy.png", "energy.png", "engines.png", "ports.png", "roofline.png",
                        "timeline.png"]
    assert len(checker.sources) == len(pictures)
    assert all((tmp_path / "figures" / name).read_bytes().startswith(b"\x89PNG")
               for name in pictures)
    for tag in Tag:
        assert f'<span class="tag {tag}"' in text
    for shown in ("120,000", "480.0 µs", "bit-exact", "10 ", "AMD Alveo U280", "busy_search",
                  "cycles in which search ran", "0x1000", "inferred from vendor reports"):
        assert shown in text
    assert not list(tmp_path.rglob(".*"))


def test_every_column_of_numbers_is_tagged(tmp_path: Path) -> None:
    text, _ = render(synthetic_demo(tmp_path))
    headings = re.findall(r'<th class="n">(.*?)</th>', text, re.DOTALL)
    assert headings
    assert all('class="tag ' in heading for heading in headings)
    tiles = re.findall(r'<div class="tile">\s*<div class="label">(.*?)</div>', text, re.DOTALL)
    assert tiles
    assert all('class="tag ' in tile for tile in tiles)


def test_page_of_two_runs(tmp_path: Path) -> None:
    synthetic_demo(tmp_path)
    text = write_report(tmp_path).read_text()
    check_page(text)
    for shown in ("lut2d", "simd-w4a8", "not bit-exact", "Icarus not installed",
                  "first mismatch: instruction 12 DRAIN layers.0.gate, element [1, 5]"):
        assert shown in text
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"cycles.png", "energy.png", "lut2d-timeline.png", "simd-w4a8-ports.png"} <= names


def test_equal_runs_give_equal_pages(tmp_path: Path) -> None:
    synthetic_run(tmp_path)
    first = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == first


def test_text_is_escaped() -> None:
    values = synthetic_values(title="<b>&", model="<script>")
    text, _ = render([run_record(Path(), values, [])])
    assert "<b>&" not in text
    assert "<script>" not in text
    assert "&lt;b&gt;&amp;" in text


@pytest.mark.parametrize("changes", [
    {"accuracy": [], "ports": [], "engines": [], "counters": {}, "memory_map": []},
    {"energy": {"table": "none", "causes": []}, "energy_j": 0, "tokens_per_j": 0},
    {"hardware": {"name": "old"}, "device": "gone"},
    {"bit_exact": False, "status": "hang", "errors": ["hang"], "cycles": 1000},
    {"layers": "0:3", "parts": ["mlp"], "wall_s": 0, "cycles_per_wall_s": 0},
])
def test_page_of_a_sparse_run(changes: dict[str, object]) -> None:
    check_page(render([run_record(Path(), synthetic_values(**changes), [])])[0])


def test_ranges_and_operations_of_the_energy() -> None:
    values = synthetic_values()
    values["energy"] |= {
        "likely_low_j": 0.011, "likely_high_j": 0.022, "card_j": 0.033, "operations": [
            {"operation": "layers.0.q", "engine": "linear", "busy_cycles": 7, "joules": 0.001}]}
    text, _ = render([run_record(Path(), values, [])])
    check_page(text)
    assert "on chip, likely 11.0 mJ to 22.0 mJ; with the card 33.0 mJ" in text
    assert re.search(r"Energy by operation.*layers\.0\.q</td><td>linear", text, re.DOTALL)


def test_page_of_a_run_without_work() -> None:
    values = synthetic_values()
    values["roofline"] = dict.fromkeys(values["roofline"], 0)
    text, _ = render([run_record(Path(), values, [])])
    check_page(text)


def test_terminal_table(tmp_path: Path) -> None:
    records: list[RunRecord] = synthetic_demo(tmp_path)
    console = Console(width=140, record=True, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        console.print(comparison_table(records))
    shown = capture.get()
    assert "lut2d" in shown
    assert "NO" in shown
    assert "90,000" in shown


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic_demo(tmp_path / "demo")
    summary = tmp_path / "report.json"
    assert main(["report", str(tmp_path / "demo"), "--json", str(summary)]) == 0
    assert "2 runs" in capsys.readouterr().out
    values = json.loads(summary.read_text())
    assert [run["name"] for run in values["runs"]] == ["lut2d", "simd-w4a8"]
    assert values["all_bit_exact"] is False
    assert Path(values["report"]).is_file()
    assert all(Path(path).is_file() for path in values["figures"])


def test_command_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "lutrip simulate" in error


def test_damaged_run_writes_nothing(tmp_path: Path) -> None:
    synthetic_demo(tmp_path)
    (tmp_path / "simd" / "result.json").write_text("{")
    with pytest.raises(LutripError):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "figures").exists()
    assert len(load_records(tmp_path / "lut2d")) == 1
