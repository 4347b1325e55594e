"""Folders side by side: runs with runs, studies with studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.errors import LutripError
from reports.differences import Result, Setting, run_results, run_settings, settings_of
from reports.facts import labels as run_labels
from reports.page import FIGURES, render, write_page
from reports.records import RESULT, SUMMARY, load_checks, load_records
from reports.study_page import compare
from reports.study_page.study import STUDY, load_study

STUDIES, RUNS = "studies", "runs"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was compared, what came out, and what was written."""

    kind: str
    names: tuple[str, ...]
    settings: tuple[Setting, ...]
    results: tuple[Result, ...]
    page: Path
    figures: tuple[Path, ...]

    def values(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "kind": self.kind, "names": list(self.names), "report": str(self.page),
            "figures": [str(path) for path in self.figures],
            "settings": [{"name": row.label, "values": list(row.values), "differs": row.differs}
                         for row in self.settings],
            "results": [{"name": row.label, "provenance": str(row.tag),
                         "values": list(row.values), "ratios": list(row.ratios)}
                        for row in self.results]}


def kind_of(folder: Path) -> str:
    """What a folder holds; raises LutripError where it is neither run nor study."""
    if not folder.is_dir():
        raise LutripError(f"{folder}: no such folder; give the folder of a run or of a study")
    if (folder / STUDY).is_file():
        return STUDIES
    if (folder / RESULT).is_file() or (folder / SUMMARY).is_file():
        return RUNS
    raise LutripError(f"{folder}: holds neither a finished run nor a study; run 'lutrip simulate "
                      f"{folder}' or 'lutrip explore' with --out {folder} first")


def write_comparison(folders: Sequence[Path], out: Path) -> Comparison:
    """Write ``report.html`` and ``figures`` of folders side by side into ``out``.

    Raises LutripError, and writes nothing, where a folder is damaged or holds neither, or where
    runs stand beside studies.
    """
    kinds = {kind_of(folder): folder for folder in reversed(folders)}
    if len(kinds) > 1:
        raise LutripError(f"{kinds[RUNS]} holds runs and {kinds[STUDIES]} a study; compare runs "
                          f"with runs and studies with studies")
    return _studies(folders, out) if STUDIES in kinds else _runs(folders, out)


def _studies(folders: Sequence[Path], out: Path) -> Comparison:
    studies = [load_study(folder) for folder in folders]
    page, *figures = compare.write_study_comparison(studies, out)
    return Comparison(
        kind=STUDIES, names=tuple(compare.labels(studies)),
        settings=tuple(settings_of([compare.study_settings(study) for study in studies])),
        results=tuple(compare.study_results(studies)), page=page, figures=tuple(figures))


def _runs(folders: Sequence[Path], out: Path) -> Comparison:
    records = [record for folder in folders for record in load_records(folder)]
    text, pictures = render(records, [check for folder in folders
                                      for check in load_checks(folder)])
    out.mkdir(parents=True, exist_ok=True)
    page = write_page(out, text, pictures)
    return Comparison(
        kind=RUNS, names=tuple(run_labels(records)),
        settings=tuple(settings_of([run_settings(record) for record in records])),
        results=tuple(run_results(records)), page=page,
        figures=tuple(out / FIGURES / picture.file for picture in pictures))
