"""A study's points as CSV: every value in full, one row a point."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from reports.study_page.study import Study

POINTS, FRONT = "points.csv", "front.csv"
ENDS = ("bound_prefill", "bound_decode", "accuracy")


def csv_of(study: Study, rows: Iterable[int]) -> bytes:
    """The chosen rows of the points' columns, empty where a value is unknown."""
    columns = study["points"]
    groups = [columns["parameters"], columns["metrics"]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "state", "front", *(name for group in groups for name in group), *ENDS,
                     "reason"])
    for row in rows:
        writer.writerow([columns["id"][row], columns["state"][row], int(columns["front"][row]),
                         *(column[row] for group in groups for column in group.values()),
                         *(columns[end][row] for end in ENDS), columns["reason"][row]])
    return text.getvalue().encode()


def tables_of(study: Study) -> dict[str, bytes]:
    """Both files by name: all points, and the front in the order of the page."""
    return {POINTS: csv_of(study, range(len(study["points"]["id"]))),
            FRONT: csv_of(study, (study.rows[number] for number in study.front))}
