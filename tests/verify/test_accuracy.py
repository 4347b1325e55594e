"""The accuracy page: its plan, rows that are kept, bars, and text, without an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compiler.quant.scheme import load_scheme
from hw.errors import ConfigError
from hw.presets import load_hardware
from tests.verify.accuracy import run
from tests.verify.accuracy_page import bar_cell, limit
from tests.verify.accuracy_plan import (
    Row,
    command,
    evaluate_arguments,
    load_plan,
    row_key,
)

PLAN = """
model: shape:tiny
hardware: tiny
tokens: 100
sections:
  - title: First
    text: Some words.
    rows:
      - {scheme: simd-w8a8-tiny, method: int8, bar: 1.05, minutes: 1, gigabytes: 2}
      - {scheme: simd-w4a8-tiny, method: int4, bar_excess: {row: simd-w8a8-tiny, part: 0.5}}
  - title: Second
    text: More.
    rows:
      - {name: g = 16, scheme: simd-w8a8-tiny, set: {group: 16}, hw_set: {group_max: 64},
         method: int8}
"""
MADE = {"hardware": "tiny", "perplexity": 10.4, "perplexity_float": 10.0, "relative": 0.04,
        "top1_agreement": 0.9, "kl_divergence_nats": 0.0312, "bits_per_weight": 8.5,
        "quantize_s": 30.0, "peak_memory_bytes": 3_000_000_000, "predictions": 99, "windows": 1,
        "window_tokens": 512,
        "text": {"source": "news", "sha256": "ab" * 32, "first_token": 0, "tokens": 100},
        "calibration": {"source": "builtin", "sha256": "cd" * 32, "first_token": 0, "tokens": 50}}


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return load_plan(path)


def test_the_shipped_plan_is_whole(tmp_path):
    plan = load_plan(Path(__file__).with_name("accuracy.yaml"))
    for row in plan.rows.values():
        row_key(plan, row, tmp_path)
    assert {"simd-w4a8", "rowgen-2bit", "lut2d", "G = 64"} <= set(plan.rows)


def test_arguments_and_commands(plan, tmp_path):
    first, _, third = plan.rows.values()
    assert evaluate_arguments(plan, first, tmp_path) == [
        "evaluate", "--model", "shape:tiny", "--scheme", "simd-w8a8-tiny", "--hw", "tiny",
        "--tokens", "100"]
    arguments = evaluate_arguments(plan, third, tmp_path)
    scheme, hardware = (arguments[arguments.index(option) + 1] for option in ("--scheme", "--hw"))
    assert load_scheme(scheme).default.group == 16
    assert load_hardware(hardware).group_max == 64
    assert command(plan, first, "x.py") == (
        "lutrip evaluate --model shape:tiny --scheme simd-w8a8-tiny --hw tiny --tokens 100")
    assert command(plan, third, "x.py") == "python x.py --again 'g = 16'"


def test_bars_by_hand(plan):
    first, second, _ = plan.rows.values()
    results = {first.name: MADE, second.name: {**MADE, "relative": 0.0201}}
    assert limit(second, results) == pytest.approx(1.02)
    assert limit(second, {}) is None
    assert bar_cell(first, results) == (
        "at most +5.0 %: met; 0.5 of 1 min: met; 3.0 of 2 GB: **missed**")
    assert bar_cell(second, results) == "at most +2.0 %: **missed**"
    far = Row(name="x", scheme="x", method="x", bar=4.0)
    assert bar_cell(far, {"x": {**MADE, "relative": 3.2}}) == "at most 4 times: **missed**"


def test_rows_are_kept_and_made_again(plan, tmp_path):
    ran: list[str] = []

    def runner(arguments):
        ran.append(Path(arguments[arguments.index("--scheme") + 1]).stem)
        if "simd-w4a8-tiny" in arguments and len(ran) == 2:
            return {"error": "no such thing"}
        return MADE

    places = tmp_path / "data.json", tmp_path / "page.md", tmp_path / "schemes"
    run(plan, *places, runner=runner)
    assert ran == ["simd-w8a8-tiny", "simd-w4a8-tiny", "g---16"]
    page = places[1].read_text()
    assert "| simd-w8a8-tiny | int8 | 8.50 | 10.40 | +4.0 % | 90.0 % | 0.031 | at most" in page
    assert "| simd-w4a8-tiny | int4 |  |  |  |  |  | no such thing |" in page
    assert "g = 16: `simd-w8a8-tiny` with group 16, hardware group_max 64." in page
    assert "news, tokens 0 to 99 in 1 windows of 512, 99 predictions" in page
    ran.clear()
    run(plan, *places, runner=runner)
    assert ran == ["simd-w4a8-tiny"]
    ran.clear()
    run(plan, *places, again=["g = 16"], runner=runner)
    assert ran == ["g---16"]
    assert set(json.loads(places[0].read_text())["rows"]) == set(plan.rows)


@pytest.mark.parametrize(("old", "new", "message"), [
    ("bar: 1.05", "bra: 1.05", "unknown key 'bra'"),
    ("row: simd-w8a8-tiny", "row: simd", "simd-w4a8-tiny: bar_excess names no row: simd"),
    ("name: g = 16", "name: simd-w4a8-tiny", "two rows have the same name"),
])
def test_wrong_plans(tmp_path, old, new, message):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_plan(path)
