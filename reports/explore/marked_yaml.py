"""YAML with the place of every value, so that an error names line and column."""

from __future__ import annotations

import io
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hw.errors import ConfigError

Path_ = Sequence[Hashable]

DEEPEST = 20
"""Mappings and lists within each other that a file may have."""
TEXT_TAG, MERGE_TAG = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class MarkedYaml:
    """A YAML mapping, its text, and its nodes."""

    path: Path
    text: str
    value: dict[str, Any]
    root: yaml.Node

    def place(self, keys: Path_, *, key: bool = False) -> str:
        """``file:line:column`` of a value; of the last key itself with ``key``."""
        node: yaml.Node = self.root
        mark = node.start_mark
        for number, part in enumerate(keys):
            if isinstance(node, yaml.MappingNode):
                for name, value in node.value:
                    if name.value == str(part):
                        last = number + 1 == len(keys)
                        node, mark = value, (name if key and last else value).start_mark
                        break
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                node = node.value[part]
                mark = node.start_mark
        return f"{self.path}:{mark.line + 1}:{mark.column + 1}"

    def error(self, keys: Path_, problem: str, *, key: bool = False) -> ConfigError:
        """An error at a value."""
        return ConfigError(f"{self.place(keys, key=key)}: {problem}")


def read_marked(path: Path) -> MarkedYaml:
    """Read a YAML mapping; raises ConfigError in one line with line and column."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not text in UTF-8") from None
    return marked(path, text)


def marked(path: Path, text: str) -> MarkedYaml:
    """Text of a file as a YAML mapping; raises ConfigError in one line with line and column."""
    try:
        _check_nesting(path, text)
        root = yaml.compose(io.StringIO(text), yaml.SafeLoader)
        if root is not None:
            _check_keys(path, root)
        value = yaml.safe_load(text)
    except ValueError as error:
        raise ConfigError(f"{path}:1:1: has a number or date that is none: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: {getattr(error, 'problem', None) or 'not YAML'}"
                          ) from None
    if not isinstance(root, yaml.MappingNode) or not isinstance(value, dict):
        raise ConfigError(f"{path}:1:1: must be a YAML mapping")
    return MarkedYaml(path, text, value, root)


def _check_nesting(path: Path, text: str) -> None:
    """Raise ConfigError for a value that is within itself, or deeper than `DEEPEST`."""
    above: list[str | None] = []
    for event in yaml.parse(io.StringIO(text), yaml.SafeLoader):
        problem = None
        if isinstance(event, yaml.CollectionStartEvent):
            above.append(event.anchor)
            if len(above) > DEEPEST:
                problem = f"more than {DEEPEST} mappings and lists within each other"
        elif isinstance(event, yaml.CollectionEndEvent):
            above.pop()
        elif isinstance(event, yaml.AliasEvent) and event.anchor in above:
            problem = f"*{event.anchor} stands for a value that it is a part of"
        if problem:
            raise _error(path, event.start_mark, problem)


def _error(path: Path, mark: Any, problem: str) -> ConfigError:
    return ConfigError(f"{path}:{mark.line + 1}:{mark.column + 1}: {problem}")


def _check_keys(path: Path, node: yaml.Node) -> None:
    """Raise ConfigError for a key that is no text or that a mapping has twice.

    PyYAML silently keeps the last of two.
    """
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(path, item)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for name, value in node.value:
            if name.tag not in (TEXT_TAG, MERGE_TAG):
                written = f"{name.value!r} " if isinstance(name, yaml.ScalarNode) else ""
                raise _error(path, name.start_mark,
                             f"the key {written}is no text; put it between quotes")
            if name.value in seen:
                raise _error(path, name.start_mark, f"key {name.value} is written twice")
            seen.add(name.value)
            _check_keys(path, value)
