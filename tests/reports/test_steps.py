"""Passes by position, operations by part, and one pass in time."""

from pathlib import Path

import pytest

from reports.decoder import memory_kinds, memory_sections
from reports.decoder_figures import joined
from reports.pass_spans import busy_cycles, pass_spans
from reports.records import run_record
from reports.steps import finished, growth, layer_rows, part_of, split_operation, steps_of
from tests.reports.synthetic_decoder import (
    decoder_values,
    failed_decoder,
    span,
    synthetic_decoder,
)


@pytest.mark.parametrize(("name", "part"), [
    ("layers.12.q.simd", "q, k, v, o projections"), ("layers.0.q_norm", "norms"),
    ("layers.0.q.rope", "attention"), ("layers.0.v.append.2", "attention"),
    ("layers.0.attention.0.mix.dequantize", "attention"), ("attention.0.softmax", "attention"),
    ("layers.3.attention_norm", "norms"), ("final_norm", "norms"),
    ("layers.3.attention_output.quantize", "q, k, v, o projections"),
    ("layers.3.mlp_hidden.search", "MLP"), ("layers.3.down.lut", "MLP"), ("head.simd", "head"),
    ("next_token", "head"), ("positions", "embedding"), ("transfer", "other"),
])
def test_parts(name: str, part: str) -> None:
    assert part_of(name) == part


def test_split_operation() -> None:
    assert split_operation("layers.12.q.simd") == (12, "q.simd")
    assert split_operation("attention.0.softmax") == (None, "attention.0.softmax")


def test_steps_of_whole_passes(tmp_path: Path) -> None:
    steps = steps_of(synthetic_decoder(tmp_path))
    assert [(step.positions, step.kind, step.cycles) for step in steps] == [
        ("0 to 4", "prefill", 6800), ("5", "decode", 4050), ("6", "decode", 4060),
        ("7", "decode", 4070)]
    line = growth(steps)
    assert line is not None
    assert line == pytest.approx((4000, 10))
    assert growth(steps[:2]) is None


def test_steps_of_sampled_layers() -> None:
    record = run_record(Path(), decoder_values([1]), [])
    steps = steps_of(record)
    assert [(len(step.ran), step.passes, step.cycles) for step in steps] == [
        (1, 5, 1933), (1, 5, 1016), (1, 5, 1020), (1, 5, 1023)]
    assert [step.token for step in steps] == [262, 267, 268, 269]
    assert [(row["layer"], row["in_rtl"], row["ran"]) for row in layer_rows(record)] == [
        (0, False, 0), (1, True, 4), (2, False, 0)]


def test_a_pass_that_differs_is_not_finished(tmp_path: Path) -> None:
    record = failed_decoder(tmp_path)
    assert [step.first for step in finished(record)] == [0, 5]


def test_spans_of_passes(tmp_path: Path) -> None:
    prefill, decode = pass_spans(synthetic_decoder(tmp_path))
    assert (decode.name, decode.cycles, decode.layer) == ("decode 5", 4050, 1)
    assert decode.window == (1000, 2000)
    assert min(each.start_cycle for each in decode.spans) == 0
    assert len(prefill.spans) == len(decode.spans) == 34
    assert [each.name for each in decode.layer_spans if each.engine == "softmax"] == [
        "attention.0.softmax"]
    busy = busy_cycles(decode)
    assert busy["linear"]["MLP"] == 3 * 370
    assert busy["linear"]["head"] == 900
    assert busy["search"]["MLP"] == 0


def test_near_spans_are_drawn_together() -> None:
    spans = [span("linear", "head", 0, 10), span("linear", "head", 12, 20),
             span("linear", "head", 50, 50)]
    assert joined(spans, 3) == [(0, 20), (50, 6)]
    assert joined(spans, -1) == [(0, 10), (12, 8), (50, 1)]


def test_memory_by_kind() -> None:
    record = run_record(Path(), decoder_values(), [])
    rows = memory_sections(record)
    assert [(row["kind"], row["use"]) for row in rows if row["use"] != "image"] == [
        ("token slots", "scratch"), ("scratch", "scratch"), ("key-value cache", "cache")]
    assert [row["kind"] for row in rows if row["section"].startswith("head")] == [
        "header", "head", "head"]
    kinds = memory_kinds(record)
    assert kinds[0] == {"kind": "head", "bytes": 200_000}
    assert sum(kind["bytes"] for kind in kinds) == 1_000_000
