"""Explorations at scale: ``python -m tests.verify.explore_scale``.

The same study four times: with two local workers; with one worker killed in mid-run; interrupted
in mid-run and resumed; and here alone. Writes seconds and whether all found the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compiler.image.image import write_atomically
from reports.explore.accuracy import load_sensitivities
from reports.explore.job import Job
from reports.explore.journal import Journal
from reports.explore.pareto import front_points
from reports.explore.run import Explored, Points, explore
from reports.explore.search import new_search, sampler_name
from reports.explore.space import check_space
from reports.explore.study import Study, load_study
from reports.explore.workers import Cluster, Here, Workers, local_cluster

COMMAND = "python -m tests.verify.explore_scale"
BAR_S = 60.0


def job_of(study: Study) -> Job:
    """The study, and what is known of the model whose accuracy counts."""
    return Job.of(study, load_sensitivities(study.accuracy) if study.accuracy else None)


def run(
    study: Study, folder: Path, workers: Workers, resume: bool | None = None,
    progress: Callable[[Explored], None] = lambda state: None,
) -> Explored:
    """A search, without report."""
    with Journal(folder, study, resume=resume, known=job_of(study).known) as journal:
        return explore(study, new_search(study), Points(journal, workers, progress))


def same(study: Study, one: Explored, other: Explored) -> bool:
    """Whether two searches found the same."""
    return (list(one.outcomes.items()) == list(other.outcomes.items())
            and front_points(study, one.outcomes) == front_points(study, other.outcomes))


def killed(study: Study, folder: Path, jobs: int, half: int) -> Explored:
    """One worker is killed in the middle."""
    done: list[int] = []
    with local_cluster(job_of(study), jobs) as workers:
        assert isinstance(workers, Cluster)
        processes = list(workers.client.run(os.getpid).values())

        def progress(state: Explored) -> None:
            if not done and state.evaluated >= half:
                done.append(processes[0])
                os.kill(processes[0], signal.SIGKILL)

        state = run(study, folder, workers, progress=progress)
    assert done
    return state


def interrupted(study: Study, folder: Path, jobs: int, half: int) -> tuple[Explored, int]:
    """Interrupted in the middle, then resumed; also how many points the first part evaluated."""
    def progress(state: Explored) -> None:
        if state.evaluated >= half:
            raise KeyboardInterrupt

    with local_cluster(job_of(study), jobs) as workers:
        try:
            run(study, folder, workers, progress=progress)
        except KeyboardInterrupt:
            kept = len((folder / "outcomes.jsonl").read_text().splitlines()) - 1
        else:
            raise AssertionError("the search ended before it was interrupted")
    with local_cluster(job_of(study), jobs) as workers:
        return run(study, folder, workers, resume=True), kept


def main() -> int:
    """Run all four, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="v80-beyond")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only-time", action="store_true", help="the first run alone")
    parser.add_argument("--json", type=Path, default=Path("docs/measured/explore.json"))
    arguments = parser.parse_args()
    study = dataclasses.replace(load_study(arguments.study), points=arguments.points)
    check_space(study)
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.monotonic()
        with local_cluster(job_of(study), arguments.jobs) as workers:
            started = time.monotonic()
            whole = run(study, Path(scratch) / "whole", workers)
        seconds = time.monotonic() - begun
        states = Counter(outcome.state for outcome in whole.outcomes.values())
        values: dict[str, Any] = {
            "command": f"{COMMAND} --study {arguments.study} --points {arguments.points} --jobs "
                       f"{arguments.jobs}",
            "study": study.name, "sampler": sampler_name(study), "jobs": arguments.jobs,
            "asked": whole.asked, "distinct": len(whole.outcomes), **states,
            "modelled": sum(bool(outcome.bounds) for outcome in whole.outcomes.values()),
            "start_s": started - begun, "seconds": seconds, "bar_s": BAR_S,
            "points_per_s": whole.asked / seconds,
            "front": len(front_points(study, whole.outcomes))}
        print(json.dumps(values, indent=1), file=sys.stderr, flush=True)
        if not arguments.only_time:
            half = len(whole.outcomes) // 2
            values["same_with_a_killed_worker"] = same(
                study, whole, killed(study, Path(scratch) / "killed", arguments.jobs, half))
            resumed, kept = interrupted(study, Path(scratch) / "cut", arguments.jobs, half)
            values["same_when_resumed"] = same(study, whole, resumed)
            values["evaluated_twice"] = kept + resumed.evaluated - len(whole.outcomes)
            values["same_here_alone"] = same(
                study, whole, run(study, Path(scratch) / "alone", Here(job_of(study))))
    write_atomically(arguments.json, (json.dumps(values, indent=1) + "\n").encode())
    proofs = [value for name, value in values.items() if name.startswith("same_")]
    return 0 if all(proofs) else 1


if __name__ == "__main__":
    sys.exit(main())
