"""Workers on other machines: processes with folders of their own, where the study's files are not.

The study, its hardware, scheme, model and sensitivities are files beside the coordinator, by
relative path.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from compiler.frontends.load import load_model
from compiler.quant.scheme import LINEARS, load_scheme
from hw.errors import ToolError
from hw.presets import CONFIGS, load_hardware
from lutrip.cli import main
from lutrip.exploring import known_losses, read_study
from reports.explore.accuracy import scheme_key
from reports.explore.database import Database, serve
from reports.explore.job import Job, lutrip_here
from reports.explore.journal import Journal
from reports.explore.pareto import front_points
from reports.explore.run import Points, explore
from reports.explore.search import new_search
from reports.explore.workers import Cluster, Here, remote_cluster, silenced
from tests.compiler.checkpoints import Q4_0, TINY, random_weights, write_gguf
from tests.reports.explore.studies import TEXT, small, write

ROOT = CONFIGS.parent
WAIT_S = 60
PACKAGES = ("hw", "compiler", "sim", "reports", "configs")


@contextmanager
def process(folder, *command, sources=ROOT):
    """A process with a folder of its own."""
    folder.mkdir()
    with subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(sources)}) as started:
        try:
            yield started
        finally:
            started.kill()


def dask_worker(folder, *options, sources=ROOT):
    """A Dask worker by its command line, without a process that would start it again."""
    return process(folder, "dask", "worker", *options, "--nthreads", "1", "--no-nanny",
                   "--no-dashboard", sources=sources)


def wait(what):
    """Until something is so."""
    begun = time.monotonic()
    while not (found := what()):
        assert time.monotonic() - begun < WAIT_S
        time.sleep(0.01)
    return found


def coordinator(folder):
    """A folder with a study and the files that it names."""
    (folder / "parts").mkdir(parents=True)
    hardware = {**dataclasses.asdict(load_hardware("tiny")), "tokens_max": 20}
    (folder / "own.yaml").write_text(yaml.safe_dump(hardware))
    shutil.copy(CONFIGS / "schemes" / "simd-w8a8-tiny.yaml", folder / "parts" / "mine.yaml")
    shutil.copy(CONFIGS / "memory" / "ddr4-kv260.yaml", folder / "parts" / "slow.yaml")
    write_gguf(folder / "own.gguf", TINY, random_weights(TINY), Q4_0)
    text = TEXT
    for old, new in (("model: shape:tiny", "model: own.gguf\naccuracy: own.gguf"),
                     ("hardware: tiny", "hardware: ./own.yaml"), ("ddr4-kv260", "parts/slow.yaml"),
                     ("[simd-w4a8-tiny, simd-w8a8-tiny]", "[simd-w4a8-tiny, parts/mine.yaml]"),
                     ("lut]", "loss_nats]"), ("batch: 8", "batch: 24")):
        assert old in text, old
        text = text.replace(old, new)
    write(folder, text)
    losses = {"simd-w4a8-tiny": 0.02, "simd-w8a8-tiny": 0.01, "rowgen-2bit": 0.3}
    rows = [{"name": name, "key": scheme_key(load_scheme(name).default),
             "losses": {linear: [loss, loss] for linear in LINEARS}}
            for name, loss in losses.items()]
    (folder / "out").mkdir()
    origin = {"model": "own.gguf", "text": "news", "architecture": repr(
        load_model(str(folder / "own.gguf")).architecture)}
    (folder / "out" / "sensitivity.json").write_text(json.dumps({**origin, "schemes": rows}))
    return folder


def run(job, folder, workers):
    with Journal(folder, job.study, resume=None, known=job.known) as journal:
        return explore(job.study, new_search(job.study), Points(journal, workers)).outcomes


def lines(path):
    return len(path.read_text().splitlines()) if path.is_file() else 0


def test_dask_workers_without_the_files(tmp_path, monkeypatch, capsys):
    """A scheduler and two workers by their command lines; one is killed in the middle."""
    monkeypatch.chdir(coordinator(tmp_path / "coordinator"))
    file, journal = tmp_path / "scheduler.json", Path("out") / "outcomes.jsonl"
    cluster, kept = ("--scheduler-file", str(file)), []
    with ExitStack() as stack:
        scheduler = stack.enter_context(process(
            tmp_path / "scheduler", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0",
            "--no-dashboard", *cluster))
        helpers = [stack.enter_context(dask_worker(tmp_path / name, *cluster))
                   for name in ("first", "second")]
        study = read_study("small.yaml", None, None)
        job = Job.of(study, known_losses(study, Path("out")))
        alone = run(job, tmp_path / "alone", Here(job))
        address = json.loads(wait(lambda: file.is_file() and file.read_text()))["address"]

        def kill():
            wait(lambda: lines(journal) > 4)
            helpers[0].kill()
            kept.append(lines(journal) - 1)

        killer = threading.Thread(target=kill)
        killer.start()
        status = main(["explore", "small.yaml", "--out", "out", "--scheduler", address,
                       "--no-evaluate", "--no-confirm"])
        killer.join()
        assert status == 0, capsys.readouterr().err
        assert [helper.poll() is None for helper in helpers] == [False, True]
        check_another_lutrip(job, address, cluster, tmp_path)
        check_lost_scheduler(job, address, scheduler)
    rows = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    assert 0 < kept[0] < len(rows)
    assert {tuple(row.pop("point")): row for row in rows} == {
        point: outcome.to_dict() for point, outcome in alone.items()}
    assert {outcome.accuracy for outcome in alone.values()} == {"predicted"}
    front = Path("out") / "front.csv"
    assert lines(front) - 1 == len(front_points(study, alone)) > 1


def check_another_lutrip(job, address, cluster, folder):
    """A worker with other sources is refused by its address, also when it comes later."""
    from distributed import Client

    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / "sources" / package,
                        ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "sources" / "sim" / "costs.py").open("a") as changed:
        changed.write("# another\n")
    with dask_worker(folder / "third", *cluster, sources=folder / "sources"), \
            Client(address) as client:
        client.wait_for_workers(2)
        sources = client.run(lutrip_here)
        (other,) = (worker for worker, there in sources.items() if there != lutrip_here())
        refused = pytest.raises(ToolError, match=f"the Dask worker at {other} has lutrip .*sources")
        with refused, remote_cluster(job, address):
            pass
        client.retire_workers([worker for worker in sources if worker != other])
        with refused:
            Cluster(job, client).run([(0, 0, 0, 0)], print)


def check_lost_scheduler(job, address, scheduler):
    """Points wait for a worker when the scheduler dies."""
    from distributed import Client

    with silenced(), Client(address) as client:
        killer = threading.Timer(0.5, scheduler.kill)
        killer.start()
        with pytest.raises(ToolError, match="the Dask scheduler went away; start one again"):
            Cluster(job, client).run([(0, 0, 0, 0)], print)
        killer.join()


def test_database_worker_is_killed(tmp_path):
    """``lutrip explore --worker`` ends by SIGKILL within a chunk; nothing is lost."""
    study = small(tmp_path, ("[ideal, ddr4-kv260]", "[ideal]"))
    job, url = Job.of(study), f"sqlite:///{tmp_path}/points.db"
    alone = run(job, tmp_path / "alone", Here(job))
    coordinating = Database(job, url)
    coordinating.queue.enqueue_trial({}, user_attrs={"points": list(alone)})
    with process(tmp_path / "worker", "lutrip.cli", "explore", str(study.path), "--storage", url,
                 "--worker") as worker:
        wait(lambda: worker.poll() is not None or coordinating.queue.get_trials(
            deepcopy=False, states=(TrialState.RUNNING,)))
        worker.kill()
        worker.wait()
    (taken,) = coordinating.queue.get_trials(deepcopy=False)
    assert taken.state == TrialState.RUNNING
    found = run(job, tmp_path / "shared", coordinating)
    assert list(found.items()) == list(alone.items())
    assert front_points(study, found) == front_points(study, alone)


@pytest.mark.parametrize(("change", "said"), [
    ("lutrip", r"the database has points of small for lutrip 9.9, here is lutrip .*install"),
    ("files", r"the database has points of small for other files: copy the run's study")])
def test_database_for_others(tmp_path, monkeypatch, change, said):
    study, url = small(tmp_path), f"sqlite:///{tmp_path}/points.db"
    other = study if change == "lutrip" else small(tmp_path, ("prefill: 12", "prefill: 11"))
    with monkeypatch.context() as patch:
        if change == "lutrip":
            for module in ("database", "journal"):
                patch.setattr(f"reports.explore.{module}.lutrip_here", lambda: "lutrip 9.9")
        there = Database(Job.of(other), url)
    assert serve(Job.of(study), url, idle_s=0.3) == 0
    there.queue.enqueue_trial({}, user_attrs={"points": [(0, 0, 0, 0)]})
    with pytest.raises(ToolError, match=said):
        serve(Job.of(study), url, idle_s=5)
