"""`lutrip explore`: a study from its file to its report."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from compiler.quant.scheme import load_scheme
from hw.errors import LutripError
from lutrip.estimating import measured_error
from lutrip.evaluation import Evaluator
from lutrip.sensitivities import (
    first_evaluated,
    measure_missing,
    missing_schemes,
    own_file,
)
from reports.explore.accuracy import Sensitivities, load_sensitivities, map_key
from reports.explore.confirm import confirm
from reports.explore.database import Database, serve
from reports.explore.details import design_folder, write_design
from reports.explore.front_loss import Evaluate, FrontLosses, UnavailableError
from reports.explore.job import Job
from reports.explore.journal import Journal
from reports.explore.nothing import check_feasible
from reports.explore.result import study_values, write_study
from reports.explore.run import Explored, Points, explore, measure_front
from reports.explore.search import new_search
from reports.explore.space import Design, Point, check_space, design_of
from reports.explore.study import Study, load_study
from reports.explore.workers import Here, Workers, local_cluster, remote_cluster
from reports.study_page.page import write_study_report

Say = Callable[[str], None]
IDLE_S = 600.0
"""Seconds without work until a worker at a database ends."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How a study is explored; every one of them may differ between runs with the same result.

    jobs: local processes. scheduler: address of a Dask cluster instead; storage: database instead.
    resume: as for `reports.explore.journal.Journal`. measure: sensitivities that are not known.
    evaluate: measure the front's losses. confirm: run the best designs in RTL. build_dir: of the
    circuits.
    """

    jobs: int = 1
    scheduler: str | None = None
    storage: str | None = None
    resume: bool | None = None
    measure: bool = False
    evaluate: bool = True
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


def workers_of(job: Job, options: Options) -> AbstractContextManager[Workers]:
    """Where points are evaluated."""
    if options.scheduler is not None:
        return remote_cluster(job, options.scheduler)
    if options.storage is not None:
        return nullcontext(Database(job, options.storage))
    if options.jobs == 1:
        return nullcontext(Here(job))
    return local_cluster(job, options.jobs)


def known_losses(study: Study, out: Path) -> Sensitivities | None:
    """What is known of the model whose accuracy counts, also by a folder's own file."""
    if study.accuracy is None:
        return None
    return load_sensitivities(study.accuracy, own_file(study, out))


def sensitivities(study: Study, out: Path, measure: bool, say: Say) -> Sensitivities | None:
    """`known_losses` of all schemes; raises LutripError where some are missing."""
    if study.accuracy is None:
        return None
    if missing := missing_schemes(study, own_file(study, out)):
        if not measure:
            names = ", ".join(sorted({part.name for part in missing}))
            raise LutripError(
                f"{study.path}: no sensitivity of {study.accuracy} is known for {names}; "
                "--measure measures it (minutes for each scheme), or leave accuracy out")
        measure_missing(study, missing, out, say)
    return known_losses(study, out)


def evaluating(study: Study, out: Path, say: Say) -> Evaluate:
    """Evaluates a design's scheme on the study's accuracy model, on the design's hardware.

    What an evaluation does is kept in the cache after each layer, as by ``lutrip evaluate``.
    """
    assert study.accuracy is not None
    model, options = study.accuracy, study.evaluate

    def evaluate(design: Design, number: int) -> dict[str, Any]:
        files = write_design(design, design_folder(out, number))
        name = f"design {number}, accuracy of {design.scheme.name}"
        say(f"{name}: reading {model}")
        assert map_key(load_scheme(files["scheme"])) == map_key(design.scheme)
        first = first_evaluated(options.text)
        try:
            evaluator = Evaluator(model, files["hardware"], text=options.text,
                                  tokens=options.tokens, first_window=first)
        except LutripError as error:
            raise UnavailableError(str(error)) from None
        values = evaluator.run(
            files["scheme"], lambda text: say(f"{name}: {text}"),
            lambda done, total: say(f"{name}: {done} of {total} layers of windows"))
        return {**values, "command": shlex.join([
            "lutrip", "evaluate", "--model", model, "--scheme", files["scheme"], "--hw",
            files["hardware"], "--text", options.text, "--first-window", str(first), "--tokens",
            str(options.tokens)])}

    return evaluate


def run_study(
    study: Study, out: Path, options: Options, command: str, say: Say = lambda text: None,
    progress: Callable[[Explored], None] = lambda state: None,
) -> dict[str, Any]:
    """Explore a study into a folder; returns the values of study.json.

    An interruption leaves the outcomes, to go on with.
    Raises LutripError, ToolError.
    """
    job = Job.of(study, sensitivities(study, out, options.measure, say))
    with Journal(out, study, resume=options.resume, known=job.known) as journal:
        say("starting workers")
        begun = time.monotonic()
        losses = None if job.known is None else FrontLosses(
            study, job.known, evaluating(study, out, say))

        def confirming(point: Point, number: int) -> list[dict[str, Any]]:
            return confirm(
                design_of(point, study), study.model, study.confirm, design_folder(out, number),
                options.build_dir, lambda said: say(f"design {number}: {said}"))

        def report(confirmed: bool = False) -> dict[str, Any]:
            say("writing the report")
            values = study_values(
                state, command=command, out=out, known=None if losses is None else losses.known,
                error=measured_error(), evaluations=() if losses is None else losses.rows,
                confirming=confirming if confirmed else None)
            write_study(values, out)
            write_study_report(out)
            return values

        with workers_of(job, options) as workers:
            state = explore(study, new_search(study), Points(journal, workers, progress))
        seconds = time.monotonic() - begun
        check_feasible(study, state.outcomes)
        found = report()
        if losses is not None and options.evaluate:
            # The few points that come up now need no workers.
            measure_front(state, losses, Points(journal, Here(job), progress))
            found = report() if losses.rows else found
            check_feasible(study, state.outcomes)
        if options.confirm and study.confirm.designs:
            found = report(confirmed=True)
    return found | {"evaluated": state.evaluated, "taken_over": journal.taken_over,
                    "search_s": seconds}


def run_worker(study: Study, out: Path, storage: str, idle_s: float, say: Say) -> int:
    """Evaluate points for a run of the same study elsewhere; returns how many chunks."""
    return serve(Job.of(study, known_losses(study, out)), storage, idle_s,
                 lambda count: say(f"{count} chunks of points evaluated"))
