"""Options and output that the sub-commands share."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """``--json FILE``: what the command printed, as data; keys carry units."""
    return click.option(
        "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False),
        help="Also write the result as JSON.",
    )(command)


def write_json(path: Path | None, value: Mapping[str, Any]) -> None:
    """Write atomically: a reader sees the old file or the whole new one."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(value, file, indent=2)
            file.write("\n")
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
