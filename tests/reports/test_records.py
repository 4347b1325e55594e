"""Records: what is written is read back; what is damaged is one line."""

import json
from pathlib import Path

import pytest

from hw.errors import LutripError
from reports.facts import labels
from reports.records import load_checks, load_record, load_records, run_record
from tests.reports.synthetic import (
    synthetic_demo,
    synthetic_run,
    synthetic_spans,
    synthetic_values,
)


def one_line(folder: Path) -> str:
    with pytest.raises(LutripError) as caught:
        load_records(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip(tmp_path: Path) -> None:
    written = synthetic_run(tmp_path)
    read = load_record(tmp_path)
    assert read == written
    assert load_records(tmp_path) == [written]
    assert not list(tmp_path.glob(".*"))


def test_demo_lists_its_runs_and_checks(tmp_path: Path) -> None:
    written = synthetic_demo(tmp_path)
    assert load_records(tmp_path) == written
    assert [row["scheme"] for row in load_checks(tmp_path)] == ["rowgen-2bit", "lut2d-tiny"]
    assert load_checks(tmp_path / "simd") == []


def test_more_keys_are_allowed() -> None:
    values = synthetic_values(extra=1)
    assert run_record(Path(), values, [])["extra"] == 1


@pytest.mark.parametrize(("key", "value", "said"), [
    ("cycles", 1.5, "result.cycles must be int"),
    ("cycles", True, "result.cycles must be int"),
    ("energy_j", float("nan"), "result.energy_j must be finite"),
    ("energy_j", "1 J", "result.energy_j must be a number"),
    ("parts", "mlp", "result.parts must be a list"),
    ("first_mismatch", {"instruction": 3}, "result.first_mismatch lacks opcode"),
    ("ports", [{"port": "w0"}], r"result.ports\[0\] lacks words"),
    ("counters", {"cycles": None}, "result.counters.cycles must be int"),
])
def test_wrong_values_are_named(key: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_record(Path(), synthetic_values() | {key: value}, [])


@pytest.mark.parametrize(("change", "said"), [
    ({"engine": "motor"}, "no engine is called 'motor'"),
    ({"start_cycle": -1}, "whole numbers"),
    ({"colour": "red"}, "unexpected keyword"),
])
def test_wrong_spans_are_named(change: dict[str, object], said: str) -> None:
    span = synthetic_spans(80)[0] | change
    with pytest.raises(ValueError, match=said):
        run_record(Path(), synthetic_values(), [span])


def test_missing_and_damaged_files_are_one_line(tmp_path: Path) -> None:
    assert "no such folder" in one_line(tmp_path / "nowhere")
    assert "holds no finished run" in one_line(tmp_path)
    synthetic_run(tmp_path)
    result, spans = tmp_path / "result.json", tmp_path / "spans.json"
    whole = result.read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"\xff\xfe{", b"[]", b"null", b'{"cycles": 1}'):
        result.write_bytes(data)
        assert str(tmp_path) in one_line(tmp_path)
    result.write_bytes(whole)
    for data in (b"7", b"[7]", b'[{"engine": "load"}]'):
        spans.write_bytes(data)
        assert "simulate again" in one_line(tmp_path)
    spans.unlink()
    assert "no spans.json" in one_line(tmp_path)


@pytest.mark.parametrize("text", [
    "{", "[]", '{"runs": 3}', '{"runs": [{}]}', '{"runs": []}', '{"runs": [], "tiny": [1]}',
])
def test_damaged_summary_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "summary.json").write_text(text)
    assert "summary.json" in one_line(tmp_path)


def test_summary_of_a_run_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"runs": [{"folder": "lut2d"}]}))
    assert f"{tmp_path / 'lut2d'}: holds no finished run" in one_line(tmp_path)


def test_labels_tell_runs_apart(tmp_path: Path) -> None:
    values = synthetic_values()
    tiny = synthetic_values(hardware={"name": "tiny"})
    records = [run_record(tmp_path / "a", values, []), run_record(tmp_path / "b", tiny, [])]
    assert labels(records) == ["lut2d on sim", "lut2d on tiny"]
    twice = [run_record(tmp_path / name, values, []) for name in ("a", "b")]
    assert labels(twice) == ["a", "b"]
    assert labels([twice[0]] * 2) == ["lut2d (1)", "lut2d (2)"]
