"""Rows of the accuracy page: schemes by name or with other parameters, and their bars."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from compiler.quant.scheme import load_scheme
from hw.errors import ConfigError
from hw.presets import check_keys, find, load_hardware, load_yaml


@dataclass(frozen=True, kw_only=True)
class Row:
    """One evaluation.

    changes, hardware_changes: keys that replace the scheme's and the hardware's. bar: perplexity
    over float at most; bar_row, bar_part: excess over float at most this part of another row's.
    minutes, gigabytes: what quantizing may take. fresh: nothing is taken over. calibration_tokens:
    other than the usual number.
    """

    name: str
    scheme: str
    method: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    hardware_changes: Mapping[str, Any] = field(default_factory=dict)
    fixed_point_only: bool = False
    fresh: bool = False
    bar: float | None = None
    bar_row: str | None = None
    bar_part: float | None = None
    minutes: float | None = None
    gigabytes: float | None = None
    calibration_tokens: int | None = None

    @property
    def file(self) -> str:
        """Name of the row's files."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.name)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table of the page."""

    title: str
    text: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the page holds, all on one model, hardware and text."""

    model: str
    hardware: str
    tokens: int
    sections: tuple[Section, ...]

    @property
    def rows(self) -> dict[str, Row]:
        """Rows by name."""
        return {row.name: row for section in self.sections for row in section.rows}


ROW_KEYS = {"name", "scheme", "method", "set", "hw_set", "fixed_point_only", "fresh", "bar",
            "bar_excess", "minutes", "gigabytes", "calibration_tokens"}


def load_plan(path: Path) -> Plan:
    """Plan of a YAML file; raises ConfigError in one line."""
    value = load_yaml(path)
    needed = {"model", "hardware", "tokens", "sections"}
    check_keys(path, value, needed, needed)
    sections = []
    for part in value["sections"]:
        check_keys(path, part, {"title", "text", "rows"}, {"title", "text", "rows"})
        sections.append(Section(title=part["title"], text=" ".join(part["text"].split()),
                                rows=tuple(_row(path, row) for row in part["rows"])))
    plan = Plan(model=value["model"], hardware=value["hardware"], tokens=value["tokens"],
                sections=tuple(sections))
    names = [row.name for section in plan.sections for row in section.rows]
    if len(set(names)) < len(names):
        raise ConfigError(f"{path}: two rows have the same name")
    for row in plan.rows.values():
        if row.bar_row is not None and row.bar_row not in plan.rows:
            raise ConfigError(f"{path}: {row.name}: bar_excess names no row: {row.bar_row}")
    return plan


def _row(path: Path, value: dict[str, Any]) -> Row:
    check_keys(path, value, ROW_KEYS, {"scheme", "method"})
    excess = value.get("bar_excess", {})
    given = {key: value[key] for key in ("fixed_point_only", "fresh", "bar", "minutes",
                                         "gigabytes", "calibration_tokens") if key in value}
    return Row(name=value.get("name", value["scheme"]), scheme=value["scheme"],
               method=value["method"], changes=value.get("set", {}),
               hardware_changes=value.get("hw_set", {}), bar_row=excess.get("row"),
               bar_part=excess.get("part"), **given)


def _changed(kind: str, name: str, changes: Mapping[str, Any], file: Path) -> str:
    """The name itself, or a file with the changed keys."""
    if not changes:
        return name
    file.parent.mkdir(parents=True, exist_ok=True)
    value = load_yaml(find(kind, name)) | dict(changes)
    if kind == "hardware":
        value["name"] = file.stem
    file.write_text(yaml.safe_dump(value, sort_keys=False))
    return str(file)


def evaluate_arguments(plan: Plan, row: Row, folder: Path) -> list[str]:
    """Arguments of ``lutrip`` for a row; files that it needs are written into ``folder``."""
    scheme = _changed("schemes", row.scheme, row.changes, folder / f"{row.file}.yaml")
    hardware = _changed("hardware", plan.hardware, row.hardware_changes,
                        folder / f"{row.file}-hw.yaml")
    return ["evaluate", "--model", plan.model, "--scheme", scheme,
            *(["--hw", hardware] if hardware != "sim" else []), "--tokens", str(plan.tokens),
            *(["--calibration-tokens", str(row.calibration_tokens)]
              if row.calibration_tokens else []),
            *(["--fixed-point-only"] if row.fixed_point_only else []),
            *(["--no-resume"] if row.fresh else [])]


def command(plan: Plan, row: Row, script: str) -> str:
    """How a reader makes the row: ``lutrip`` itself, or the script for changed parameters."""
    if row.changes or row.hardware_changes:
        return f"python {script} --again {shlex.quote(row.name)}"
    return f"lutrip {shlex.join(evaluate_arguments(plan, row, Path()))}"


def row_key(plan: Plan, row: Row, folder: Path) -> str:
    """Everything that a row's numbers depend on but the code."""
    arguments = evaluate_arguments(plan, row, folder)
    scheme = load_scheme(arguments[arguments.index("--scheme") + 1])
    place = arguments.index("--hw") + 1 if "--hw" in arguments else None
    hardware = load_hardware("sim" if place is None else arguments[place])
    return repr((plan.model, plan.tokens, row.fixed_point_only, scheme, hardware))
