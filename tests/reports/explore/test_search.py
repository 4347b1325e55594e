"""Searches: fronts, the same result for the same seed, nothing evaluated twice."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.errors import LutripError
from reports.explore.evaluate import Outcome, evaluate_point
from reports.explore.importance import importance
from reports.explore.job import Job
from reports.explore.journal import FILE, Journal
from reports.explore.pareto import best_points, front, front_points
from reports.explore.run import Points, explore
from reports.explore.search import Exhaustive, Sampled, new_search, sampler_name
from reports.explore.space import point_of
from reports.explore.workers import Here
from tests.reports.explore.studies import small


def dominated(values, row):
    return any((other <= row).all() and (other < row).any() for other in values)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=40))
def test_front_is_what_nobody_dominates(rows):
    values = np.array(rows, dtype=float)
    kept = front(values)
    assert kept == sorted(set(kept))
    assert {tuple(values[index]) for index in kept} == {
        tuple(row) for row in values if not dominated(values, row)}
    assert len({tuple(values[index]) for index in kept}) == len(kept)


class Count:
    """Evaluates here, by a formula, and counts; ``most``: it is interrupted behind so many."""

    def __init__(self, study, most=None):
        self.study, self.most, self.seen = study, most, []

    def run(self, points, done):
        for point in points:
            if self.most is not None and len(self.seen) == self.most:
                raise KeyboardInterrupt
            self.seen.append(point)
            done([(point, formula(point, self.study))])


def formula(point, study):
    """Objectives with a trade-off; a corner breaks a bound, another cannot be built."""
    spread = [place / max(len(parameter.values) - 1, 1)
              for place, parameter in zip(point, study.parameters, strict=True)]
    if sum(spread) > 3.5:
        return Outcome(state="refused", reason="no", violations={"buildable": 1e3})
    excess = max(0.0, spread[0] + spread[1] - 1.5)
    metrics = {"time_per_token_s": 1 + sum(spread), "energy_per_token_j": 5 - sum(spread[1:]),
               "lut": 10 + spread[0] * 3 - spread[2]}
    return Outcome(state="infeasible" if excess else "feasible", key=str(point),
                   violations={"ports": excess}, metrics=metrics)


def result(study, workers, folder, resume=False):
    with Journal(folder, study, resume=resume) as journal:
        return explore(study, new_search(study), Points(journal, workers))


@pytest.fixture
def large(tmp_path):
    return small(
        tmp_path, ("scheme.attention: [simd-w4a8-tiny, simd-w8a8-tiny]",
                   "hardware.tokens_max: {from: 10, to: 200, step: 10}"),
        ("{from: 50, to: 200, factor: 2}", "{from: 1, to: 30}"),
        ("batch: 8", "batch: 10, points: 120"))


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_same_seed_same_points(large, tmp_path, sampler):
    study = dataclasses.replace(large, sampler=sampler, points=60)
    assert sampler_name(study) == sampler
    runs = [result(study, Count(study), tmp_path / str(n)) for n in range(2)]
    assert list(runs[0].outcomes) == list(runs[1].outcomes)
    other = result(dataclasses.replace(study, seed=7), Count(study), tmp_path / "other")
    assert list(other.outcomes) != list(runs[0].outcomes)


def test_order_of_answers_does_not_count(large, tmp_path):
    class Backwards(Count):
        def run(self, points, done):
            super().run(list(points)[::-1], done)

    first = result(large, Count(large), tmp_path / "a")
    second = result(large, Backwards(large), tmp_path / "b")
    assert list(first.outcomes.items()) == list(second.outcomes.items())


@pytest.mark.parametrize("most", [3, 57, 119])
def test_interrupted_and_resumed(large, tmp_path, most):
    whole = result(large, Count(large), tmp_path / "whole")
    cut = Count(large, most)
    with pytest.raises(KeyboardInterrupt):
        result(large, cut, tmp_path / "cut")
    rest = Count(large)
    resumed = result(large, rest, tmp_path / "cut", resume=True)
    assert list(resumed.outcomes.items()) == list(whole.outcomes.items())
    assert front_points(large, resumed.outcomes) == front_points(large, whole.outcomes)
    assert not set(cut.seen) & set(rest.seen)
    assert len(cut.seen) + len(rest.seen) == len(whole.outcomes)


def test_more_points_go_on_with_the_same(large, tmp_path):
    result(dataclasses.replace(large, points=60), Count(large), tmp_path / "a")
    more = Count(large)
    grown = result(large, more, tmp_path / "a", resume=True)
    whole = result(large, Count(large), tmp_path / "b")
    assert list(grown.outcomes.items()) == list(whole.outcomes.items())
    assert len(more.seen) < len(whole.outcomes)


def test_search_finds_the_front(large, tmp_path):
    """A tenth of the space holds designs as good as the best of all, in each objective."""
    study = dataclasses.replace(large, points=1000)
    every = {point: formula(point, study) for index in range(study.space)
             if (point := point_of(index, study))}
    found = result(study, Count(study), tmp_path / "a").outcomes
    assert len(found) < study.space / 3
    for metric in study.objectives:
        best = [min(outcome.metrics[metric] for outcome in outcomes.values()
                    if outcome.state == "feasible") for outcomes in (every, found)]
        assert best[1] == pytest.approx(best[0], rel=0.02)


def test_exhaustive_is_everything_once(tmp_path):
    study = small(tmp_path)
    search, points = Exhaustive(study), []
    while batch := search.ask():
        assert len(batch) <= study.batch
        points += batch
    assert points == list(itertools.product(range(2), range(3), range(3), range(2)))
    assert isinstance(new_search(study), Exhaustive)
    assert isinstance(new_search(dataclasses.replace(study, points=5)), Sampled)


def test_front_has_one_point_for_a_design(tmp_path):
    study = small(tmp_path)
    same = {point_of(index, study): Outcome(
        state="feasible", key="one", metrics=dict.fromkeys(study.objectives, 1.0))
        for index in range(4)}
    assert front_points(study, same) == [point_of(0, study)]
    assert best_points(study, same) == [point_of(0, study)]
    nothing = {point: dataclasses.replace(outcome, state="infeasible")
               for point, outcome in same.items()}
    assert front_points(study, nothing) == best_points(study, nothing) == []


def test_importance_is_the_variance_that_a_parameter_explains(tmp_path):
    study = small(tmp_path)
    points = [point_of(index, study) for index in range(study.space)]
    outcomes = {point: Outcome(state="feasible", key=str(point), metrics={
        "time_per_token_s": np.exp(point[0] * 2 + point[2]), "lut": 7.0,
        "energy_per_token_j": np.exp(point[0] ^ point[3])})
        for point in points}
    found = importance(study, outcomes)
    assert set(found) == {"time_per_token_s", "energy_per_token_j"}
    # Variances of 0 and 2, and of 0, 1 and 2.
    assert found["time_per_token_s"] == pytest.approx({
        "scheme.attention": 1 / (1 + 2 / 3), "hardware.clock_mhz": 0,
        "scheme.mlp": 2 / 3 / (1 + 2 / 3), "memory": 0}, abs=1e-9)
    # Two that only matter together: neither explains much alone.
    assert max(found["energy_per_token_j"].values()) < 1e-9
    assert importance(study, dict(list(outcomes.items())[:5])) == {}


def test_journal_takes_over_whole_lines_only(tmp_path):
    study = small(tmp_path)
    folder = tmp_path / "out"
    outcomes = {point_of(index, study): formula(point_of(index, study), study)
                for index in range(4)}
    with Journal(folder, study, resume=None) as journal:
        journal.add(outcomes.items())
    path = folder / FILE
    text = path.read_text()
    path.write_text(text[:-9])
    with Journal(folder, study, resume=True) as journal:
        assert journal.taken_over == 3
        journal.add([list(outcomes.items())[3]])
    with Journal(folder, study, resume=True) as journal:
        assert journal.known == outcomes
    for resume, said in ((None, "--resume goes on"), (True, "another study or version")):
        other = dataclasses.replace(study, model="shape:qwen3-1.7b")
        with pytest.raises(LutripError, match=said):
            Journal(folder, other, resume=resume)
    path.write_text(text.replace('"state"', '"estate"'))
    with pytest.raises(LutripError, match="damaged"):
        Journal(folder, study, resume=True)
    with Journal(folder, study, resume=False) as journal:
        assert journal.known == {}


def test_here_evaluates_each_point(tmp_path):
    study = small(tmp_path)
    points = [point_of(index, study) for index in (0, 35)]
    found = {}
    Here(Job.of(study)).run(points, found.update)
    assert found == {point: evaluate_point(point, study) for point in points}
