"""From a study's parameters to designs: hardware, scheme and memory of each combination."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.calibration_text import SOURCES
from compiler.quant.scheme import (
    METHODS,
    Lut2dScheme,
    RowgenScheme,
    Scheme,
    SchemeMap,
    SimdScheme,
)
from hw.config import HardwareConfig
from hw.errors import ConfigError, LutripError
from reports.explore.accuracy import load_sensitivities
from reports.explore.marked_yaml import MarkedYaml, marked
from reports.explore.named import LOADERS
from reports.explore.settings import (
    SCHEME_FIELDS,
    check_setting,
    linears_of,
)
from reports.explore.study import NEWS, Study
from sim.memory_presets import MemoryPreset, default_memory

Point = tuple[int, ...]
"""Place of each parameter's value."""

KIND_NAMES: dict[type[Any], str] = {
    Lut2dScheme: "lut2d", RowgenScheme: "rowgen", SimdScheme: "simd"}
SCHEMES_MOST = 20_000
"""Schemes of a study that `every_scheme` lists at most."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """What a point stands for."""

    hardware: HardwareConfig
    scheme: SchemeMap
    memory: MemoryPreset


def point_of(index: int, study: Study) -> Point:
    """The combination with a number, the last parameter changing first."""
    places = []
    for parameter in reversed(study.parameters):
        index, place = divmod(index, len(parameter.values))
        places.append(place)
    return tuple(reversed(places))


def values_of(point: Point, study: Study) -> dict[str, Any]:
    """Parameters of a point by name."""
    return {parameter.name: parameter.values[place]
            for parameter, place in zip(study.parameters, point, strict=True)}


def _changed(base: Scheme, fields: Mapping[str, Any]) -> Scheme:
    """A scheme with those of the fields that it has; raises ConfigError if there is none such."""
    own = {name: value for name, value in fields.items() if hasattr(base, name)}
    changed = dataclasses.replace(base, **own) if own else base
    kind = KIND_NAMES[type(changed)]
    if changed.method not in METHODS[kind]:
        raise ConfigError(f"scheme {changed.name}: kind {kind} has no method {changed.method}; "
                          f"it has {', '.join(METHODS[kind])}")
    if isinstance(changed, SimdScheme) and (changed.weight_bits, changed.act_bits) == (8, 4):
        raise ConfigError(f"scheme {changed.name}: int8 weights need act_bits 8 (the array has no "
                          "W8A4 layout)")
    return changed


def scheme_name(scheme: SchemeMap, fields: Mapping[str, Any], parts: Mapping[str, Scheme]) -> str:
    """A name that tells what was changed."""
    changed = [f"{name}-{value}" for name, value in fields.items()]
    mixed = ["-".join([*(linear for linear, _ in group), name]) for name, group in
             itertools.groupby(parts.items(), key=lambda item: item[1].name)]
    return "-".join((scheme.name, *changed, *mixed)).replace("_", "-")


def settings_of(point: Point, study: Study) -> dict[str, Any]:
    """What a point sets, by target."""
    settings: dict[str, Any] = {}
    for parameter, place in zip(study.parameters, point, strict=True):
        settings |= parameter.settings[place]
    return settings


def scheme_of(settings: Mapping[str, Any], study: Study) -> SchemeMap:
    """The scheme that settings make of the study's."""
    fields: dict[str, Any] = {}
    parts: dict[str, Scheme] = {}
    for target, value in settings.items():
        kind, _, rest = target.partition(".")
        if kind == "scheme" and rest in SCHEME_FIELDS:
            fields[rest] = value
        elif kind == "scheme" and rest:
            parts |= dict.fromkeys(linears_of(rest), study.named.scheme(value).default)
    given = study.named.scheme(settings.get("scheme", study.scheme))
    return dataclasses.replace(
        given, name=scheme_name(given, fields, parts), default=_changed(given.default, fields),
        layers={key: _changed(part, fields) for key, part in (given.layers | parts).items()},
        softmax=settings.get("softmax", given.softmax))


def design_of(point: Point, study: Study) -> Design:
    """Hardware, scheme and memory of a point; raises LutripError where there is none such."""
    settings = settings_of(point, study)
    fields = {rest: value for target, value in settings.items()
              if (rest := target.removeprefix("hardware.")) != target}
    try:
        hardware = dataclasses.replace(
            study.named.hardware(settings.get("hardware", study.hardware)), **fields)
    except ConfigError as error:
        raise ConfigError(f"hardware: {error}") from None
    memory = settings.get("memory", study.memory)
    preset = default_memory(hardware) if memory is None else study.named.memory(memory)
    return Design(hardware=hardware, scheme=scheme_of(settings, study), memory=preset)


def check_space(study: Study) -> None:
    """Raise LutripError, before anything is evaluated, for names that a study has wrong."""
    place = marked(study.path, study.text)
    for key in ("hardware", "scheme", "memory", "accuracy", "model"):
        if (name := getattr(study, key)) is not None:
            try:
                load_sensitivities(name) if key == "accuracy" else study.named.get(key, name)
            except LutripError as error:
                raise place.error([key], str(error)) from None
    for parameter in study.parameters:
        for settings in parameter.settings:
            for target, value in settings.items():
                try:
                    check_setting(target, value, study.named)
                except ConfigError as error:
                    raise place.error(["parameters", parameter.name], str(error), key=True
                                      ) from None
    _check_text(place, study)
    _check_fields(place, study)
    _check_prices(place, study)


def _set_by(study: Study, *kinds: str) -> dict[str, dict[Any, None]]:
    """Values that a study's parameters give to the targets of some kinds, each once."""
    found: dict[str, dict[Any, None]] = {}
    for parameter in study.parameters:
        for settings in parameter.settings:
            for target, value in settings.items():
                if target.partition(".")[0] in kinds:
                    found.setdefault(target, {})[value] = None
    return found


def _check_text(place: MarkedYaml, study: Study) -> None:
    """Raise ConfigError for a text on which the front cannot be evaluated, or not beside others."""
    text = study.evaluate.text
    if study.accuracy is None or text == NEWS:
        return

    def error(problem: str) -> ConfigError:
        return place.error(["evaluate", "text"], problem)

    if load_sensitivities(study.accuracy).whole:
        raise error(f"losses of {study.accuracy} are known on {NEWS}; those on another text do not "
                    "compare with them: leave text out")
    if text == "builtin":
        raise error("builtin is what calibrates; give news, wikipedia or a file")
    if text not in SOURCES and not Path(text).is_file():
        raise error(f"{text}: no such text; give news, wikipedia or a file")


def _check_fields(place: MarkedYaml, study: Study) -> None:
    """Raise ConfigError for a field of schemes that no scheme of the study has."""
    fields = {f"scheme.{name}": name for name in SCHEME_FIELDS}
    names = dict.fromkeys([study.scheme, *(
        name for target, values in _set_by(study, "scheme").items() if target not in fields
        for name in values)])
    given = [study.named.scheme(name) for name in names]
    parts = [part for scheme in given for part in (scheme.default, *scheme.layers.values())]
    for parameter in study.parameters:
        for target in {target for settings in parameter.settings for target in settings}:
            if target in fields and not any(hasattr(part, fields[target]) for part in parts):
                raise place.error(["parameters", parameter.name], f"{target} changes nothing: "
                                  f"{', '.join(names)} have no {fields[target]}", key=True)


def _check_prices(place: MarkedYaml, study: Study) -> None:
    """Raise ConfigError for a device without a price where the price counts."""
    if "price" not in {*study.objectives, study.choose, *(bound.metric for bound in study.bounds)}:
        return
    given = _set_by(study, "hardware")
    devices = [study.named.hardware(name).device
               for name in (study.hardware, *given.get("hardware", ()))]
    for device in (*devices, *given.get("hardware.device", ())):
        if device not in study.prices:
            raise place.error(["prices"], f"the price of {device} is missing", key=True)


def contents_of(study: Study) -> list[str]:
    """What the names in a study stand for; all that points need of it is read then."""
    named = {("model", study.model), ("hardware", study.hardware), ("scheme", study.scheme)}
    if study.memory is not None:
        named.add(("memory", study.memory))
    for parameter in study.parameters:
        for settings in parameter.settings:
            for target, value in settings.items():
                kind, _, rest = target.partition(".")
                if kind in LOADERS and isinstance(value, str) and (
                        not rest or (kind == "scheme" and rest not in SCHEME_FIELDS)):
                    named.add((kind, value))
    return [repr(study.named.get(kind, name)) for kind, name in sorted(named)]


def every_scheme(study: Study) -> list[SchemeMap]:
    """Schemes of all points, each once, without impossible ones.

    Raises ConfigError for more combinations than `SCHEMES_MOST`.
    """
    touching = [
        parameter for parameter in study.parameters
        if any(target.partition(".")[0] in ("scheme", "softmax")
               for settings in parameter.settings for target in settings)]
    if (count := math.prod(len(parameter.values) for parameter in touching)) > SCHEMES_MOST:
        raise marked(study.path, study.text).error(
            ["parameters"], f"{count:,} combinations of schemes are too many to list; at most "
            f"{SCHEMES_MOST:,}", key=True)
    found: dict[str, SchemeMap] = {}
    for combination in itertools.product(*(parameter.settings for parameter in touching)):
        settings = {target: value for part in combination for target, value in part.items()}
        try:
            scheme = scheme_of(settings, study)
        except ConfigError:
            continue
        found[scheme.name] = scheme
    return list(found.values())


def part_values(part: Scheme) -> dict[str, Any]:
    """A scheme of one kind as a YAML file has it."""
    values = dataclasses.asdict(part)
    del values["name"]
    return {"kind": KIND_NAMES[type(part)], **values}


def options_values(scheme: SchemeMap) -> dict[str, Any]:
    """Options of a scheme file that concern no linear, where they are not the default."""
    plain = SchemeMap(name="", default=scheme.default)
    names = ("softmax", "activation", "rotation", "refine_epochs")
    return {name: getattr(scheme, name) for name in names
            if getattr(scheme, name) != getattr(plain, name)}
