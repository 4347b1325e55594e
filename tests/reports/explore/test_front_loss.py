"""Measured losses of the front: which schemes, in which order, and what they change."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest

from compiler.quant.scheme import load_scheme
from hw.errors import LutripError
from reports.explore.accuracy import Sensitivities, map_key, scheme_key, sensitivities_of
from reports.explore.evaluate import Outcome, evaluate_design
from reports.explore.findings import loss_lines
from reports.explore.front_loss import FrontLosses, UnavailableError, gap
from reports.explore.job import Job
from reports.explore.journal import Journal
from reports.explore.pareto import front_points, leading_points
from reports.explore.precision import EXACT, Precision
from reports.explore.run import Explored, Points, explore, measure_front
from reports.explore.search import new_search
from reports.explore.space import design_of
from reports.explore.workers import Here
from tests.reports.explore.studies import small

LINEARS = ("q", "k", "v", "o", "gate", "up", "down")
PREDICTED = {"simd-w4a8-tiny": 0.02, "simd-w8a8-tiny": 0.01, "rowgen-2bit": 0.3}
MEASURED = {"lower": 0.5, "higher": 2.0, "equal": 1.0}
"""Measured nats as a part of those predicted."""


def known(whole: tuple[str, ...] = ()) -> Sensitivities:
    """Made-up sensitivities of the small study's schemes."""
    rows = []
    for name, loss in PREDICTED.items():
        key = scheme_key(load_scheme(name).default)
        rows.append({"name": name, "key": key, "losses": {each: [loss, loss] for each in LINEARS}})
    values = {"model": "shape:tiny", "layers": 2, "command": "made up", "schemes": rows,
              "whole": []}
    found = sensitivities_of(values)
    for name in whole:
        found = found.with_whole(load_scheme(name), EXACT, 1.5, "measured before")
    return found


def study_with(folder, bound="ports: {max: 8}", schemes=4):
    return small(
        folder, ("model: shape:tiny", "model: shape:tiny\naccuracy: shape:tiny"),
        ("{from: 50, to: 200, factor: 2}", "[100, 200]"), ("ports: {max: 8}", bound),
        ("energy_per_token_j, lut]", "loss_nats]"),
        ("search:", f"evaluate: {{schemes: {schemes}}}\nsearch:"))


def run(study, folder, evaluate, resume=None):
    losses = FrontLosses(study, known(), evaluate)
    with Journal(folder, study, resume=resume, known=known()) as journal:
        points = Points(journal, Here(Job.of(study, known())))
        state = explore(study, new_search(study), points)
        before = Explored(study, outcomes=dict(state.outcomes))
        measure_front(state, losses, points)
    return before, state, losses


def times(part, seen=None):
    """Evaluations that find a part of the predicted loss."""
    def evaluate(design, number):
        if seen is not None:
            seen.append((design.scheme.name, number))
        nats = part * known().loss(design.scheme).nats
        return {"perplexity": 30 * math.exp(nats), "perplexity_float": 30.0, "predictions": 99,
                "command": f"lutrip evaluate {number}"}
    return evaluate


@pytest.mark.parametrize("part", MEASURED.values(), ids=list(MEASURED))
@pytest.mark.parametrize("bound", ["ports: {max: 8}", "perplexity_ratio: {max: 1.9}",
                                   "loss_nats: {max: 0.3}\n  lut: {max: 100000}"])
def test_settled_is_evaluated_anew(tmp_path, part, bound):
    """As if the measured losses had been known from the beginning, for every point."""
    study = study_with(tmp_path, bound)
    before, state, losses = run(study, tmp_path / "out", times(part))
    assert losses.rows
    for point, outcome in state.outcomes.items():
        anew = evaluate_design(design_of(point, study), study, losses.known)
        if "request_s" in outcome.metrics and "request_s" not in anew.metrics:
            # The cycles that were worked out before the loss was known to be too high are kept.
            anew = dataclasses.replace(anew, metrics=outcome.metrics | anew.metrics,
                                       bounds=outcome.bounds)
        assert outcome == anew
    changed = [point for point, outcome in state.outcomes.items()
               if outcome != before.outcomes.get(point)]
    assert changed
    assert {outcome.accuracy for outcome in state.outcomes.values()} == {"measured", "predicted"}


def test_the_front_as_it_is_then_comes_first(tmp_path):
    """Each scheme once, first those of the best; no more than are asked for."""
    study = study_with(tmp_path, schemes=3)
    seen = []
    before, state, losses = run(study, tmp_path / "out", times(0.5, seen))
    first = leading_points(study, before.outcomes)[0]
    assert seen[0] == (design_of(first, study).scheme.name, list(before.outcomes).index(first))
    assert len(seen) == len({name for name, _ in seen}) == 3
    assert [(row["scheme"], row["id"]) for row in losses.rows] == seen
    # The first shows that sums are twice too high; what is predicted then takes that in.
    assert losses.rows[0]["predicted_nats"] == pytest.approx(2 * losses.rows[0]["measured_nats"])
    for row in losses.rows[1:]:
        assert row["predicted_nats"] == pytest.approx(row["measured_nats"])
    for row in losses.rows:
        assert row["perplexity_ratio"] == pytest.approx(math.exp(row["measured_nats"]))
        assert row["predictions"] == 99
        assert row["error"] is None
    front = front_points(study, state.outcomes)
    assert sum(state.outcomes[point].accuracy == "measured" for point in front) >= 3
    lines = loss_lines(study, state.outcomes, front, losses.rows)
    assert "designs of the front, predicted for the others" in lines[0]
    assert len(lines) == 4


def test_the_best_come_before_the_least_known(tmp_path):
    study = study_with(tmp_path)
    losses = FrontLosses(study, known(), times(1.0))

    def outcome(seconds, nats, accuracy):
        return Outcome(state="feasible", key=f"{seconds}", accuracy=accuracy, metrics={
            "time_per_token_s": seconds, "loss_nats": nats})

    fastest, between, best = (0, 0, 2, 0), (1, 0, 1, 0), (0, 0, 1, 0)
    outcomes = {best: outcome(3.0, 0.1, "measured"), between: outcome(2.0, 0.15, "predicted"),
                fastest: outcome(1.0, 0.2, "predicted"), (0, 0, 0, 0): outcome(
                    5.0, 0.2, "measured")}
    assert losses.next_point(outcomes) == fastest
    del outcomes[fastest]
    outcomes[fastest] = outcome(1.0, 0.2, "measured")
    assert losses.next_point(outcomes) == between


def test_neighbours_that_come_up_take_the_losses_too(tmp_path):
    """Another scheme is the best behind an evaluation, so that its neighbours are tried."""
    study = small(
        tmp_path, ("model: shape:tiny", "model: shape:tiny\naccuracy: shape:tiny"),
        ("{from: 50, to: 200, factor: 2}", "[100, 200]"),
        ("ports: {max: 8}", "loss_nats: {max: 1.2}"), ("energy_per_token_j, lut]", "loss_nats]"),
        ("search: {batch: 8}",
         "evaluate: {schemes: 1}\nsearch: {sampler: nsga2, points: 3, batch: 3}"))
    before, state, losses = run(study, tmp_path / "out", times(0.3))
    late = [point for point in state.outcomes if point not in before.outcomes]
    assert late
    for point in late:
        assert state.outcomes[point] == evaluate_design(design_of(point, study), study,
                                                        losses.known)


def test_evaluations_spread_over_the_front(tmp_path):
    """Behind the best, what is furthest from every measured loss."""
    study = study_with(tmp_path, schemes=3)
    assert gap(0.5, []) == math.inf
    assert gap(0.2, [0.1]) == pytest.approx(gap(0.05, [0.1, 3.0])) == pytest.approx(math.log(2))
    assert gap(-1.0, [0.1]) == gap(1e-9, [0.1]) == pytest.approx(math.log(0.1 / 0.001))
    _, state, losses = run(study, tmp_path / "out", times(1.0))
    *ends, third = (row["measured_nats"] for row in losses.rows)
    every = sorted({state.outcomes[point].metrics["loss_nats"]
                    for point in front_points(study, state.outcomes)})
    assert len(every) > 3
    assert sorted(ends) == pytest.approx([every[0], every[-1]])
    assert third == pytest.approx(max(every[1:-1], key=lambda nats: min(
        abs(math.log(nats / end)) for end in ends)))


def test_a_higher_loss_makes_room_on_the_front(tmp_path):
    study = study_with(tmp_path, "loss_nats: {max: 2.5}", schemes=20)
    before, state, losses = run(study, tmp_path / "out", times(2.0))
    gone = set(front_points(study, before.outcomes)) - set(front_points(study, state.outcomes))
    assert gone
    for point in gone:
        assert state.outcomes[point].accuracy == "measured"
    assert any(state.outcomes[point].state == "infeasible" and
               "loss added at most 2.5 nats/token" in state.outcomes[point].reason
               for point in gone)
    # With more evaluations than schemes, the whole front is measured in the end.
    assert {state.outcomes[point].accuracy for point in front_points(study, state.outcomes)} == {
        "measured"}
    assert len(losses.rows) < 20


def test_points_without_cycles_take_the_loss_too(tmp_path):
    study = small(
        tmp_path, ("model: shape:tiny", "model: shape:tiny\naccuracy: shape:tiny"),
        ("hardware.clock_mhz: {from: 50, to: 200, factor: 2}", "hardware.simd_depth: [2, 4]"),
        ("ports: {max: 8}", "lut: {max: 94000}"), ("energy_per_token_j, lut]", "loss_nats]"))
    before, state, _ = run(study, tmp_path / "out", times(0.5))
    early = [point for point, outcome in state.outcomes.items()
             if outcome.state == "infeasible" and outcome.accuracy == "measured"]
    assert early
    for point in early:
        assert "request_s" not in state.outcomes[point].metrics
        assert state.outcomes[point].metrics["loss_nats"] == pytest.approx(
            before.outcomes[point].metrics["loss_nats"] / 2)


def test_nothing_is_evaluated_where_all_is_measured(tmp_path):
    study = study_with(tmp_path)
    every = ("simd-w4a8-tiny",)
    losses = FrontLosses(study, known(every), times(1.0))
    point = (0, 0, 0, 0)
    outcome = evaluate_design(design_of(point, study), study, known(every))
    assert outcome.accuracy == "measured"
    assert losses.next_point({point: outcome}) is None
    assert losses.settled(point, outcome) is outcome


def test_what_cannot_be_evaluated_says_why(tmp_path):
    study = study_with(tmp_path, schemes=2)

    def evaluate(design, number):
        raise LutripError(f"hardware is too small for design {number}")

    before, state, losses = run(study, tmp_path / "out", evaluate)
    assert state.outcomes == before.outcomes
    assert [row["measured_nats"] for row in losses.rows] == [None, None]
    assert losses.rows[0]["error"] == f"hardware is too small for design {losses.rows[0]['id']}"
    assert "could not be evaluated: hardware is too small" in loss_lines(
        study, state.outcomes, front_points(study, state.outcomes), losses.rows)[1]


def test_without_text_or_model_one_try_is_enough(tmp_path):
    def evaluate(design, number):
        raise UnavailableError("no such text")

    _, _, losses = run(study_with(tmp_path), tmp_path / "out", evaluate)
    assert [row["error"] for row in losses.rows] == ["no such text"]


def test_a_point_that_turns_out_to_be_impossible_is_refused(tmp_path):
    """It broke a bound by its predicted loss, so that nobody looked whether it can be built."""
    study = small(
        tmp_path, ("model: shape:tiny", "model: shape:tiny\naccuracy: shape:tiny"),
        ("hardware.clock_mhz: {from: 50, to: 200, factor: 2}", "hardware.rowgen: [false]"),
        ("ports: {max: 8}", "loss_nats: {max: 1.0}"), ("energy_per_token_j, lut]", "loss_nats]"))
    before, state, losses = run(study, tmp_path / "out", times(0.1))
    assert losses.rows
    late = [outcome for point, outcome in state.outcomes.items()
            if outcome.state == "refused" and before.outcomes[point].state == "infeasible"]
    assert late
    assert all("it has no row generator" in outcome.reason for outcome in late)


def test_interrupted_evaluations_go_on_to_the_same_front(tmp_path):
    study = study_with(tmp_path)
    _, whole, losses = run(study, tmp_path / "whole", times(0.5))
    seen = []

    def interrupted(design, number):
        if len(seen) == 2:
            raise KeyboardInterrupt
        return times(0.5, seen)(design, number)

    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path / "out", interrupted)
    _, again, repeated = run(study, tmp_path / "out", times(0.5), resume=True)
    assert list(again.outcomes.items()) == list(whole.outcomes.items())
    assert repeated.rows == losses.rows
    assert again.evaluated == 0


def test_precisions_are_schemes_of_their_own():
    rows, plain = load_scheme("rowgen-2bit"), load_scheme("simd-w8a8-tiny")
    narrow = Precision(row_bits=12)
    found = known().with_whole(rows, narrow, 4.0, "row")
    assert found.loss(rows, narrow).provenance == "measured"
    assert found.loss(rows, narrow).nats == pytest.approx(math.log(4.0))
    assert found.loss(rows).provenance == "predicted"
    # Without computed rows their width does not matter.
    wide = known().with_whole(plain, narrow, 1.1, "row")
    assert wide.loss(plain, EXACT) == wide.loss(plain, Precision(row_bits=11))
    assert wide.loss(plain).provenance == "measured"
    # Keys and values do.
    keys = known().with_whole(plain, Precision(key_bits=4), 1.2, "row")
    assert keys.loss(plain, Precision(key_bits=4, row_bits=12)).nats == math.log(1.2)
    assert keys.loss(plain).provenance == "predicted"
    assert keys.pairs == ()


def known_keys() -> Sensitivities:
    """With what keys of 4 bits add to a scheme."""
    key = map_key(load_scheme("simd-w4a8-tiny"))
    return dataclasses.replace(known(), cache={(4, 8): {key: (0.25, "keys of 4 bits")}})


def test_a_loss_counts_for_designs_of_its_precision(tmp_path):
    """Keys of 4 and of 8 bits are measured apart; the clock changes no loss."""
    study = small(
        tmp_path, ("model: shape:tiny", "model: shape:tiny\naccuracy: shape:tiny"),
        ("{from: 50, to: 200, factor: 2}", "[100, 200]\n  hardware.key_bits: [8, 4]"),
        ("scheme.attention: [simd-w4a8-tiny, simd-w8a8-tiny]", "memory: [ideal]"),
        ("  scheme.mlp: [simd-w4a8-tiny, simd-w8a8-tiny, rowgen-2bit]\n", ""),
        ("  memory: [ideal, ddr4-kv260]\n", ""))
    ratios = {8: 2.0, 4: 3.0}
    losses = FrontLosses(study, known_keys(), lambda design, number: {
        "perplexity": ratios[design.hardware.key_bits], "perplexity_float": 1.0,
        "predictions": 99, "command": f"lutrip evaluate {number}"})
    bits = {point: design_of(point, study).hardware.key_bits
            for point in itertools.product((0,), (0, 1), (0, 1))}
    outcomes = {point: evaluate_design(design_of(point, study), study, losses.known)
                for point in bits}
    nats = {bits[point]: outcome.metrics["loss_nats"] for point, outcome in outcomes.items()}
    assert nats[4] == pytest.approx(nats[8] + 0.25)
    for point in ((0, 0, 1), (0, 0, 0)):
        losses.measure(point, point[2])
    assert [(row["row_bits"], row["key_bits"], row["value_bits"], row["predicted_nats"])
            for row in losses.rows] == [(16, 4, 8, nats[4]), (16, 8, 8, nats[8])]
    for point, outcome in outcomes.items():
        settled = losses.settled(point, outcome)
        assert settled == evaluate_design(design_of(point, study), study, losses.known)
        assert settled.metrics["perplexity_ratio"] == pytest.approx(ratios[bits[point]])
        assert settled.accuracy == "measured"
    lines = loss_lines(study, outcomes, front_points(study, outcomes), losses.rows)
    assert lines[1:] == [
        f"Scheme simd-w4a8-tiny, keys of 4 bits: 1.099 nats measured, {nats[4]:.3f} predicted.",
        f"Scheme simd-w4a8-tiny: 0.693 nats measured, {nats[8]:.3f} predicted."]


def test_another_precision_of_an_evaluated_scheme_is_open(tmp_path):
    study = small(
        tmp_path, ("model: shape:tiny", "model: shape:tiny\naccuracy: shape:tiny"),
        ("{from: 50, to: 200, factor: 2}", "[200]\n  hardware.key_bits: [8, 4]"),
        ("energy_per_token_j, lut]", "loss_nats]"))
    losses = FrontLosses(study, known_keys(), times(1.0))
    wide, narrow = (0, 0, 0, 0, 0), (0, 0, 1, 0, 0)
    assert [design_of(point, study).hardware.key_bits for point in (wide, narrow)] == [8, 4]
    outcomes = {
        point: Outcome(state="feasible", key=str(point), accuracy="predicted", metrics={
            "time_per_token_s": seconds, "loss_nats": nats})
        for point, seconds, nats in ((wide, 2.0, 0.1), (narrow, 1.0, 0.2))}
    losses.measure(narrow, 1)
    assert losses.next_point(outcomes) == wide
    losses.measure(wide, 0)
    assert losses.next_point(outcomes) is None
