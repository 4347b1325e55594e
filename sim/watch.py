"""Follows a running simulation through the files that it writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

INTERVAL_S = 0.25


class Watcher:
    """Calls back for every line of a record file and for progress, from a thread of its own.

    records: file of JSON lines that grows; progress: file ``run cycle`` that is rewritten; either
    may not be there yet. take: given each record once, in order. running: given run and cycle when
    they change. The end of the ``with`` block takes the rest; `check` raises what a callback did.
    """

    def __init__(
        self, records: Path, progress: Path, take: Callable[[dict[str, Any]], None],
        running: Callable[[int, int], None],
    ) -> None:
        self._records, self._progress = records, progress
        self._take, self._running = take, running
        self._read = 0
        self._last: tuple[int, ...] = ()
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def check(self) -> None:
        """Raise the first exception of a callback."""
        if self._error is not None:
            raise self._error

    def _loop(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self._look()

    def _look(self) -> None:
        if self._error is not None:
            return
        try:
            for record in self._new_records():
                self._take(record)
            self._tell()
        except Exception as error:
            self._error = error

    def _new_records(self) -> list[dict[str, Any]]:
        if not self._records.is_file():
            return []
        with self._records.open("rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        return [json.loads(line) for line in whole.splitlines()]

    def _tell(self) -> None:
        try:
            run, cycle = map(int, self._progress.read_text().split())
        except (OSError, ValueError):
            # Not there yet, or read while it is written.
            return
        if (run, cycle) != self._last:
            self._last = run, cycle
            self._running(run, cycle)
