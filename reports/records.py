"""Results of runs, as `lutrip simulate` writes them, read back for reports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.errors import LutripError

RESULT = "result.json"
TIMELINE = "spans.json"


@dataclass(frozen=True, kw_only=True)
class Span:
    """One instruction on one engine, in cycles from the start of the program."""

    engine: str
    name: str
    start_cycle: int
    end_cycle: int


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run: the values of its result file and its instruction spans."""

    path: Path
    values: dict[str, Any]
    spans: tuple[Span, ...]

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @property
    def name(self) -> str:
        """Short name of the run: its scheme."""
        return str(self.values["scheme"])


def load_record(folder: Path) -> RunRecord:
    """Read a simulated build; raises LutripError in one line when it is not one."""
    path = folder / RESULT
    try:
        values = json.loads(path.read_text())
        spans = json.loads((folder / TIMELINE).read_text())
        return RunRecord(path=folder, values=values, spans=tuple(Span(**span) for span in spans))
    except FileNotFoundError:
        raise LutripError(
            f"{folder}: holds no finished run; run 'lutrip simulate {folder}' first"
        ) from None
    except (json.JSONDecodeError, TypeError, UnicodeDecodeError) as error:
        raise LutripError(f"{path}: damaged result ({error}); simulate again") from None


def load_records(folder: Path) -> list[RunRecord]:
    """A run's own record, or those of the runs that a summary in the folder lists."""
    summary = folder / "summary.json"
    if (folder / RESULT).is_file() or not summary.is_file():
        return [load_record(folder)]
    try:
        runs = [run["folder"] for run in json.loads(summary.read_text())["runs"]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise LutripError(f"{summary}: damaged summary ({error!r})") from None
    return [load_record(folder / name) for name in runs]
