"""Which points are tried: all, or those that an evolutionary or a Bayesian search asks for.

A search asks for batches. What it asks depends on the study, its seed and the outcomes of the
batches before, and not on which worker answered when: any number of workers finds the same, and an
interrupted search asks the same again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial

from reports.explore.evaluate import Outcome
from reports.explore.metrics import METRICS
from reports.explore.space import Point, point_of
from reports.explore.study import Parameter, Study

WORST = 1e30
"""Objective of a point that is not feasible; searches go by its violations instead."""
STARTUP = 20
"""Fewest random points of a Bayesian search before its model counts."""
NSGA2, TPE = "nsga2", "tpe"


class Search(Protocol):
    """Asks for batches until there is nothing more to ask."""

    def ask(self) -> list[Point]:
        """The next batch; empty at the end."""

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Outcomes of the batch, in its order."""


def sampler_name(study: Study) -> str:
    """What the study's sampler comes to."""
    if study.exhaustive:
        return "exhaustive"
    return NSGA2 if study.sampler == "auto" else study.sampler


def signed(metric: str, value: float) -> float:
    """Smaller is better."""
    return value if METRICS[metric].goal == "minimize" else -value


def objectives_of(study: Study, outcome: Outcome) -> list[float]:
    """Objectives of an outcome, smaller better."""
    if outcome.state != "feasible":
        return [WORST] * len(study.objectives)
    return [signed(metric, outcome.metrics[metric]) for metric in study.objectives]


class Exhaustive:
    """Every combination, in order."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._next = 0

    def ask(self) -> list[Point]:
        first, last = self._next, min(self._next + self.study.batch, self.study.space)
        self._next = last
        return [point_of(index, self.study) for index in range(first, last)]

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        pass


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """Numbers in order are steps, all else is a choice."""
    places, values = range(len(parameter.values)), parameter.values
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool)
                  for value in values)
    if numbers and len(values) > 1 and list(values) == sorted(values):
        return IntDistribution(0, len(values) - 1)
    return CategoricalDistribution(tuple(places))


def distributions_of(study: Study) -> dict[str, BaseDistribution]:
    """Distribution of each parameter's place."""
    return {parameter.name: distribution_of(parameter) for parameter in study.parameters}


def constraint_names(study: Study) -> list[str]:
    """Names that outcomes' violations may have."""
    return ["buildable", *(["fits"] if study.fits else []),
            *(bound.metric for bound in study.bounds)]


class BatchwiseNsga2(optuna.samplers.NSGAIISampler):
    """NSGA-II whose generations are the batches.

    Optuna finds a trial's generation and parents by going through all trials for each one; that
    takes most of the time of ten thousand points. Batches are whole, so numbers tell.
    """

    def __init__(self, *, seed: int, batch: int) -> None:
        super().__init__(seed=seed, population_size=batch)
        self._batch = batch
        self._parents: tuple[int, list[FrozenTrial]] = 0, []

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        return trial.number // self._batch

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        first = generation * self._batch
        return study.get_trials(deepcopy=False)[first:first + self._batch]

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        if generation and self._parents[0] != generation:
            self._parents = generation, self.select_parent(study, generation)
        return self._parents[1] if generation else []


class Sampled:
    """A search by Optuna: NSGA-II (Deb et al., 2002) or the tree-structured Parzen estimator."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._distributions = distributions_of(study)
        sampler: optuna.samplers.BaseSampler
        if sampler_name(study) == TPE:
            sampler = optuna.samplers.TPESampler(
                seed=study.seed, n_startup_trials=max(STARTUP, study.batch))
        else:
            sampler = BatchwiseNsga2(seed=study.seed, batch=study.batch)
        with quiet():
            self._optuna = optuna.create_study(
                directions=["minimize"] * len(study.objectives), sampler=sampler)
        self._asked = 0
        self._trials: list[optuna.Trial] = []

    def ask(self) -> list[Point]:
        count = min(self.study.batch, self.study.budget - self._asked)
        self._asked += count
        with quiet():
            self._trials = [self._optuna.ask(self._distributions) for _ in range(count)]
        return [tuple(trial.params[parameter.name] for parameter in self.study.parameters)
                for trial in self._trials]

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        names = constraint_names(self.study)
        with quiet():
            for trial, outcome in zip(self._trials, outcomes, strict=True):
                for name in names:
                    trial.set_constraint(name, outcome.violations.get(name, 0.0))
                self._optuna.tell(trial, objectives_of(self.study, outcome))


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's remarks."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def new_search(study: Study) -> Search:
    """The search that a study asks for."""
    return Exhaustive(study) if study.exhaustive else Sampled(study)
