"""The JSON schema of study files, and what breaks it in one line."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.exceptions import best_match

from hw.presets import CONFIGS
from reports.explore.marked_yaml import MarkedYaml

SCHEMA = CONFIGS / "schema" / "study.schema.json"


def study_schema() -> dict[str, Any]:
    """The JSON schema of study files."""
    schema: dict[str, Any] = json.loads(SCHEMA.read_text())
    return schema


def _is_integer(_: object, value: object) -> bool:
    return isinstance(value, int) and _is_number(None, value)


def _is_number(_: object, value: object) -> bool:
    """A finite number, no truth value."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


# jsonschema does not annotate it.
_extend: Callable[..., type[Draft202012Validator]] = validators.extend
_Validator = _extend(Draft202012Validator, type_checker=(
    Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": _is_integer, "number": _is_number})))


def _errors(value: Any) -> Iterator[ValidationError]:
    """What breaks the schema; of a parameter's three forms, the one that is meant."""
    for error in _Validator(study_schema()).iter_errors(value):
        if error.validator != "oneOf":
            yield error
            continue
        given = error.instance
        named = isinstance(given, dict) and not given.keys() & {"from", "to", "step", "factor"}
        form = 2 if named else 1 if isinstance(given, dict) else 0
        yield from (part for part in error.context or () if part.schema_path[0] == form)


def check_schema(marked: MarkedYaml) -> None:
    """Raise ConfigError at the place that breaks the schema."""
    found = best_match(_errors(marked.value))
    if found is None:
        return
    keys = list(found.absolute_path)
    if found.validator == "additionalProperties":
        known = sorted(found.schema["properties"])
        unknown = next(key for key in found.instance if key not in known)
        raise marked.error([*keys, unknown], f"unknown key {unknown!r}{_hint(unknown, known)}",
                           key=True)
    if found.validator == "required":
        missing = next(key for key in found.validator_value if key not in found.instance)
        where = ".".join(map(str, keys)) or "the study"
        raise marked.error(keys, f"{where} needs the key {missing!r}")
    if found.validator == "enum":
        known = [str(value) for value in found.validator_value]
        raise marked.error(keys, f"{found.instance!r} is none of {', '.join(known)}"
                           f"{_hint(str(found.instance), known)}")
    if found.validator == "type" and isinstance(found.instance, int | float) and not (
            isinstance(found.instance, bool) or _is_number(None, found.instance)):
        raise marked.error(keys, "must be a finite number")
    raise marked.error(keys, f"{found.message}{number_hint(found.instance)}")


def number_hint(value: object) -> str:
    """What to write for a number that YAML 1.1 takes for text, such as 1e9."""
    if isinstance(value, str) and (
            parts := re.fullmatch(r"([-+]?\d+)(\.\d*)?[eE]([-+]?)(\d+)", value)):
        whole, fraction, sign, power = parts.groups()
        return f"; write {whole}{fraction or '.0'}e{sign or '+'}{power}"
    return ""


def _hint(given: str, known: list[str]) -> str:
    close = difflib.get_close_matches(given, known, 1)
    return f"; did you mean {close[0]}?" if close else ""
