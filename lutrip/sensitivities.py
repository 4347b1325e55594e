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
from hw.errors import LutripError
from hw.presets import load_hardware
from lutrip.mixing import texts_of
from reports.explore.accuracy import load_sensitivities, map_key, scheme_key
from reports.explore.precision import EXACT
from reports.explore.space import every_scheme
from reports.explore.study import NEWS, Study

SENSITIVITY_FILE = "sensitivity.json"
UNSEEN_TOKENS = 256

Say = Callable[[str], None]


def hardware_for(part: Scheme) -> HardwareConfig:
    """Hardware that a scheme's linears run on; it changes nothing in the arithmetic."""
    base = load_hardware("sim")
    return dataclasses.replace(base, vector_length=getattr(part, "vector_length", 2))


def first_evaluated(text: str) -> int:
    """First window to evaluate, apart from the tokens that sensitivities come from.

    Those of the news corpus lie far behind (`lutrip.mixing`), those of another text at its begin.
    """
    return 0 if text == NEWS else -(-UNSEEN_TOKENS // WINDOW)


def scheme_rows(
    model: str, parts: Sequence[Scheme], folder: Path, say: Say = lambda text: None,
    text: str = NEWS,
) -> list[dict[str, Any]]:
    """Losses of schemes by linear and layer, nats a token; what the folder holds is taken over.

    parts: with one vector length. text: of `compiler.calibration_text.SOURCES` or a file. Raises
    LutripError in one line for a scheme that cannot be measured.
    """
    loaded, keys = load_model(model), [scheme_key(part) for part in parts]
    texts = texts_of(model, text, None, 4 * WINDOW, UNSEEN_TOKENS)
    measured = measure(Question(
        model=loaded, hardware=hardware_for(parts[0]),
        candidates=dict(zip(keys, parts, strict=True)),
        options=SchemeMap(name=parts[0].name, default=parts[0]),
        calibration=texts.calibration.ids, unseen=texts.unseen.ids, tokens=1, timing=Timing()),
        folder, say)
    losses: dict[str, dict[str, list[float]]] = {key: {} for key in keys}
    for (place, key), loss in predicted_losses(measured, "output").items():
        losses[key].setdefault(place[1], []).append(loss)
    return [{"name": part.name, "key": key, "losses": losses[key]}
            for key, part in zip(keys, parts, strict=True)]


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
    asked = [scheme for scheme in every_scheme(study)
             if (map_key(scheme), EXACT) not in known.whole]
    return [part for key, part in distinct_parts(asked).items() if key not in known.losses]


def origin_of(study: Study) -> dict[str, str]:
    """What sensitivities of a study come from."""
    assert study.accuracy is not None
    return {"model": study.accuracy, "text": study.evaluate.text,
            "architecture": repr(load_model(study.accuracy).architecture)}


def own_file(study: Study, out: Path) -> Path | None:
    """A folder's sensitivities; raises LutripError where they are damaged or of something else."""
    path = out / SENSITIVITY_FILE
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text())
        rows = value["schemes"]
    except (ValueError, KeyError, TypeError):
        raise LutripError(f"{path}: damaged; remove it and measure again") from None
    for key, wanted in origin_of(study).items() if rows else ():
        if (given := value.get(key)) != wanted:
            raise LutripError(f"{path} holds sensitivities of {key} {given}, the study has "
                              f"{wanted}; give another --out, or remove the file")
    return path.resolve()


def measure_missing(study: Study, parts: Sequence[Scheme], out: Path, say: Say) -> None:
    """Measure schemes and keep them in a folder's file beside those that it holds."""
    assert study.accuracy is not None
    path, text = out / SENSITIVITY_FILE, study.evaluate.text
    held = json.loads(path.read_text()) if path.is_file() else {"schemes": []}
    rows = held["schemes"]
    for length, group in by_vector_length(parts).items():
        rows += scheme_rows(study.accuracy, group, out / "sensitivity" / str(length), say, text)
        values = held | origin_of(study) | {"schemes": rows}
        write_atomically(path, json.dumps(values, indent=1).encode())
    load_sensitivities.cache_clear()
