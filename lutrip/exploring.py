"""`lutrip explore`: a study from its file to its report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from hw.errors import LutripError
from lutrip.estimating import measured_error
from lutrip.sensitivities import SENSITIVITY_FILE, measure_missing, missing_schemes
from reports.explore.confirm import confirm
from reports.explore.journal import Journal, study_digest
from reports.explore.nothing import check_feasible
from reports.explore.result import study_values, write_study
from reports.explore.run import Explored, explore
from reports.explore.search import new_search
from reports.explore.space import Point, check_space, design_of
from reports.explore.study import Study, load_study
from reports.explore.workers import (
    Database,
    Here,
    Workers,
    local_cluster,
    remote_cluster,
    serve,
)
from reports.study_page.page import write_study_report

Say = Callable[[str], None]
IDLE_S = 600.0
"""Seconds without work until a worker at a database ends."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How a study is explored; every one of them may differ between runs with the same result.

    jobs: local processes. scheduler: address of a Dask cluster instead; storage: database instead.
    resume: as for `reports.explore.journal.Journal`. measure: sensitivities that are not known.
    confirm: run the best designs in RTL. build_dir: of the circuits.
    """

    jobs: int = 1
    scheduler: str | None = None
    storage: str | None = None
    resume: bool | None = None
    measure: bool = False
    confirm: bool = True
    build_dir: Path = Path("build")


def read_study(name: str, points: int | None, seed: int | None) -> Study:
    """A study that can be run; raises LutripError in one line."""
    study = load_study(name)
    if points is not None:
        study = dataclasses.replace(study, points=points)
    if seed is not None:
        study = dataclasses.replace(study, seed=seed)
    check_space(study)
    return study


def workers_of(
    study: Study, options: Options, measured: Path | None
) -> AbstractContextManager[Workers]:
    """Where points are evaluated."""
    if options.scheduler is not None:
        return remote_cluster(study, measured, options.scheduler)
    if options.storage is not None:
        return nullcontext(Database(study, measured, options.storage,
                                    study_digest(study, measured)))
    if options.jobs == 1:
        return nullcontext(Here(study, measured))
    return local_cluster(study, measured, options.jobs)


def sensitivities(study: Study, out: Path, measure: bool, say: Say) -> Path | None:
    """File of sensitivities besides the shipped ones; raises LutripError where some are missing."""
    if study.accuracy is None:
        return None
    path = out / SENSITIVITY_FILE
    if missing := missing_schemes(study, path if path.is_file() else None):
        if not measure:
            names = ", ".join(sorted({part.name for part in missing}))
            raise LutripError(
                f"{study.path}: no sensitivity of {study.accuracy} is known for {names}; "
                "--measure measures it (minutes for each scheme), or leave accuracy out")
        measure_missing(study.accuracy, missing, out, say)
    return path.resolve() if path.is_file() else None


def run_study(
    study: Study, out: Path, options: Options, command: str, say: Say = lambda text: None,
    progress: Callable[[Explored], None] = lambda state: None,
) -> dict[str, Any]:
    """Explore a study into a folder; returns the values of study.json.

    An interruption leaves the outcomes, to go on with.
    Raises LutripError, ToolError.
    """
    measured = sensitivities(study, out, options.measure, say)
    with Journal(out, study, resume=options.resume, measured=measured) as journal:
        say("starting workers")
        begun = time.monotonic()
        with workers_of(study, options, measured) as workers:
            state = explore(study, new_search(study), journal, workers, progress)
        seconds = time.monotonic() - begun
        check_feasible(study, state.outcomes)

        def confirming(point: Point, number: int) -> list[dict[str, Any]]:
            folder = out / "designs" / f"design-{number}"
            return confirm(design_of(point, study), study.model, study.confirm, folder,
                           options.build_dir, lambda said: say(f"design {number}: {said}"))

        def values(confirmed: bool) -> dict[str, Any]:
            return study_values(
                state, command=command, out=out, measured=measured, error=measured_error(),
                confirming=confirming if confirmed else None)

        say("writing the report")
        found = values(False)
        write_study(found, out)
        write_study_report(out)
        if options.confirm and study.confirm.designs:
            found = values(True)
            write_study(found, out)
            write_study_report(out)
    return found | {"evaluated": state.evaluated, "taken_over": journal.taken_over,
                    "search_s": seconds}


def run_worker(study: Study, out: Path, storage: str, idle_s: float, say: Say) -> int:
    """Evaluate points for a run of the same study elsewhere; returns how many chunks."""
    path = out / SENSITIVITY_FILE
    measured = path.resolve() if path.is_file() else None
    return serve(study, measured, storage, study_digest(study, measured), idle_s,
                 lambda count: say(f"{count} chunks of points evaluated"))
