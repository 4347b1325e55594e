"""Outcomes as they come, in a file that survives any end of the process."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TextIO

from hw.errors import LutripError
from reports.explore.accuracy import Sensitivities
from reports.explore.evaluate import Outcome
from reports.explore.job import lutrip_here
from reports.explore.space import Point, contents_of
from reports.explore.study import Study

FILE = "outcomes.jsonl"
FORMAT = 1
APART = ("name", "path", "text", "title", "question", "choose", "sampler", "points", "batch",
         "seed", "evaluate", "confirm", "references", "objectives", "named")
"""What of a study no outcome depends on: a search goes on with others of these."""


def study_digest(study: Study, known: Sensitivities | None = None) -> str:
    """Hash of everything that outcomes depend on: contents of named files, sources of lutrip.

    known: of the model whose accuracy counts. Raises LutripError.
    """
    values = {name: value for name, value in dataclasses.asdict(study).items()
              if name not in APART}
    text = json.dumps([FORMAT, lutrip_here(), values, contents_of(study), repr(known)],
                      sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Journal:
    """Outcomes by point; `add` appends lines, whole ones only are read again."""

    def __init__(
        self, folder: Path, study: Study, *, resume: bool | None,
        known: Sensitivities | None = None,
    ) -> None:
        """Open, or go on with, the journal of a folder.

        resume: True takes over what is there, False removes it, None refuses to touch it.
        Raises LutripError in one line.
        """
        self.path = folder / FILE
        self.known: dict[Point, Outcome] = {}
        digest = study_digest(study, known)
        if self.path.is_file() and self.path.stat().st_size and resume is not False:
            if resume is None:
                raise LutripError(f"{folder} holds outcomes of an earlier run; --resume goes on "
                                  "with them, --no-resume removes them")
            self._read(digest, folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.taken_over = len(self.known)
        self._file: TextIO = self.path.open("a" if self.known else "w", encoding="utf-8")
        if not self.known:
            self._write({"format": FORMAT, "study": digest})
            self._file.flush()

    def _read(self, digest: str, folder: Path) -> None:
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        try:
            header = json.loads(whole[0]) if whole else {}
            known = header.get("study")
            for line in whole[1:]:
                row = json.loads(line)
                point = tuple(row.pop("point"))
                self.known[point] = Outcome(**row)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise LutripError(f"{self.path}: damaged; --no-resume begins anew") from None
        if known != digest:
            raise LutripError(
                f"{folder} holds outcomes of another study or version; give another --out, or "
                "--no-resume, which removes them")
        if len(whole) < len(lines):
            # The last line was cut off when the process ended.
            with self.path.open("r+", encoding="utf-8") as file:
                file.truncate(sum(len(line.encode()) for line in whole))

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")

    def add(self, outcomes: Iterable[tuple[Point, Outcome]]) -> None:
        """Keep outcomes."""
        for point, outcome in outcomes:
            self.known[point] = outcome
            self._write({"point": point, **outcome.to_dict()})
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
