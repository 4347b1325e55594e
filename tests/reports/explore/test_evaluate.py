"""Outcomes of points: the figures of ``lutrip estimate``, cheap checks first, and why not."""

from __future__ import annotations

import dataclasses
import json
import math
import random

import pytest

from compiler.quant.scheme import load_scheme
from hw.presets import names
from lutrip.estimating import estimate_values
from reports.explore import evaluate
from reports.explore.accuracy import load_sensitivities, map_key
from reports.explore.evaluate import BESIDE_LAYERS, evaluate_point
from reports.explore.metrics import METRICS
from reports.explore.space import design_of, point_of
from reports.explore.study import load_study
from tests.reports.explore.studies import small

FIRST = (0, 0, 0, 0)


def test_figures_are_those_of_estimate(tmp_path):
    study = small(tmp_path)
    outcome = evaluate_point((0, 2, 0, 1), study)
    assert outcome.state == "feasible"
    design = design_of((0, 2, 0, 1), study)
    assert design.hardware.clock_mhz == 200
    seconds = joules = tokens = first = 0.0
    for workload in study.workloads:
        file = tmp_path / "hardware.yaml"
        file.write_text(json.dumps({**dataclasses.asdict(design.hardware)}))
        values = estimate_values("shape:tiny", "simd-w4a8-tiny", str(file), workload.prefill,
                                 workload.decode, "ddr4-kv260")
        first += workload.weight * values["prefill"]["latency_s"] / 4
        seconds += workload.weight * values["decode"]["latency_s"]
        joules += workload.weight * values["decode"]["energy_j"]
        tokens += workload.weight * workload.decode
    metrics = outcome.metrics
    assert metrics["time_to_first_token_s"] == pytest.approx(first, rel=1e-6)
    assert metrics["time_per_token_s"] == pytest.approx(seconds / tokens, rel=1e-6)
    assert metrics["energy_per_token_j"] == pytest.approx(joules / tokens, rel=1e-6)
    assert metrics["tokens_per_s"] == pytest.approx(1 / metrics["time_per_token_s"])
    assert metrics["power_w"] == pytest.approx(joules / seconds, rel=1e-6)
    assert 0 < metrics["layers_time_per_token_s"] < metrics["time_per_token_s"]
    assert set(metrics) <= set(METRICS)
    assert set(outcome.bounds) == {"prefill", "decode"}


def test_a_file_runs_with_its_own_blocks(packaged_model, tmp_path):
    """As for ``lutrip estimate``, not with the groups that the scheme has for other weights."""
    study = small(
        tmp_path, ("shape:tiny", packaged_model), ("hardware: tiny", "hardware: sim"),
        ("scheme: simd-w4a8-tiny", "scheme: simd-w4a8"),
        ("[simd-w4a8-tiny, simd-w8a8-tiny]", "[simd-w4a8]"),
        ("[simd-w4a8-tiny, simd-w8a8-tiny, rowgen-2bit]", "[simd-w4a8, rowgen-2bit]"))
    design, workload = design_of(FIRST, study), study.workloads[0]
    found = evaluate.estimate_workload(design, study.named.model(study.model), workload)
    file = tmp_path / "hardware.yaml"
    file.write_text(json.dumps(dataclasses.asdict(design.hardware)))
    values = estimate_values(packaged_model, "simd-w4a8", str(file), workload.prefill,
                             workload.decode, "ideal")
    assert found.decode is not None
    assert round(found.decode.cycles) == values["decode"]["cycles"]
    assert round(found.prefill.cycles) == values["prefill"]["cycles"]
    assert {name: round(count) for name, count in found.decode.counters.items()} == (
        values["decode"]["counters"])


def test_layers_alone_leave_out_what_is_beside_them(tmp_path):
    study = small(tmp_path)
    found = evaluate.estimate_workload(
        design_of(FIRST, study), study.named.model(study.model), study.workloads[0])
    names = {name.partition(".")[0] for name in found.decode.path}
    assert set(BESIDE_LAYERS[:2]) <= names
    assert "next_token" in names or "head" in names
    beside = sum(cycles for name, cycles in found.decode.path.items()
                 if name.partition(".")[0] in BESIDE_LAYERS)
    assert evaluate.layer_cycles(found.decode) == pytest.approx(found.decode.cycles - beside)


def test_cheap_constraints_come_before_the_cycle_model(tmp_path, monkeypatch):
    study = small(tmp_path, ("ports: {max: 8}", "lut: {max: 10}\n  time_per_token_s: {max: 9}"))
    monkeypatch.setattr(evaluate, "estimate_workload", None)
    outcome = evaluate_point(FIRST, study)
    assert outcome.state == "infeasible"
    assert outcome.reason == "LUTs at most 10"
    assert outcome.violations["lut"] > 1
    assert "time_per_token_s" not in outcome.violations


def test_late_constraints(tmp_path):
    study = small(tmp_path, ("ports: {max: 8}", "time_per_token_s: {max: 1.0e-9}"))
    outcome = evaluate_point(FIRST, study)
    assert outcome.state == "infeasible"
    assert outcome.reason == "time per token at most 1.000 ns"
    assert outcome.metrics["time_per_token_s"] > 0


def test_devices_and_headroom(tmp_path):
    large = small(tmp_path, ("hardware: tiny", "hardware: v80"),
                  ("constraints:\n  ports: {max: 8}\n", ""),
                  ("rowgen-2bit]", "rowgen-2bit]\n  hardware.device: [kv260, v80]"))
    small_card = evaluate_point((0, 0, 0, 0, 0), large)
    assert small_card.state == "infeasible"
    assert small_card.reason.startswith("does not fit AMD Kria KV260")
    assert small_card.violations["fits"] > 0
    tight = small(tmp_path, ("hardware: tiny", "hardware: kv260"),
                  ("objectives:", "headroom: true\nobjectives:"))
    outcome = evaluate_point(FIRST, tight)
    assert outcome.state == "infeasible"
    assert "without headroom" in outcome.reason


def test_refused_points_say_why(tmp_path):
    study = small(tmp_path, ("scheme.attention: [simd-w4a8-tiny, simd-w8a8-tiny]",
                             "hardware.vector_length: [2, 4]"))
    refused = evaluate_point((1, 0, 2, 0), study)
    assert refused.state == "refused"
    assert "vector_length" in refused.reason or "vectors of" in refused.reason
    assert "\n" not in refused.reason
    long = small(tmp_path, ("prefill: 12", "prefill: 100000"))
    assert "100002 positions" in evaluate_point(FIRST, long).reason


def test_points_have_accuracy(tmp_path):
    study = small(tmp_path, ("model: shape:tiny", "model: shape:tiny\naccuracy: smollm2-135m"),
                  ("[simd-w4a8-tiny, simd-w8a8-tiny, rowgen-2bit]", "[rowgen-2bit]"),
                  ("scheme: simd-w4a8-tiny", "scheme: simd-w4a8"),
                  ("[simd-w4a8-tiny, simd-w8a8-tiny]", "[rowgen-2bit, rowgen-3bit]"),
                  ("ports: {max: 8}", "perplexity_ratio: {max: 30}"))
    known = load_sensitivities("smollm2-135m")
    assert evaluate_point((0, 0, 0, 0), study, known).accuracy == "measured"
    outcome = evaluate_point((1, 0, 0, 0), study, known)
    assert outcome.state == "feasible"
    assert outcome.accuracy == "predicted"
    assert outcome.metrics["perplexity_ratio"] == pytest.approx(
        math.exp(outcome.metrics["loss_nats"]))


def test_points_have_the_precision_of_their_cache(tmp_path):
    study = small(tmp_path, ("model: shape:tiny", "model: shape:tiny\naccuracy: smollm2-135m"),
                  ("scheme: simd-w4a8-tiny", "scheme: simd-w4a8"),
                  ("[simd-w4a8-tiny, simd-w8a8-tiny]", "[rowgen-2bit]"),
                  ("[simd-w4a8-tiny, simd-w8a8-tiny, rowgen-2bit]", "[rowgen-2bit]"),
                  ("memory: [ideal, ddr4-kv260]", "hardware.value_bits: [8, 4]"))
    shipped = load_sensitivities("smollm2-135m")
    added = {(8, 4): {map_key(load_scheme("rowgen-2bit")): (0.25, "values of 4 bits")}}
    known = dataclasses.replace(shipped, cache=added)
    wide, narrow = (evaluate_point((0, 0, 0, bits), study, known) for bits in (0, 1))
    assert narrow.metrics["loss_nats"] == pytest.approx(wide.metrics["loss_nats"] + 0.25)
    assert narrow.key != wide.key
    assert (wide.accuracy, narrow.accuracy) == ("measured", "measured")
    refused = evaluate_point((0, 0, 0, 1), study, dataclasses.replace(shipped, cache={}))
    assert refused.state == "refused"
    assert refused.reason == ("values of 4 bits were not measured on smollm2-135m; "
                              "use key_bits 8, value_bits 8")


@pytest.mark.parametrize("name", names("studies"))
def test_ready_studies_have_designs(name, packaged_model):
    """Some of the points, drawn at random, can be built and meet the constraints."""
    study = load_study(name)
    known = None if study.accuracy is None else load_sensitivities(study.accuracy)
    tried = random.Random(2).sample(range(study.space), min(study.space, 500))
    assert any(evaluate_point(point_of(index, study), study, known).state == "feasible"
               for index in tried)
