"""Why a study found no design."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from reports.explore.evaluate import Outcome
from reports.explore.marked_yaml import marked
from reports.explore.metrics import METRICS, told
from reports.explore.space import Point
from reports.explore.study import Study


def check_feasible(study: Study, outcomes: Mapping[Point, Outcome]) -> None:
    """Raise LutripError, with the place of what is to blame most, where no design is feasible."""
    states = Counter(outcome.state for outcome in outcomes.values())
    if states["feasible"]:
        return
    place = marked(study.path, study.text)
    built = [outcome for outcome in outcomes.values() if outcome.state == "infeasible"]
    if not built:
        reasons = Counter(outcome.reason for outcome in outcomes.values())
        reason, count = reasons.most_common(1)[0]
        raise place.error(["parameters"], f"no design can be built; {count:,} of {len(outcomes):,} "
                          f"points: {reason}", key=True)
    broken = Counter(name for outcome in built
                     for name, value in outcome.violations.items() if value > 0)
    name, count = broken.most_common(1)[0]
    closest = min((outcome for outcome in built if outcome.violations.get(name, 0) > 0),
                  key=lambda outcome: outcome.violations[name])
    said = f"no design meets the constraints; {count:,} of {len(outcomes):,} points break this one"
    if name == "fits":
        keys = ["hardware"]
        raise place.error(keys, f"{said}, the closest: {closest.reason}", key=True)
    value = told(name, closest.metrics[name])
    raise place.error(["constraints", name], f"{said}, the closest has {METRICS[name].label} "
                      f"{value}")


