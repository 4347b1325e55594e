"""Follows a page as a reader does: writes its files and runs its commands, in order."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compiler.errors import FrontendError
from compiler.frontends.packaged import find_model
from lutrip.cli import main
from tests.docs.pages import Block, blocks, commands

SHELL_SIGNS = ("|", ">", "<", "&", ";", "$", "*", "`")
MODEL = "smollm2-135m"
WORKERS = "--jobs"
"""Of commands that start processes, and so get one of their own."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What following a page gave at one block: output lines behind ``bash`` and ``python``."""

    block: Block
    output: list[str]


def needs_missing_model(block: Block) -> bool:
    """Whether a block uses SmolLM2's weights and they are not here."""
    if MODEL not in block.text.replace(f"shape:{MODEL}", ""):
        return False
    try:
        find_model(MODEL)
    except FrontendError:
        return True
    return False


def _lutrip(arguments: list[str]) -> tuple[int, str]:
    """Exit status and output of lutrip in this process, which has imported it already."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(arguments)
    return status, said.getvalue()


def _shell(command: str) -> tuple[int, str]:
    """Exit status and output of a command of the shell."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.STDOUT, check=False, env={**os.environ, "PATH": path})
    return done.returncode, done.stdout


def run(command: str, *, fails: bool = False) -> str:
    """Output of a command; raises AssertionError where it fails, or does not when it should."""
    arguments = shlex.split(command, comments=True)
    in_here = (arguments[0] == "lutrip" and not any(sign in command for sign in SHELL_SIGNS)
               and WORKERS not in arguments)
    status, output = _lutrip(arguments[1:]) if in_here else _shell(command)
    assert (status != 0) is fails, f"exit status {status}: {command}\n{output}"
    return output


def _python(code: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "page", "exec"), {"__name__": "__page__"})
    return said.getvalue()


def follow(page: Path, *, slow: bool = False) -> Iterator[Step]:
    """Follow a page in the current folder; slow: run the slow blocks, too.

    Raises AssertionError, naming page and line, where a command fails.
    """
    output: list[str] | None = None
    for block in blocks(page):
        if block.language == "text" and not block.title:
            if block.follows and output is not None:
                yield Step(block=block, output=output)
            continue
        output = None
        if block.mark == "not run" or (block.mark == "slow" and not slow):
            continue
        if block.title and block.language != "figure":
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text + "\n")
        elif block.language in ("bash", "python") and not needs_missing_model(block):
            try:
                text = (_python(block.text) if block.language == "python"
                        else "".join(run(command, fails=block.mark == "fails")
                                     for command in commands(block.text)))
            except AssertionError as error:
                raise AssertionError(f"{page}:{block.line}: {error}") from None
            output = text.splitlines()
        elif block.language == "figure" and Path(block.title).is_file():
            yield Step(block=block, output=[])
