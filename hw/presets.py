"""Named configurations: YAML files in `configs`, or a file of the user's own."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml

from hw.config import HardwareConfig
from hw.errors import ConfigError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


class _StrictLoader(yaml.SafeLoader):
    """YAML that rejects a key written twice (PyYAML silently keeps the last)."""


def _unique_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    if twice := {str(key) for key in keys if keys.count(key) > 1}:
        line = node.start_mark.line + 1
        raise ConfigError(f"{loader.name}: key {', '.join(sorted(twice))} is written twice "
                          f"in the mapping at line {line}")
    return dict(loader.construct_pairs(node, deep=True))


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; raises ConfigError in one line."""
    try:
        with path.open("rb") as file:
            loader = _StrictLoader(file)
            loader.name = str(path)
            value = loader.get_single_data()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{path}:{where} {problem}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: must be a YAML mapping")
    return value


def names(kind: str) -> list[str]:
    """Names of the shipped configurations of a kind (hardware, schemes, energy)."""
    return sorted(path.stem for path in (CONFIGS / kind).glob("*.yaml"))


def find(kind: str, name: str) -> Path:
    """Path of a configuration by name or by file; raises ConfigError with the known names."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return Path(name)
    path = CONFIGS / kind / f"{name}.yaml"
    if not path.is_file():
        close = difflib.get_close_matches(name, names(kind), 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(names(kind))}"
        raise ConfigError(f"no {kind} configuration called {name!r}; {hint}")
    return path


def check_keys(path: Path | str, value: dict[str, Any], known: set[str], needed: set[str]) -> None:
    """Raise ConfigError for a key that is unknown or missing."""
    for key in value:
        if key not in known:
            close = difflib.get_close_matches(str(key), sorted(known), 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{path}: unknown key {key!r}{hint}")
    if missing := sorted(needed - set(value)):
        raise ConfigError(f"{path}: missing key {missing[0]!r}")


def load_hardware(name: str) -> HardwareConfig:
    """Hardware configuration by name or file; raises ConfigError."""
    path = find("hardware", name)
    value = load_yaml(path)
    keys = set(HardwareConfig.__dataclass_fields__)
    check_keys(path, value, keys, keys)
    try:
        config = HardwareConfig(**value)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if config.device not in (devices := load_yaml(CONFIGS / "devices.yaml")):
        raise ConfigError(f"{path}: no device called {config.device!r}; known: "
                          f"{', '.join(devices)}")
    return config
