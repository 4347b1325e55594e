"""From a study's parameters to designs: hardware, scheme and memory of each combination."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compiler.quant.layer_keys import layer_key
from compiler.quant.scheme import (
    CHOICES,
    LINEARS,
    SOFTMAX,
    Lut2dScheme,
    RowgenScheme,
    Scheme,
    SchemeMap,
    SimdScheme,
    load_scheme,
)
from hw.config import KINDS, HardwareConfig
from hw.errors import ConfigError
from hw.presets import load_hardware
from hw.resources import load_device
from reports.explore.marked_yaml import marked
from reports.explore.study import Study
from sim.memory_presets import MemoryPreset, default_memory, load_memory

Point = tuple[int, ...]
"""Place of each parameter's value."""

GROUPS = {"attention": ("q", "k", "v", "o"), "mlp": ("gate", "up", "down")}
"""Names for several linears of a layer."""
HARDWARE_FIELDS = {field.name: str(field.type) for field in dataclasses.fields(HardwareConfig)
                   if field.name != "name"}
SCHEME_KINDS: tuple[type[Any], ...] = (Lut2dScheme, RowgenScheme, SimdScheme)
SCHEME_FIELDS = tuple(sorted({
    field.name for kind in SCHEME_KINDS for field in dataclasses.fields(kind)} - {"name"}))
TARGETS = ("hardware", "scheme", "memory", "softmax")


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


def linears_of(target: str) -> tuple[str, ...]:
    """Layer keys (`compiler.quant.layer_keys`) of ``scheme.TARGET``; raises ValueError."""
    names: list[str] = []
    for part in target.split("+"):
        if part in GROUPS:
            names += GROUPS[part]
        else:
            if layer_key(part).linear not in LINEARS:
                raise ValueError(part)
            names.append(part)
    return tuple(names)


@functools.cache
def _scheme(name: str) -> SchemeMap:
    return load_scheme(name)


@functools.cache
def _hardware(name: str) -> HardwareConfig:
    return load_hardware(name)


@functools.cache
def _memory(name: str) -> MemoryPreset:
    return load_memory(name)


def check_setting(target: str, value: Any) -> None:
    """Raise ConfigError for a target that is none, or a value that it cannot have."""
    kind, _, rest = target.partition(".")
    if kind == "hardware" and rest in HARDWARE_FIELDS:
        kinds = KINDS[HARDWARE_FIELDS[rest]]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ConfigError(f"{target} must be {HARDWARE_FIELDS[rest]}, not {value!r}")
        if rest == "device":
            load_device(str(value))
        return
    if kind == "scheme" and rest in SCHEME_FIELDS:
        if rest in CHOICES and value not in CHOICES[rest]:
            allowed = ", ".join(map(str, CHOICES[rest]))
            raise ConfigError(f"{target} must be one of {allowed}, not {value!r}")
        return
    if kind == "scheme" and rest:
        try:
            linears_of(rest)
        except ValueError:
            raise ConfigError(
                f"{target} sets nothing: scheme.{rest} is neither a field of a scheme nor "
                f"linears ({', '.join((*LINEARS, *GROUPS))}, with + between)") from None
    elif rest or kind not in TARGETS:
        raise ConfigError(f"{target} sets nothing; parameters are {', '.join(TARGETS)}, "
                          "hardware.FIELD, scheme.FIELD or scheme.LINEARS")
    if kind == "softmax":
        if value not in SOFTMAX:
            raise ConfigError(f"softmax must be {' or '.join(SOFTMAX)}, not {value!r}")
        return
    if not isinstance(value, str):
        raise ConfigError(f"{target} takes names or files, not {value!r}")
    {"hardware": _hardware, "scheme": _scheme, "memory": _memory}[kind](value)


def _changed(base: Any, fields: Mapping[str, Any]) -> Any:
    """A dataclass with those of the fields that it has."""
    own = {name: value for name, value in fields.items() if hasattr(base, name)}
    return dataclasses.replace(base, **own) if own else base


def scheme_name(scheme: SchemeMap, fields: Mapping[str, Any], parts: Mapping[str, Scheme]) -> str:
    """A name that tells what was changed."""
    changed = [f"{name}-{value}" for name, value in fields.items()]
    mixed = [f"{linear}-{part.name}" for linear, part in parts.items()]
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
            parts |= dict.fromkeys(linears_of(rest), _scheme(value).default)
    given = _scheme(settings.get("scheme", study.scheme))
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
            _hardware(settings.get("hardware", study.hardware)), **fields)
    except ConfigError as error:
        raise ConfigError(f"hardware: {error}") from None
    memory = settings.get("memory", study.memory)
    preset = default_memory(hardware) if memory is None else _memory(memory)
    return Design(hardware=hardware, scheme=scheme_of(settings, study), memory=preset)


def check_space(study: Study) -> None:
    """Raise LutripError, before anything is evaluated, for names that a study has wrong."""
    _hardware(study.hardware)
    _scheme(study.scheme)
    if study.memory is not None:
        _memory(study.memory)
    place = marked(study.path, study.text)
    for parameter in study.parameters:
        for settings in parameter.settings:
            for target, value in settings.items():
                try:
                    check_setting(target, value)
                except ConfigError as error:
                    raise place.error(["parameters", parameter.name], str(error), key=True
                                      ) from None


def every_scheme(study: Study) -> list[SchemeMap]:
    """Schemes of all points, each once."""
    touching = [
        number for number, parameter in enumerate(study.parameters)
        if any(target.partition(".")[0] in ("scheme", "softmax")
               for settings in parameter.settings for target in settings)]
    found: dict[str, SchemeMap] = {}
    for combination in _combinations([len(study.parameters[n].values) for n in touching]):
        settings: dict[str, Any] = {}
        for number, place in zip(touching, combination, strict=True):
            settings |= study.parameters[number].settings[place]
        scheme = scheme_of(settings, study)
        found[scheme.name] = scheme
    return list(found.values())


def _combinations(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    made: list[tuple[int, ...]] = [()]
    for size in sizes:
        made = [(*one, place) for one in made for place in range(size)]
    return made


def part_values(part: Scheme) -> dict[str, Any]:
    """A scheme of one kind as a YAML file has it."""
    kind = {Lut2dScheme: "lut2d", RowgenScheme: "rowgen", SimdScheme: "simd"}[type(part)]
    values = dataclasses.asdict(part)
    del values["name"]
    return {"kind": kind, **values}


def options_values(scheme: SchemeMap) -> dict[str, Any]:
    """Options of a scheme file that concern no linear, where they are not the default."""
    plain = SchemeMap(name="", default=scheme.default)
    names = ("softmax", "activation", "rotation", "refine_epochs")
    return {name: getattr(scheme, name) for name in names
            if getattr(scheme, name) != getattr(plain, name)}
