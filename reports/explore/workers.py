"""Where points are evaluated: here, in local processes, on a Dask cluster, or over a database."""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.trial import TrialState

from hw.errors import ToolError
from reports.explore.evaluate import Outcome, evaluate_point
from reports.explore.search import quiet
from reports.explore.space import Point
from reports.explore.study import Study

Done = Callable[[list[tuple[Point, Outcome]]], None]
CHUNK, SHARES = 10, 16
"""Most points that a worker takes at once, and fewest parts of a batch that has so many."""
START_S, ANSWER_S = 60, 30
"""How long a cluster may take to start and to answer."""
LOOK_S = 0.2
"""How often a worker at a database looks for work."""


class Workers(Protocol):
    """Evaluates points."""

    def run(self, points: Sequence[Point], done: Done) -> None:
        """Evaluate points; ``done`` is told of some at a time, in any order."""


def evaluate_chunk(
    points: Sequence[Point], study: Study, measured: Path | None
) -> list[tuple[Point, Outcome]]:
    """Outcomes of some points."""
    return [(point, evaluate_point(point, study, measured)) for point in points]


def chunks(points: Sequence[Point], size: int) -> list[Sequence[Point]]:
    """Points in groups."""
    return [points[at:at + size] for at in range(0, len(points), size)]


class Here:
    """In the same process."""

    def __init__(self, study: Study, measured: Path | None) -> None:
        self.study, self.measured = study, measured

    def run(self, points: Sequence[Point], done: Done) -> None:
        for chunk in chunks(points, CHUNK):
            done(evaluate_chunk(chunk, self.study, self.measured))


class Cluster:
    """A Dask cluster; points of a worker that dies go to another one."""

    def __init__(self, study: Study, measured: Path | None, client: Any) -> None:
        self.study, self.measured, self.client = study, measured, client

    def run(self, points: Sequence[Point], done: Done) -> None:
        from distributed import as_completed

        size = min(max(len(points) // SHARES, 1), CHUNK)
        futures = [self.client.submit(evaluate_chunk, list(chunk), self.study, self.measured,
                                      pure=False, retries=3)
                   for chunk in chunks(points, size)]
        try:
            for _, found in as_completed(futures, with_results=True):
                done(found)
        finally:
            self.client.cancel(futures)


def ignore_interrupts() -> None:
    """Ctrl-C goes to the whole process group; the process in front tells its workers to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def local_cluster(study: Study, measured: Path | None, jobs: int) -> Iterator[Workers]:
    """``jobs`` processes of this machine."""
    from distributed import Client, LocalCluster

    with silenced(), LocalCluster(
            n_workers=jobs, threads_per_worker=1, processes=True, dashboard_address=":0",
            silence_logs=logging.CRITICAL) as cluster, Client(cluster) as client:
        client.run(ignore_interrupts)
        yield Cluster(study, measured, client)


@contextmanager
def remote_cluster(study: Study, measured: Path | None, address: str) -> Iterator[Workers]:
    """Workers of a scheduler; raises ToolError where none answers."""
    from distributed import Client

    with silenced():
        try:
            client = Client(address, timeout=ANSWER_S)
        except (OSError, ValueError) as error:
            raise ToolError(f"no Dask scheduler answers at {address}: {error}; start one with "
                            "'dask scheduler', and workers with 'dask worker ADDRESS'") from None
        with client:
            try:
                client.wait_for_workers(1, timeout=START_S)
            except TimeoutError:
                raise ToolError(f"the Dask scheduler at {address} has no workers; start some with "
                                f"'dask worker {address}'") from None
            yield Cluster(study, measured, client)


@contextmanager
def silenced() -> Iterator[None]:
    """Without the cluster's remarks on workers that come and go."""
    loggers = [logging.getLogger(name) for name in ("distributed", "asyncio", "tornado")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class Database:
    """Points handed out over a database, to this process and to `serve` on other machines.

    A chunk of points is a waiting trial of an Optuna study; who takes it writes the outcomes into
    it. When none waits, this process evaluates what is still missing, one point after the other,
    also points that others are at: whatever happens to them, the search goes on.
    """

    def __init__(self, study: Study, measured: Path | None, url: str, digest: str) -> None:
        self.study, self.measured = study, measured
        self.queue = open_queue(url, f"{study.name}-{digest}")
        self._known: dict[Point, Outcome] = {}
        self._read: set[int] = set()

    def run(self, points: Sequence[Point], done: Done) -> None:
        missing = dict.fromkeys(points)
        self._collect(missing, done)
        with quiet():
            waiting = {tuple(point) for trial in self.queue.get_trials(
                           deepcopy=False, states=(TrialState.WAITING,))
                       for point in trial.user_attrs.get("points", ())}
            fresh = [point for point in missing if point not in waiting]
            for chunk in chunks(fresh, CHUNK):
                self.queue.enqueue_trial({}, user_attrs={"points": list(chunk)})
        while missing:
            if not self.work():
                point = next(iter(missing))
                del missing[point]
                done(evaluate_chunk([point], self.study, self.measured))
            self._collect(missing, done)

    def work(self) -> bool:
        """Take one chunk, if one waits."""
        with quiet():
            if not self.queue.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                return False
            self.queue.optimize(self._evaluate, n_trials=1)
        return True

    def _evaluate(self, trial: optuna.Trial) -> float:
        # Another worker may have taken the last chunk: a trial without points is new and empty.
        points = [tuple(point) for point in trial.user_attrs.get("points", ())]
        found = evaluate_chunk(points, self.study, self.measured)
        trial.set_user_attr("outcomes", json.dumps(
            [[point, outcome.to_dict()] for point, outcome in found]))
        return float(len(found))

    def _collect(self, missing: dict[Point, None], done: Done) -> None:
        """Take over what was evaluated, also for an earlier run."""
        for trial in self.queue.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if trial.number not in self._read:
                self._read.add(trial.number)
                rows = json.loads(trial.user_attrs.get("outcomes", "[]"))
                self._known |= {tuple(point): Outcome(**outcome) for point, outcome in rows}
        if found := [(point, self._known[point]) for point in missing if point in self._known]:
            for point, _ in found:
                del missing[point]
            done(found)


def open_queue(url: str, name: str) -> optuna.Study:
    """The queue of a study's points in a database; raises ToolError where there is none."""
    with quiet():
        try:
            return optuna.create_study(
                study_name=name, storage=optuna.storages.RDBStorage(url),
                sampler=optuna.samplers.RandomSampler(0), load_if_exists=True)
        except Exception as error:  # SQLAlchemy and each driver have classes of their own.
            said = str(error).splitlines()[0]
            raise ToolError(f"--storage {url}: {said}; give a database such as "
                            "sqlite:///points.db or postgresql://host/name") from None


def serve(
    study: Study, measured: Path | None, url: str, digest: str, idle_s: float,
    say: Callable[[int], None] = lambda chunks: None,
) -> int:
    """Evaluate points for whoever explores the study over a database.

    Ends when nothing waited for ``idle_s`` seconds; returns how many chunks were evaluated.
    """
    database = Database(study, measured, url, digest)
    served, last = 0, time.monotonic()
    while time.monotonic() - last < idle_s:
        if database.work():
            served, last = served + 1, time.monotonic()
            say(served)
        else:
            time.sleep(LOOK_S)
    return served
