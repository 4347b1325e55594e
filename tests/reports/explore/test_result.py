"""What a study's result says: sentences, references, sums over workloads, files of designs."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from compiler.frontends.shapes import SHAPES
from compiler.quant.scheme import load_scheme
from hw.errors import LutripError
from lutrip.estimating import estimate_values
from reports.explore import details, evaluate
from reports.explore.accuracy import map_key
from reports.explore.confirm import of_first_layers
from reports.explore.evaluate import Outcome, evaluate_point, request_metrics, request_sums
from reports.explore.findings import best_line, change_line, findings_of, reference_lines
from reports.explore.job import Job
from reports.explore.journal import Journal, study_digest
from reports.explore.metrics import METRICS
from reports.explore.nothing import check_feasible
from reports.explore.pareto import best_points, front_points
from reports.explore.references import references_of
from reports.explore.result import confirmed_points, study_values
from reports.explore.run import Explored, Points, explore
from reports.explore.search import new_search, objectives_of, signed
from reports.explore.space import design_of, point_of
from reports.explore.workers import Here
from tests.reports.explore.studies import small

FIRST, SECOND = (0, 0, 0, 0), (0, 1, 0, 0)


def outcome(seconds, lut, joules=1.0, **more):
    return Outcome(state="feasible", key=f"{seconds} {lut} {joules}",
                   bounds={"prefill": "norm", "decode": "weight port"},
                   metrics={"time_per_token_s": seconds, "lut": lut, "energy_per_token_j": joules,
                            "tokens_per_s": 1 / seconds, **more})


def test_larger_is_better_for_speeds(tmp_path):
    study = small(tmp_path, ("[time_per_token_s, energy_per_token_j, lut]", "[tokens_per_s, lut]"))
    outcomes = {FIRST: outcome(2.0, 10), SECOND: outcome(1.0, 20), (0, 2, 0, 0): outcome(3.0, 30)}
    assert objectives_of(study, outcomes[SECOND]) == [-1.0, 20]
    assert signed("tokens_per_s", 5) == -5
    assert front_points(study, outcomes) == [SECOND, FIRST]
    assert best_points(study, outcomes) == [SECOND, FIRST]
    assert "design 1 " in best_line(study, outcomes, [SECOND, FIRST], {FIRST: 0, SECOND: 1},
                                    "tokens_per_s")
    state = Explored(study)
    state.note(list(outcomes.values()))
    assert state.best == 1.0


def test_confirmed_are_the_best_first(tmp_path):
    study = small(tmp_path, ("designs: 1", "designs: 2"))
    outcomes = {(0, n, 0, 0): outcome(1.0 + n, 30 - n, 5 - n % 2) for n in range(3)}
    assert front_points(study, outcomes) == list(outcomes)
    assert confirmed_points(study, outcomes) == [(0, 0, 0, 0), (0, 1, 0, 0)]
    by_lut = dataclasses.replace(study, choose="lut")
    assert confirmed_points(by_lut, outcomes) == [(0, 2, 0, 0), (0, 0, 0, 0)]


def test_sentences(tmp_path):
    study = small(tmp_path)
    row = {"parameter": "hardware.clock_mhz", "from": 100, "to": 200, "state": "feasible",
           "reason": "", "bounds": {"decode": "norm"},
           "metrics": {"time_per_token_s": 3.0, "energy_per_token_j": 1.0, "lut": 5.0}}
    assert change_line(study, outcome(1.5, 10), row) == (
        "clock_mhz 200 instead of 100: time per token times 2, LUTs times 0.5; decode bound by "
        "norm.")
    same = {**row, "metrics": {"time_per_token_s": 1.5, "energy_per_token_j": 1.0, "lut": 10.1}}
    assert change_line(study, outcome(1.5, 10), same) is None
    refused = {**row, "state": "refused", "reason": "too wide"}
    assert change_line(study, outcome(1.5, 10), refused) == (
        "Not clock_mhz 200 instead of 100: too wide.")
    outcomes = {FIRST: outcome(2.0, 10)}
    (line,) = reference_lines(outcomes, [FIRST], {FIRST: 7}, [
        {"name": "X", "provenance": "published", "metrics": {
            "time_per_token_s": 6.0, "energy_per_token_j": 0.25, "lut": 1}}])
    assert line == ("Beside X (published): time per token 3 times better (design 7), energy per "
                    "token 4 times worse (design 7).")
    found = findings_of(study, outcomes, [FIRST], {FIRST: 7}, {FIRST: [row]}, [])
    assert found[-1] == "What bounds decoding most, over 1 points: weight port 100%."


def test_nothing_feasible_names_the_closest(tmp_path):
    study = small(tmp_path, ("ports: {max: 8}", "lut: {max: 10}"))
    outcomes = {FIRST: dataclasses.replace(outcome(1.0, 30), state="infeasible",
                                           violations={"lut": 2.0}),
                SECOND: dataclasses.replace(outcome(1.0, 20), state="infeasible",
                                            violations={"lut": 1.0})}
    with pytest.raises(LutripError, match=r"15:8: .* 2 of 2 points .* closest has LUTs 20$"):
        check_feasible(study, outcomes)


def test_requests(tmp_path):
    study = small(tmp_path)
    design = design_of(FIRST, study)
    workload = study.workloads[0]
    found = evaluate.estimate_workload(design, study.named.model(study.model), workload)
    sums = request_sums(design, found, workload)
    file = tmp_path / "hardware.yaml"
    file.write_text(json.dumps(dataclasses.asdict(design.hardware)))
    values = estimate_values("shape:tiny", "simd-w4a8-tiny", str(file), workload.prefill,
                             workload.decode, "ideal")
    metrics = request_metrics(sums)
    assert metrics["request_s"] == pytest.approx(values["latency_s"])
    assert metrics["energy_to_first_token_j"] == pytest.approx(values["prefill"]["energy_j"])
    assert metrics["energy_per_request_j"] == pytest.approx(values["energy_j"])
    words = sum(count for name, count in values["decode"]["counters"].items()
                if name.startswith("read_words_"))
    assert metrics["read_bytes_per_token"] == pytest.approx(
        words * design.hardware.port_bytes / workload.decode, rel=1e-3)
    assert metrics["prefill_tokens_per_s"] == pytest.approx(values["prefill"]["tokens_per_s"])
    assert set(metrics) <= set(METRICS)


def qwen(folder, workloads):
    return small(
        folder, ("model: shape:tiny", "model: shape:qwen3-1.7b"),
        ("  - {name: short, prefill: 6, decode: 4, weight: 3}\n  - {prefill: 12, decode: 2}\n",
         workloads), ("search:", "references: [lut-llm, a100]\nsearch:"))


def test_references(tmp_path):
    one = references_of(qwen(tmp_path, "  - {prefill: 128, decode: 16}\n"))
    own = one[0]
    assert own["provenance"] == "published"
    assert own["metrics"]["layers_time_per_token_s"] == pytest.approx(5.108e-3, rel=1e-3)
    assert own["metrics"]["layers_time_to_first_token_s"] == pytest.approx(0.203, rel=1e-2)
    assert "energy_per_token_j" not in own["metrics"]
    assert {row["provenance"] for row in one if row["kind"] == "gpu"} == {"published", "modelled"}
    both = references_of(qwen(
        tmp_path, "  - {prefill: 128, decode: 16, weight: 3}\n  - {prefill: 32, decode: 16}\n"))
    short = references_of(qwen(tmp_path, "  - {prefill: 32, decode: 16}\n"))
    metric = "layers_time_to_first_token_s"
    assert both[0]["metrics"][metric] == pytest.approx(
        (3 * own["metrics"][metric] + short[0]["metrics"][metric]) / 4)
    assert references_of(small(tmp_path, ("search:", "references: [lut-llm]\nsearch:"))) == []


def test_files_of_a_design_say_all_of_it(tmp_path):
    study = small(
        tmp_path, ("scheme.attention: [simd-w4a8-tiny, simd-w8a8-tiny]",
                   "scheme.gather: [true]\n  scheme.down: [simd-w4a8-tiny]"),
        ("hardware: tiny", "hardware: sim"), ("scheme: simd-w4a8-tiny", "scheme: lut2d"))
    design = design_of((0, 0, 0, 0, 0), study)
    files = details.write_design(design, tmp_path / "design-0")
    written = load_scheme(files["scheme"])
    for linear in ("q", "down", "up"):
        told, meant = written.of(linear, 0), design.scheme.of(linear, 0)
        assert dataclasses.replace(told, name="") == dataclasses.replace(meant, name="")
    assert written.of("q", 0).gather
    ruled = dataclasses.replace(design, scheme=load_scheme("simd-w4a4-agile"))
    files = details.write_design(ruled, tmp_path / "design-1")
    assert load_scheme(files["scheme"]).token_rule == ruled.scheme.token_rule
    slow = dataclasses.replace(design, memory=dataclasses.replace(design.memory, latency_ns=999.0))
    files = details.write_design(slow, tmp_path / "design-2")
    assert files["memory"].endswith("memory.yaml")
    assert details.load_memory(files["memory"]).latency_ns == 999


def test_schemes_of_one_name_stay_apart(tmp_path):
    """Two files of the user's may be called alike; fields may be changed in place."""
    design = design_of(FIRST, small(tmp_path))
    part = load_scheme("simd-w8a8-tiny").default
    mixed = dataclasses.replace(
        load_scheme("simd-w4a8-tiny"), default=dataclasses.replace(part, name="mine", trip_max=0),
        layers={"down": dataclasses.replace(part, name="mine", trip_max=2),
                "gate": dataclasses.replace(part, name="mine", trip_max=1)})
    files = details.write_design(dataclasses.replace(design, scheme=mixed), tmp_path / "design-7")
    written = load_scheme(files["scheme"])
    assert map_key(written) == map_key(mixed)
    assert [written.of(name, 0).trip_max for name in ("q", "gate", "down")] == [0, 1, 2]


def test_changed_files_are_another_study(tmp_path):
    hardware = tmp_path / "own.yaml"
    values = dataclasses.asdict(design_of(FIRST, small(tmp_path)).hardware)
    hardware.write_text(json.dumps(values))
    study = small(tmp_path, ("hardware: tiny", f"hardware: {hardware}"))
    before = study_digest(study)
    hardware.write_text(json.dumps({**values, "tokens_max": values["tokens_max"] + 1}))
    # What was read for a study stays with it.
    assert study_digest(study) == before
    assert study_digest(small(tmp_path, ("hardware: tiny", f"hardware: {hardware}"))) != before


def test_result_shows_the_best_of_each_objective(tmp_path, monkeypatch):
    monkeypatch.setattr("reports.explore.result.DESIGNS", 1)
    study = small(tmp_path)
    with Journal(tmp_path / "out", study, resume=None) as journal:
        state = explore(study, new_search(study), Points(journal, Here(Job.of(study))))
    values = study_values(state, command="x", out=tmp_path / "out", known=None, error=None)
    shown = {design["id"] for design in values["designs"]}
    ids = list(state.outcomes)
    for metric in study.objectives:
        best = min(front_points(study, state.outcomes),
                   key=lambda point: state.outcomes[point].metrics[metric])
        assert ids.index(best) in shown
    json.dumps(values, allow_nan=False)


def test_layers_that_do_not_run_are_left_out():
    part = load_scheme("rowgen-2bit").default
    scheme = dataclasses.replace(load_scheme("simd-w4a8"), layers={
        "up": part, "0-4.down": part, "3.gate": part})
    cut = of_first_layers(scheme, 2)
    assert set(cut.layers) == {"up", "0-1.down"}
    cut.check_layers(2)
    assert of_first_layers(scheme, SHAPES["qwen3-1.7b"].layers).of("gate", 3) == part


def test_bounds_count_all_workloads(tmp_path, monkeypatch):
    study = small(tmp_path)
    called = []

    def bounds(phase):
        called.append(phase)
        return {"first": 1.0, "second": 0.0} if len(called) <= 2 else {"second": 10.0}

    monkeypatch.setattr(evaluate, "bound_cycles", bounds)
    found = evaluate_point(point_of(0, study), study)
    # Weights 3 and 1.
    assert found.bounds == {"prefill": "second", "decode": "second"}
    assert len(called) == 4
    assert np.isfinite(list(found.metrics.values())).all()
