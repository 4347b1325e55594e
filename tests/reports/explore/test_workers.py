"""Workers: the same outcomes from a cluster or a database, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import dask
import pytest

from hw.errors import ToolError
from reports.explore.database import Database
from reports.explore.job import Job
from reports.explore.journal import Journal
from reports.explore.pareto import front_points
from reports.explore.run import Points, explore
from reports.explore.search import new_search
from reports.explore.workers import (
    Here,
    local_cluster,
    remote_cluster,
)
from tests.reports.explore.studies import small


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return small(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def alone(study, tmp_path_factory):
    with Journal(tmp_path_factory.mktemp("alone"), study, resume=None) as journal:
        return explore(study, new_search(study), Points(journal, Here(Job.of(study)))).outcomes


def run(study, folder, workers, progress=lambda state: None):
    with Journal(folder, study, resume=None) as journal:
        return explore(study, new_search(study), Points(journal, workers, progress)).outcomes


def test_cluster_whose_only_worker_is_killed(study, alone, tmp_path):
    """The one that is started instead gets the job anew."""
    killed = []
    with local_cluster(Job.of(study), 1) as workers:
        processes = workers.client.run(os.getpid)

        def progress(state):
            if not killed and state.evaluated:
                killed.append(next(iter(processes.values())))
                os.kill(killed[0], signal.SIGKILL)

        found = run(study, tmp_path, workers, progress)
    assert killed
    assert list(found.items()) == list(alone.items())
    assert front_points(study, found) == front_points(study, alone)


def test_a_point_that_kills_its_workers(study, tmp_path):
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), \
            local_cluster(Job.of(study), 1) as workers:
        (process,) = workers.client.run(os.getpid).values()
        killed = []

        def progress(state):
            if not killed:
                killed.append(process)
                os.kill(process, signal.SIGKILL)

        with pytest.raises(ToolError, match=r"the Dask cluster gave up: .*; --resume goes on"):
            run(study, tmp_path, workers, progress)


def test_scheduler_by_address(study, alone, tmp_path):
    with local_cluster(Job.of(study), 1) as local:
        address = local.client.scheduler.address
        with remote_cluster(Job.of(study), address) as workers:
            assert list(run(study, tmp_path, workers).items()) == list(alone.items())


def test_no_scheduler(study, monkeypatch):
    monkeypatch.setattr("reports.explore.workers.ANSWER_S", 1)
    with pytest.raises(ToolError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"), \
            remote_cluster(Job.of(study), "tcp://127.0.0.1:1"):
        pass


def test_database(study, alone, tmp_path, monkeypatch):
    url, job = f"sqlite:///{tmp_path}/points.db", Job.of(study)
    workers = Database(job, url)
    assert list(run(study, tmp_path / "a", workers).items()) == list(alone.items())
    monkeypatch.setattr(Job, "evaluate", None)
    again = Database(job, url)
    assert list(run(study, tmp_path / "b", again).items()) == list(alone.items())


def test_database_with_a_helper(study, alone, tmp_path, monkeypatch):
    """Another process helps one that is slow."""
    evaluate = Job.evaluate

    def slowly(job, points):
        time.sleep(0.5)
        return evaluate(job, points)

    url = f"sqlite:///{tmp_path}/points.db"
    workers = Database(Job.of(study), url)
    monkeypatch.setattr(workers, "work", lambda: False)
    monkeypatch.setattr(Job, "evaluate", slowly)
    with subprocess.Popen(
            [sys.executable, "-m", "lutrip.cli", "explore", str(study.path), "--storage", url,
             "--worker", "--idle", "3"], stdout=subprocess.PIPE, text=True) as helper:
        found = run(study, tmp_path / "a", workers)
        said = helper.stdout.read()
    assert list(found.items()) == list(alone.items())
    assert "1 chunks of points evaluated" in said


def test_no_database(study):
    with pytest.raises(ToolError, match="--storage nosuch://x"):
        Database(Job.of(study), "nosuch://x")
