"""What evaluating a study's points takes, in one piece that can be sent to another machine."""

from __future__ import annotations

import functools
import gc
import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Self

from hw.presets import CONFIGS
from reports.explore.accuracy import Sensitivities
from reports.explore.evaluate import Outcome, evaluate_point
from reports.explore.space import Point, contents_of
from reports.explore.study import Study

SOURCES = ("hw/**/*.py", "compiler/**/*.py", "sim/**/*.py", "reports/explore/*.py",
           "configs/*.yaml", "configs/energy/*.yaml", "configs/memory/*.yaml",
           "configs/resources/*.yaml")
"""What outcomes come from besides a job: programs and the tables that they read."""


@functools.cache
def lutrip_here() -> str:
    """Version of this process' lutrip and hash of its sources: equal where outcomes are."""
    total, root = hashlib.sha256(), CONFIGS.parent
    for pattern in SOURCES:
        for path in sorted(root.glob(pattern)):
            total.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return f"lutrip {version('lutrip')} (sources {total.hexdigest()[:12]})"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A study whose names are all read, and what is known of the model whose accuracy counts.

    No file of the user's is read for a point. Made by `of`.
    """

    study: Study
    known: Sensitivities | None

    @classmethod
    def of(cls, study: Study, known: Sensitivities | None = None) -> Self:
        """Read what the study names; raises LutripError in one line."""
        contents_of(study)
        return cls(study=replace(study, named=study.named.closed()), known=known)

    def evaluate(self, points: Sequence[Point]) -> list[tuple[Point, Outcome]]:
        """Outcomes of some points."""
        settle()
        return [(point, evaluate_point(point, self.study, self.known)) for point in points]


@functools.cache
def settle() -> None:
    """Let the garbage collector pass over what this process loaded: an eighth of a point's time."""
    gc.collect()
    gc.freeze()


@functools.lru_cache(maxsize=4)
def unpacked(packed: bytes) -> Job:
    """A job as it came from the coordinator's machine."""
    job: Job = pickle.loads(packed)
    return job
