"""Workers: the same outcomes from a cluster or a database, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from hw.errors import ToolError
from reports.explore.evaluate import evaluate_point
from reports.explore.journal import Journal, study_digest
from reports.explore.run import explore, front_points
from reports.explore.search import new_search
from reports.explore.space import point_of
from reports.explore.workers import (
    Database,
    Here,
    evaluate_chunk,
    local_cluster,
    open_queue,
    remote_cluster,
)
from tests.reports.explore.studies import small


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return small(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def alone(study, tmp_path_factory):
    with Journal(tmp_path_factory.mktemp("alone"), study, resume=None) as journal:
        return explore(study, new_search(study), journal, Here(study, None)).outcomes


def run(study, folder, workers, progress=lambda state: None):
    with Journal(folder, study, resume=None) as journal:
        return explore(study, new_search(study), journal, workers, progress).outcomes


def test_cluster_with_a_killed_worker(study, alone, tmp_path):
    killed = []
    with local_cluster(study, None, 2) as workers:
        processes = workers.client.run(os.getpid)

        def progress(state):
            if not killed and state.evaluated:
                killed.append(next(iter(processes.values())))
                os.kill(killed[0], signal.SIGKILL)

        found = run(study, tmp_path, workers, progress)
    assert killed
    assert list(found.items()) == list(alone.items())
    assert front_points(study, found) == front_points(study, alone)


def test_scheduler_by_address(study, alone, tmp_path):
    with local_cluster(study, None, 1) as local:
        address = local.client.scheduler.address
        with remote_cluster(study, None, address) as workers:
            assert list(run(study, tmp_path, workers).items()) == list(alone.items())


def test_no_scheduler(study, monkeypatch):
    monkeypatch.setattr("reports.explore.workers.ANSWER_S", 1)
    with pytest.raises(ToolError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"), \
            remote_cluster(study, None, "tcp://127.0.0.1:1"):
        pass


def test_database(study, alone, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/points.db"
    workers = Database(study, None, url, study_digest(study))
    assert list(run(study, tmp_path / "a", workers).items()) == list(alone.items())
    monkeypatch.setattr("reports.explore.workers.evaluate_chunk", None)
    again = Database(study, None, url, study_digest(study))
    assert list(run(study, tmp_path / "b", again).items()) == list(alone.items())


def test_database_with_a_helper(study, alone, tmp_path, monkeypatch):
    """Another process helps one that is slow."""
    def slowly(points, *others):
        time.sleep(0.5)
        return evaluate_chunk(points, *others)

    url = f"sqlite:///{tmp_path}/points.db"
    workers = Database(study, None, url, study_digest(study))
    monkeypatch.setattr(workers, "work", lambda: False)
    monkeypatch.setattr("reports.explore.workers.evaluate_chunk", slowly)
    with subprocess.Popen(
            [sys.executable, "-m", "lutrip.cli", "explore", str(study.path), "--storage", url,
             "--worker", "--idle", "3"], stdout=subprocess.PIPE, text=True) as helper:
        found = run(study, tmp_path / "a", workers)
        said = helper.stdout.read()
    assert list(found.items()) == list(alone.items())
    assert "1 chunks of points evaluated" in said


def test_points_of_a_dead_worker_are_not_lost(study, tmp_path):
    url, digest = f"sqlite:///{tmp_path}/points.db", study_digest(study)
    queue = open_queue(url, f"{study.name}-{digest}")
    points = [point_of(index, study) for index in (3, 4)]
    queue.enqueue_trial({}, user_attrs={"points": points})
    program = (
        "import sys, time\n"
        "from reports.explore import workers\n"
        "def hang(*arguments):\n"
        "    print('taken', flush=True)\n"
        "    time.sleep(600)\n"
        "workers.evaluate_chunk = hang\n"
        "from reports.explore.study import load_study\n"
        "workers.Database(load_study(sys.argv[1]), None, sys.argv[2], sys.argv[3]).work()\n")
    with subprocess.Popen([sys.executable, "-c", program, str(study.path), url, digest],
                          stdout=subprocess.PIPE) as helper:
        assert helper.stdout.readline() == b"taken\n"
        helper.kill()
    found = {}
    Database(study, None, url, digest).run(points, found.update)
    assert found == {point: evaluate_point(point, study) for point in points}


def test_no_database(study):
    with pytest.raises(ToolError, match="--storage nosuch://x"):
        Database(study, None, "nosuch://x", "digest")
