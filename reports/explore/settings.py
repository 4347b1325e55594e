"""Targets of a study's parameters: what each may be set to."""

from __future__ import annotations

import dataclasses
from typing import Any

from compiler.quant.layer_keys import layer_key
from compiler.quant.scheme import (
    CHOICES,
    LINEARS,
    METHODS,
    SOFTMAX,
    SPARSITY_MAX,
    SWITCHES,
    Lut2dScheme,
    RowgenScheme,
    SchemeMap,
    SimdScheme,
)
from hw.config import KINDS, HardwareConfig
from hw.errors import ConfigError
from hw.presets import CONFIGS, load_yaml
from reports.explore.named import Named
from reports.explore.schema import number_hint

GROUPS = {"attention": ("q", "k", "v", "o"), "mlp": ("gate", "up", "down")}
"""Names for several linears of a layer."""
HARDWARE_FIELDS = {field.name: str(field.type) for field in dataclasses.fields(HardwareConfig)
                   if field.name != "name"}
SCHEME_KINDS: tuple[type[Any], ...] = (Lut2dScheme, RowgenScheme, SimdScheme)
SCHEME_FIELDS = tuple(sorted({
    field.name for kind in SCHEME_KINDS for field in dataclasses.fields(kind)} - {"name"}))
TARGETS = ("hardware", "scheme", "memory", "softmax")


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


def check_setting(target: str, value: Any, named: Named) -> None:
    """Raise ConfigError for a target that is none, or a value that it cannot have."""
    kind, _, rest = target.partition(".")
    if not target:
        raise ConfigError("a comma in the parameter's name has no target on one side")
    if kind == "hardware" and rest in HARDWARE_FIELDS:
        _check_hardware_field(rest, value)
        return
    if kind == "scheme" and rest in SCHEME_FIELDS:
        if (allowed := _refused_for(rest, value)) is not None:
            raise ConfigError(f"{target} must be {allowed}, not {value!r}")
        return
    if kind == "scheme" and rest:
        _check_linears(target, rest)
    elif rest or kind not in TARGETS:
        raise ConfigError(f"{target} sets nothing; parameters are {', '.join(TARGETS)}, "
                          "hardware.FIELD, scheme.FIELD or scheme.LINEARS")
    if kind == "softmax":
        if value not in SOFTMAX:
            raise ConfigError(f"softmax must be {' or '.join(SOFTMAX)}, not {value!r}")
        return
    if not isinstance(value, str):
        raise ConfigError(f"{target} takes names or files, not {value!r}")
    named.get(kind, value)
    if kind == "scheme" and rest:
        _check_part(target, named.scheme(value))


def _check_hardware_field(field: str, value: Any) -> None:
    kinds = KINDS[HARDWARE_FIELDS[field]]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ConfigError(f"hardware.{field} must be {HARDWARE_FIELDS[field]}, not {value!r}"
                          f"{number_hint(value)}")
    if field == "device" and value not in (devices := load_yaml(CONFIGS / "devices.yaml")):
        raise ConfigError(f"no device called {value!r}; known: {', '.join(devices)}")


def _refused_for(field: str, value: Any) -> str | None:
    """What a scheme's field must be where the value is not that, as `load_scheme` asks it."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if field in CHOICES:
        # True equals 1 and 4.0 equals 4, but neither is meant.
        right = any(type(value) is type(one) and value == one for one in CHOICES[field])
        return None if right else f"one of {', '.join(map(str, CHOICES[field]))}"
    if field in SWITCHES:
        return None if isinstance(value, bool) else "true or false"
    if field == "method":
        methods = sorted({name for names in METHODS.values() for name in names})
        return None if value in methods else f"one of {', '.join(methods)}"
    if field == "sparsity":
        return None if number and 0 <= value <= SPARSITY_MAX else f"from 0 to {SPARSITY_MAX}"
    assert field == "seed", field
    right = number and isinstance(value, int) and value >= 0
    return None if right else "a whole number from 0"


def _check_linears(target: str, linears: str) -> None:
    try:
        linears_of(linears)
    except ValueError:
        raise ConfigError(
            f"{target} sets nothing: scheme.{linears} is neither a field of a scheme nor "
            f"linears ({', '.join((*LINEARS, *GROUPS))}, with + between)") from None


def _check_part(target: str, scheme: SchemeMap) -> None:
    """Raise ConfigError for a scheme of which linears would take only a part."""
    if scheme != SchemeMap(name=scheme.name, default=scheme.default):
        raise ConfigError(
            f"{target} cannot be {scheme.name}: it is a mix, or has a token_rule or another option "
            "of a whole model; use the key scheme")
