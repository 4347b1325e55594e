"""Points handed out over a database of Optuna's, to any number of machines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import optuna
from optuna.trial import TrialState

from hw.errors import ToolError
from reports.explore.evaluate import Outcome
from reports.explore.job import Job, lutrip_here
from reports.explore.journal import study_digest
from reports.explore.search import quiet
from reports.explore.space import Point
from reports.explore.workers import CHUNK, Done, chunks

LOOK_S = 0.2
"""How often a worker at a database looks for work."""
LUTRIP = "lutrip"
"""Attribute of a queue: the lutrip of its machines."""


class Database:
    """Points handed out over a database, to this process and to `serve` on other machines.

    A chunk of points is a waiting trial of an Optuna study; who takes it writes the outcomes into
    it. When none waits, this process evaluates what is still missing, one point after the other,
    also points that others are at: whatever happens to them, the search goes on. Only machines with
    the same files and the same lutrip share a queue: its name has their digest.
    """

    def __init__(self, job: Job, url: str) -> None:
        self.job = job
        self.prefix = f"{job.study.name}-"
        self.storage, self.queue = open_queue(
            url, self.prefix + study_digest(job.study, job.known))
        self._known: dict[Point, Outcome] = {}
        self._read: set[int] = set()

    def run(self, points: Sequence[Point], done: Done) -> None:
        missing = dict.fromkeys(points)
        self._collect(missing, done)
        with quiet():
            waiting = {tuple(point) for trial in waiting_in(self.queue)
                       for point in trial.user_attrs.get("points", ())}
            fresh = [point for point in missing if point not in waiting]
            for chunk in chunks(fresh, CHUNK):
                self.queue.enqueue_trial({}, user_attrs={"points": list(chunk)})
        while missing:
            if not self.work():
                point = next(iter(missing))
                del missing[point]
                done(self.job.evaluate([point]))
            self._collect(missing, done)

    def work(self) -> bool:
        """Take one chunk, if one waits."""
        with quiet():
            if not waiting_in(self.queue):
                return False
            self.queue.optimize(self._evaluate, n_trials=1)
        return True

    def _evaluate(self, trial: optuna.Trial) -> float:
        # Another worker may have taken the last chunk: a trial without points is new and empty.
        points = [tuple(point) for point in trial.user_attrs.get("points", ())]
        found = self.job.evaluate(points)
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

    def check_alike(self) -> None:
        """Raise ToolError where points of this study wait, but none for this machine."""
        if self.queue.get_trials(deepcopy=False):
            return
        for name in optuna.get_all_study_names(self.storage):
            if name.startswith(self.prefix) and name != self.queue.study_name:
                other = optuna.load_study(study_name=name, storage=self.storage)
                if waiting_in(other):
                    there = other.user_attrs.get(LUTRIP, "another lutrip")
                    raise ToolError(
                        f"the database has points of {self.job.study.name} for " + (
                            "other files: copy the run's study, the files that it names and its "
                            "sensitivity.json to here" if there == lutrip_here() else
                            f"{there}, here is {lutrip_here()}: install the same"))


def waiting_in(queue: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Chunks that nobody took."""
    return queue.get_trials(deepcopy=False, states=(TrialState.WAITING,))


def open_queue(url: str, name: str) -> tuple[optuna.storages.RDBStorage, optuna.Study]:
    """A database and its queue of that name; raises ToolError where there is none."""
    with quiet():
        try:
            storage = optuna.storages.RDBStorage(url)
            queue = optuna.create_study(
                study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler(0),
                load_if_exists=True)
            queue.set_user_attr(LUTRIP, lutrip_here())
        except Exception as error:  # SQLAlchemy and each driver have classes of their own.
            said = str(error).splitlines()[0]
            raise ToolError(f"--storage {url}: {said}; give a database such as "
                            "sqlite:///points.db or postgresql://host/name") from None
        return storage, queue


def serve(
    job: Job, url: str, idle_s: float, say: Callable[[int], None] = lambda chunks: None
) -> int:
    """Evaluate points for whoever explores the study over a database.

    Ends when nothing waited for ``idle_s`` seconds; returns how many chunks were evaluated. Raises
    ToolError where what waits is for other files or another lutrip.
    """
    database = Database(job, url)
    served, last = 0, time.monotonic()
    while time.monotonic() - last < idle_s:
        if database.work():
            served, last = served + 1, time.monotonic()
            say(served)
        else:
            database.check_alike()
            time.sleep(LOOK_S)
    return served
