"""What each linear in each scheme adds to a text's loss: measured on golden, kept as data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from compiler.decoder.quantize import WINDOW
from compiler.frontends.load import load_model
from compiler.image.image import write_atomically
from compiler.mixed.counters import Timing
from compiler.mixed.measure import Question, measure
from compiler.mixed.mixes import predicted_losses
from compiler.quant.scheme import Scheme, SchemeMap
from hw.config import HardwareConfig
from hw.presets import load_hardware
from lutrip.mixing import texts_of
from reports.explore.accuracy import load_sensitivities, map_key, scheme_key
from reports.explore.space import every_scheme
from reports.explore.study import Study

SENSITIVITY_FILE = "sensitivity.json"
UNSEEN_TOKENS = 256
TEXT = "news"

Say = Callable[[str], None]


def hardware_for(part: Scheme) -> HardwareConfig:
    """Hardware that a scheme's linears run on; it changes nothing in the arithmetic."""
    base = load_hardware("sim")
    return dataclasses.replace(base, vector_length=getattr(part, "vector_length", 2))


def scheme_rows(
    model: str, parts: Sequence[Scheme], folder: Path, say: Say = lambda text: None
) -> list[dict[str, Any]]:
    """Losses of schemes by linear and layer, nats a token; what the folder holds is taken over.

    parts: with one vector length. Raises LutripError in one line for a scheme that cannot be
    measured.
    """
    loaded = load_model(model)
    texts = texts_of(model, TEXT, None, 4 * WINDOW, UNSEEN_TOKENS)
    measured = measure(Question(
        model=loaded, hardware=hardware_for(parts[0]),
        candidates={part.name: part for part in parts},
        options=SchemeMap(name=parts[0].name, default=parts[0]),
        calibration=texts.calibration.ids, unseen=texts.unseen.ids, tokens=1, timing=Timing()),
        folder, say)
    losses: dict[str, dict[str, list[float]]] = {part.name: {} for part in parts}
    for (place, name), loss in predicted_losses(measured, "output").items():
        losses[name].setdefault(place[1], []).append(loss)
    return [{"name": part.name, "key": scheme_key(part), "losses": losses[part.name]}
            for part in parts]


def by_vector_length(parts: Iterable[Scheme]) -> dict[int, list[Scheme]]:
    """Schemes that are measured together."""
    groups: dict[int, list[Scheme]] = {}
    for part in parts:
        groups.setdefault(hardware_for(part).vector_length, []).append(part)
    return groups


def distinct_parts(schemes: Iterable[SchemeMap]) -> dict[str, Scheme]:
    """Schemes of linears by `scheme_key`."""
    return {scheme_key(part): part for scheme in schemes
            for part in (scheme.default, *scheme.layers.values())}


def missing_schemes(study: Study, extra: Path | None) -> list[Scheme]:
    """Schemes of linears that nothing is known of, where the whole is not measured either."""
    assert study.accuracy is not None
    known = load_sensitivities(study.accuracy, extra)
    asked = [scheme for scheme in every_scheme(study) if map_key(scheme) not in known.whole]
    return [part for key, part in distinct_parts(asked).items() if key not in known.losses]


def measure_missing(model: str, parts: Sequence[Scheme], out: Path, say: Say) -> None:
    """Measure schemes and keep them in a folder's file beside those that it holds."""
    path = out / SENSITIVITY_FILE
    rows = json.loads(path.read_text())["schemes"] if path.is_file() else []
    for length, group in by_vector_length(parts).items():
        rows += scheme_rows(model, group, out / "sensitivity" / str(length), say)
        write_atomically(path, json.dumps({"model": model, "schemes": rows}, indent=1).encode())
    load_sensitivities.cache_clear()
