"""Where points are evaluated: here, in local processes, on a Dask cluster, or over a database."""

from __future__ import annotations

import logging
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from hw.errors import ToolError
from reports.explore.evaluate import Outcome
from reports.explore.job import Job, lutrip_here, unpacked
from reports.explore.space import Point

Done = Callable[[list[tuple[Point, Outcome]]], None]
CHUNK, SHARES = 10, 16
"""Most points that a worker takes at once, and fewest parts of a batch that has so many."""
START_S, ANSWER_S = 60, 30
"""How long a cluster may take to start and to answer."""


class Workers(Protocol):
    """Evaluates points."""

    def run(self, points: Sequence[Point], done: Done) -> None:
        """Evaluate points; ``done`` is told of some at a time, in any order."""


def chunks(points: Sequence[Point], size: int) -> list[Sequence[Point]]:
    """Points in groups."""
    return [points[at:at + size] for at in range(0, len(points), size)]


class Here:
    """In the same process."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def run(self, points: Sequence[Point], done: Done) -> None:
        for chunk in chunks(points, CHUNK):
            done(self.job.evaluate(chunk))


def evaluate_sent(
    points: Sequence[Point], lutrip: str, packed: bytes
) -> list[tuple[Point, Outcome]]:
    """Outcomes of some points on a worker; raises ToolError where its lutrip is another."""
    if (own := lutrip_here()) != lutrip:
        from distributed import get_worker

        raise other_lutrip(get_worker().address, own, lutrip)
    return unpacked(packed).evaluate(points)


def other_lutrip(address: str, there: str, here: str) -> ToolError:
    """Of a worker that would give other outcomes."""
    return ToolError(f"the Dask worker at {address} has {there}, this machine {here}; install the "
                     "same there and start the worker again")


class Cluster:
    """A Dask cluster; points of a worker that dies go to another one."""

    def __init__(self, job: Job, client: Any) -> None:
        self.client = client
        # A task's result, unlike scattered data, is computed again when its last holder dies. Bytes
        # can be taken in by a worker whose lutrip knows no such job, which then says so.
        self._packed = client.submit(bytes, pickle.dumps(job), pure=False)

    def run(self, points: Sequence[Point], done: Done) -> None:
        from distributed import KilledWorker, as_completed
        from distributed.client import FutureCancelledError

        size = min(max(len(points) // SHARES, 1), CHUNK)
        futures = [self.client.submit(evaluate_sent, list(chunk), lutrip_here(), self._packed,
                                      pure=False, retries=3)
                   for chunk in chunks(points, size)]
        try:
            for future in as_completed(futures):
                done(future.result())
        except ImportError as error:
            raise ToolError(f"a Dask worker cannot run lutrip: {error}; install "
                            f"{lutrip_here()} there") from None
        except KilledWorker as error:
            raise ToolError(f"the Dask cluster gave up: {str(error).splitlines()[0]}; --resume "
                            "goes on") from None
        except FutureCancelledError:
            raise ToolError("the Dask scheduler went away; start one again, then --resume goes "
                            "on") from None
        finally:
            self.client.cancel(futures)


def ignore_interrupts() -> None:
    """Ctrl-C goes to the whole process group; the process in front tells its workers to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def local_cluster(job: Job, jobs: int) -> Iterator[Workers]:
    """``jobs`` processes of this machine."""
    from distributed import Client, LocalCluster

    with silenced(), LocalCluster(
            n_workers=jobs, threads_per_worker=1, processes=True, dashboard_address=":0",
            silence_logs=logging.CRITICAL) as cluster, Client(cluster) as client:
        client.run(ignore_interrupts)
        yield Cluster(job, client)


@contextmanager
def remote_cluster(job: Job, address: str) -> Iterator[Workers]:
    """Workers of a scheduler; raises ToolError where none answers or one has another lutrip."""
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
            check_workers(client.run(lutrip_here, on_error="return"))
            yield Cluster(job, client)


def check_workers(answers: dict[str, str | BaseException]) -> None:
    """Raise ToolError for a worker whose lutrip is another one, or is missing."""
    for worker, there in answers.items():
        if there != lutrip_here():
            said = there if isinstance(there, str) else f"no such lutrip ({there})"
            raise other_lutrip(worker, said, lutrip_here())


@contextmanager
def silenced() -> Iterator[None]:
    """Without the cluster's remarks on workers that come and go."""
    loggers = [logging.getLogger(name) for name in (
        "distributed", "distributed.client", "asyncio", "tornado", "tornado.application")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
