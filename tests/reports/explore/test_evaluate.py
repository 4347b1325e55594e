"""Outcomes of points: the figures of ``lutrip estimate``, cheap checks first, and why not."""

from __future__ import annotations

import dataclasses
import json
import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compiler.quant.scheme import load_scheme
from hw.config import EXACT_ROW_BITS
from hw.errors import ConfigError
from hw.presets import names
from lutrip.estimating import estimate_values
from reports.explore import evaluate
from reports.explore.accuracy import (
    Sensitivities,
    UnknownSchemeError,
    curve,
    load_sensitivities,
    map_key,
    scheme_key,
    sensitivities_of,
)
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


def table(**whole: float) -> Sensitivities:
    linears = ("q", "k", "v", "o", "gate", "up", "down")
    def row(name: str, loss: float) -> dict:
        part = load_scheme(name).default
        return {"name": name, "key": scheme_key(part),
                "losses": {linear: [loss, 2 * loss] for linear in linears}}
    rounded = [{"row_bits": 12, "key": map_key(load_scheme(name)), "nats": nats, "source": source}
               for name, nats, source in (("rowgen-2bit", 0.5, "narrow row"),
                                          ("rowgen-1.5bit", 0.25, "another row"))]
    return sensitivities_of({
        "rounded": rounded,
        "model": "m", "layers": 2, "command": "made up",
        "schemes": [row("rowgen-2bit", 0.5), row("simd-w4a8", 0.01)],
        "whole": [{"key": map_key(load_scheme(name)), "perplexity_ratio": ratio, "source": "row"}
                  for name, ratio in whole.items()]})


def test_losses_add_up_over_linears_and_layers(tmp_path):
    known = table()
    assert known.loss(load_scheme("rowgen-2bit")).nats == pytest.approx(7 * 1.5)
    mix = dataclasses.replace(load_scheme("simd-w4a8"), layers={
        "down": load_scheme("rowgen-2bit").default, "1.up": load_scheme("rowgen-2bit").default})
    found = known.loss(mix)
    assert found.nats == pytest.approx(5 * 0.03 + 1.5 + 0.01 + 1.0)
    assert found.provenance == "predicted"
    gathered = load_scheme("lut2d-gather").default
    assert scheme_key(gathered) == scheme_key(load_scheme("lut2d").default)
    with pytest.raises(UnknownSchemeError, match="no sensitivity of m is known"):
        known.loss(load_scheme("lut2d"))


def test_rounded_rows_lose_more():
    known = table(**{"rowgen-2bit": 2.0, "rowgen-1.5bit": 3.0})
    rows, multipliers = load_scheme("rowgen-2bit"), load_scheme("simd-w4a8")
    found = known.loss(rows, 12)
    assert found.nats == pytest.approx(math.log(2) + 0.5)
    assert (found.provenance, found.source) == ("measured", "narrow row")
    other = known.loss(load_scheme("rowgen-1.5bit"), 12)
    assert other.nats == pytest.approx(math.log(3) + 0.25)
    assert (other.provenance, other.source) == ("measured", "another row")
    mix = dataclasses.replace(multipliers, layers={"down": rows.default})
    predicted = known.loss(mix, 12)
    assert predicted.nats == pytest.approx(known.loss(mix).nats + 0.5)
    assert predicted.provenance == "predicted"
    assert known.loss(multipliers, 12) == known.loss(multipliers)
    with pytest.raises(UnknownSchemeError, match=r"rows of 9 bits .* use a row_bits of 12 or"):
        known.loss(rows, 9)


def test_a_measured_whole_counts_more():
    found = table(**{"rowgen-2bit": 2.0}).loss(load_scheme("rowgen-2bit"))
    assert (found.nats, found.provenance, found.source) == (math.log(2), "measured", "row")
    part = load_scheme("rowgen-2bit").default
    spelled = dataclasses.replace(load_scheme("simd-w4a8"), layers=dict.fromkeys(
        ("q", "k", "v", "o", "gate", "up", "down"), part))
    assert map_key(spelled) == map_key(load_scheme("rowgen-2bit"))
    others = [dataclasses.replace(spelled, layers={**spelled.layers, key: load_scheme(
        "simd-w4a8").default}) for key in ("down", "3.down")]
    assert len({map_key(scheme) for scheme in (spelled, *others)}) == 3


def test_sums_are_read_off_at_the_whole_models():
    pairs = ((0.1, 0.08), (1.0, 0.5), (0.3, 0.3))
    assert curve((), 0.7) == 0.7
    assert [curve(pairs, x) for x, _ in pairs] == pytest.approx([y for _, y in pairs])
    assert curve(pairs, 0.0) == 0
    assert curve(pairs, 0.05) == pytest.approx(0.04)
    assert curve(pairs, 0.65) == pytest.approx(0.4)
    assert curve(pairs, 4.0) == pytest.approx(2.0)
    # Whole models whose order is the other way round take their mean.
    assert curve((*pairs, (0.4, 0.2)), 0.35) == pytest.approx(0.25)
    assert curve(((0.2, 0.1), (0.2, 0.3)), 0.2) == pytest.approx(0.2)


@given(pairs=st.lists(st.tuples(st.floats(0, 20), st.floats(-1, 20)), max_size=8),
       totals=st.tuples(st.floats(0, 50), st.floats(0, 50)))
@example(pairs=[(2.2e-311, 16.0), (1.2e-38, 0.0005)], totals=(4.2, 2.2e-313))
@example(pairs=[(1e-300, 5.0), (0.1, 20.0)], totals=(0.0, 1e-301))
def test_a_larger_sum_is_never_a_smaller_loss(pairs, totals):
    """Whatever was measured, also less than float loses."""
    low, high = sorted(totals)
    assert 0 <= curve(tuple(pairs), low) <= curve(tuple(pairs), high) * (1 + 1e-9)


def test_noise_of_good_schemes_is_not_scaled_up():
    assert curve(((0.0004, 0.006),), 0.03) == pytest.approx(0.006 + 0.0296)
    assert curve(((0.03, -0.014),), 0.01) == 0
    assert curve(((0.0, -0.002),), 0.01) == pytest.approx(0.01)


def test_evaluations_better_predictions():
    known, rows = table(), load_scheme("rowgen-2bit")
    before = known.loss(rows).nats
    mix = dataclasses.replace(rows, layers={"down": load_scheme("simd-w4a8").default})
    assert known.loss(mix).nats == known.sum_of(mix)
    after = known.with_whole(rows, EXACT_ROW_BITS, math.exp(before / 2), "row")
    assert after.loss(mix).nats == pytest.approx(known.sum_of(mix) / 2)
    assert after.loss(mix).source == "made up, and 1 whole models"
    # Rounded rows and schemes of which nothing is known say nothing of the sums.
    assert known.with_whole(rows, 12, 4.0, "row").pairs == ()
    assert known.with_whole(load_scheme("lut2d"), EXACT_ROW_BITS, 4.0, "row").pairs == ()


def test_options_of_a_whole_model_have_no_sum():
    known = table(**{"simd-w4a4-agile": 1.2})
    agile = load_scheme("simd-w4a4-agile")
    assert known.loss(agile).provenance == "measured"
    other = dataclasses.replace(agile, token_rule=dataclasses.replace(agile.token_rule, int4=0.7))
    with pytest.raises(UnknownSchemeError, match="what token_rule does to m is known of shipped"):
        known.loss(other)


def test_unknown_model():
    with pytest.raises(ConfigError, match=r"accuracy: gpt: no such model; .*are known of smollm2"):
        load_sensitivities("gpt")


def test_shipped_sensitivities():
    known = load_sensitivities("smollm2-135m")
    assert known.layers == 30
    for losses in known.losses.values():
        assert all(len(values) == 30 for values in losses.values())
        assert all(value >= 0 for values in losses.values() for value in values)
    loss = {name: known.loss(load_scheme(name)) for name in (
        "simd-w8a8", "simd-w4a8", "rowgen-4bit", "rowgen-3bit", "rowgen-2bit", "lut2d")}
    assert [row.nats for row in loss.values()] == sorted(row.nats for row in loss.values())
    assert {row.provenance for row in loss.values()} == {"measured"}
    assert len(known.pairs) >= 5


def test_left_out_whole_models_are_predicted():
    """A shipped whole model between others, from its linears: what predictions are worth."""
    pairs = load_sensitivities("smollm2-135m").pairs
    # Beyond 5 nats, which is no language any more, nothing is told from anything.
    inside = sorted(pair for pair in pairs if pair[1] < 5)[1:]
    assert len(inside) >= 3
    for pair in inside:
        others = tuple(other for other in pairs if other != pair)
        assert curve(others, pair[0]) == pytest.approx(pair[1], rel=0.25)


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


@pytest.mark.parametrize("name", names("studies"))
def test_ready_studies_have_designs(name, packaged_model):
    """Some of the points, drawn at random, can be built and meet the constraints."""
    study = load_study(name)
    known = None if study.accuracy is None else load_sensitivities(study.accuracy)
    tried = random.Random(2).sample(range(study.space), min(study.space, 500))
    assert any(evaluate_point(point_of(index, study), study, known).state == "feasible"
               for index in tried)
