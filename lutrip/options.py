"""Options and output that the sub-commands share."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from hw.errors import LutripError

Command = TypeVar("Command", bound=Callable[..., Any])


def writable(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """The path of ``--json``; raises LutripError where no file can be written there."""
    if path is not None:
        folder = path.parent
        try:
            while not folder.exists() and folder != folder.parent:
                folder = folder.parent
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise LutripError(f"--json {path}: {error.strerror}") from None
    return path


def json_option(command: Command) -> Command:
    """``--json FILE``: what the command printed, as data; keys carry units."""
    return click.option(
        "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False),
        callback=writable, help="Also write the result as JSON.",
    )(command)


def text_options(command: Command) -> Command:
    """What is evaluated and calibrated on, as the arguments of `lutrip.evaluation.Evaluator`."""
    for option in (
        click.option("--no-resume", "resume", is_flag=True, flag_value=False, default=True,
                     help="Begin anew; take nothing over."),
        click.option("--work", type=click.Path(path_type=Path, file_okay=False),
                     help="Folder that keeps what is done [default: evaluate in the cache]."),
        click.option("--calibration-tokens", type=click.IntRange(1),
                     help="Tokens of it [default: 6144; all of builtin]."),
        calibration_option(None, "news for the news corpus, else builtin"),
        click.option("--first-window", default=0, show_default=True, type=click.IntRange(0),
                     help="Window of the text to begin with."),
        click.option("--window", default=512, show_default=True, type=click.IntRange(2),
                     help="Tokens of a window; windows do not overlap."),
        click.option("--tokens", default=4096, show_default=True, type=click.IntRange(2),
                     help="Tokens of the text to use."),
        click.option("--text", default="news", show_default=True,
                     help="Text to predict: a file, news (the Lee corpus), wikipedia, builtin."),
    ):
        command = option(command)
    return command


def calibration_option(default: str | None, said: str) -> Callable[[Command], Command]:
    """``--calibration``: the text that scales and codebooks come from."""
    return click.option(
        "--calibration", default=default,
        help=f"Text that scales and codebooks come from: a file, news, wikipedia or builtin "
             f"[default: {said}].")


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
