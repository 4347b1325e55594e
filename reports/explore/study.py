"""Study files: what is explored, as frozen configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hw.errors import ConfigError
from hw.presets import CONFIGS, find
from reports.explore.marked_yaml import MarkedYaml, read_marked
from reports.explore.metrics import METRICS, Goal, told
from reports.explore.named import Named
from reports.explore.schema import check_schema

EXHAUSTIVE_MOST = 20_000
"""Combinations up to which every one is tried where the study does not say how many."""
POINTS = 2_000
"""Points of a larger space where the study does not say how many."""
NEWS = "news"
"""Text on which shipped losses are measured."""
VALUES_MOST = 10_000
"""Values of a range."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Tokens of a prompt and tokens generated behind it; weight: its share of all requests."""

    name: str
    prefill: int
    decode: int
    weight: float


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A free parameter.

    values: what it may be, as pages show it. settings: what each of them sets, by target, such as
    ``hardware.lanes`` or ``scheme.mlp`` (`reports.explore.space`).
    """

    name: str
    values: tuple[Any, ...]
    settings: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A constraint on a metric: at least ``low``, at most ``high``."""

    metric: str
    low: float = -math.inf
    high: float = math.inf

    def violation(self, value: float) -> float:
        """How far a value is outside, relative to the bound; 0 inside."""
        end = self.high if value > self.high else self.low if value < self.low else None
        if end is None:
            return 0.0
        return abs(value - end) / abs(end) if end else abs(value)

    def text(self) -> str:
        """The constraint in words."""
        label = METRICS[self.metric].label
        parts = [f"{said} {told(self.metric, end)}" for said, end in (
            ("at least", self.low), ("at most", self.high)) if math.isfinite(end)]
        return f"{label} {' and '.join(parts)}"


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """How many designs run in RTL, and what of a request: layers, prompt, generated tokens."""

    designs: int = 3
    layers: int = 1
    prefill: int = 8
    decode: int = 2


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How many schemes of the front are evaluated on the whole model, and on which tokens.

    text: news, wikipedia or a file; another than news only of models that nothing is shipped of.
    """

    schemes: int = 4
    tokens: int = 3072
    text: str = NEWS


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is explored.

    hardware, scheme, memory: what no parameter sets, by name or file; memory None: the device's.
    accuracy: model whose measured sensitivities predict the loss, and on which the front's schemes
    are evaluated, or None. fits, headroom: points must fit their device, with the recommended room.
    prices: of devices. points: None for all or `POINTS`. batch: points between two looks of the
    search. choose: metric that orders the front. references: GPUs (``configs/gpus``) and published
    designs (``configs/published``) to show. named: what the names stand for.
    """

    name: str
    path: Path
    text: str
    title: str
    question: str
    model: str
    accuracy: str | None
    workloads: tuple[Workload, ...]
    hardware: str
    scheme: str
    memory: str | None
    parameters: tuple[Parameter, ...]
    fits: bool
    headroom: bool
    bounds: tuple[Bound, ...]
    objectives: tuple[str, ...]
    choose: str
    prices: Mapping[str, float] = field(default_factory=dict)
    sampler: str = "auto"
    points: int | None = None
    batch: int = 100
    seed: int = 0
    evaluate: Evaluation = Evaluation()
    confirm: Confirmation = Confirmation()
    references: tuple[str, ...] = ()
    named: Named = field(default_factory=Named, compare=False, repr=False)

    @property
    def space(self) -> int:
        """Combinations of the parameters' values."""
        return math.prod(len(parameter.values) for parameter in self.parameters)

    @property
    def budget(self) -> int:
        """Points that are asked for."""
        if self.exhaustive:
            return self.space
        return POINTS if self.points is None else self.points

    @property
    def exhaustive(self) -> bool:
        """Whether every combination is tried."""
        if self.sampler == "auto":
            most = EXHAUSTIVE_MOST if self.points is None else self.points
            return self.space <= most
        return self.sampler == "exhaustive"

    def goal(self, metric: str) -> Goal:
        """Which direction is better."""
        return METRICS[metric].goal


def load_study(name: str) -> Study:
    """Study by name or file; raises ConfigError in one line with line and column."""
    path = find("studies", name)
    marked = read_marked(path)
    check_schema(marked)
    value = marked.value
    workloads = tuple(
        Workload(name=row.get("name") or f"{row['prefill']} + {row['decode']}",
                 prefill=row["prefill"], decode=row["decode"], weight=row.get("weight", 1))
        for row in value["workloads"])
    search, objectives = value.get("search", {}), tuple(value["objectives"])
    study = Study(
        name=path.stem, path=path, text=marked.text, title=value.get("title", path.stem),
        question=value.get("question", ""), model=value["model"], accuracy=value.get("accuracy"),
        workloads=workloads, hardware=value["hardware"], scheme=value["scheme"],
        memory=value.get("memory"),
        parameters=tuple(_parameter(marked, name) for name in value["parameters"]),
        fits=value.get("fits", True), headroom=value.get("headroom", False),
        bounds=tuple(_bound(marked, name) for name in value.get("constraints", {})),
        objectives=objectives, choose=value.get("choose", objectives[0]),
        prices=value.get("prices", {}), sampler=search.get("sampler", "auto"),
        points=search.get("points"), batch=search.get("batch", 100), seed=search.get("seed", 0),
        evaluate=Evaluation(**value.get("evaluate", {})),
        confirm=Confirmation(**value.get("confirm", {})),
        references=tuple(value.get("references", ())))
    _check(marked, study)
    return study


def _parameter(marked: MarkedYaml, name: str) -> Parameter:
    given = marked.value["parameters"][name]
    if isinstance(given, dict) and "from" not in given:
        return Parameter(name=name, values=tuple(given), settings=tuple(given.values()))
    values = given if isinstance(given, list) else _range(marked, name, given)
    if len({(isinstance(value, bool), value) for value in values}) < len(values):
        raise marked.error(["parameters", name], f"parameter {name} has a value twice")
    targets = [part.strip() for part in name.split(",")]
    return Parameter(name=name, values=tuple(values),
                     settings=tuple(dict.fromkeys(targets, value) for value in values))


def _range(marked: MarkedYaml, name: str, given: Mapping[str, Any]) -> list[Any]:
    """``from`` to ``to`` by steps, or by a factor."""
    low, high, step, factor = given["from"], given["to"], given.get("step", 1), given.get("factor")

    def error(key: str, problem: str) -> ConfigError:
        return marked.error(["parameters", name, key], f"parameter {name} {problem}")

    if high < low:
        raise error("to", f"ends at {high:g}, below its begin {low:g}")
    if factor is not None and "step" in given:
        raise error("factor", "has a step and a factor; leave one out")
    if factor is not None and low <= 0:
        raise error("from", f"must begin above 0 to grow by a factor, not at {low:g}")
    steps = (high - low) / step if factor is None else math.log(high / low, factor)
    if steps + 1 > VALUES_MOST:
        raise error("to", f"has more than {VALUES_MOST:,} values")
    counts = range(math.floor(steps + 1e-9) + 1)
    return [low + n * step if factor is None else low * factor**n for n in counts]


def _bound(marked: MarkedYaml, metric: str) -> Bound:
    given = marked.value["constraints"][metric]
    bound = Bound(metric=metric, low=given.get("min", -math.inf), high=given.get("max", math.inf))
    if bound.low > bound.high:
        raise marked.error(["constraints", metric], f"no {METRICS[metric].label} is at least "
                           f"{bound.low:g} and at most {bound.high:g}")
    return bound


def _check(marked: MarkedYaml, study: Study) -> None:
    """What a schema cannot say; raises ConfigError."""
    for key in ("fits", "headroom"):
        if marked.value.get(key) and study.headroom and not study.fits:
            raise marked.error([key], "headroom needs fits")
    if study.accuracy is None:
        if "evaluate" in marked.value:
            raise marked.error(["evaluate"], "evaluate needs the key accuracy: the model that is "
                               "evaluated", key=True)
        for key, names in (("objectives", study.objectives),
                           ("constraints", [bound.metric for bound in study.bounds])):
            for number, metric in enumerate(names):
                if METRICS[metric].provenance == "predicted":
                    keys = [key, number if key == "objectives" else metric]
                    raise marked.error(keys, f"{metric} needs the key accuracy: the model whose "
                                       "sensitivities count, such as smollm2-135m")
    named = {*study.objectives, study.choose, *(bound.metric for bound in study.bounds)}
    if "price" in named and not study.prices:
        raise marked.error(["objectives"], "price needs the key prices: device to price")
    if len({row.name for row in study.workloads}) < len(study.workloads):
        raise marked.error(["workloads"], "two workloads have one name")
    for name in study.references:
        if not any((CONFIGS / kind / f"{name}.yaml").is_file() for kind in ("gpus", "published")):
            raise marked.error(["references"], f"no GPU or published design called {name!r}")


