"""Compiled functions of the fast model."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit

import hw

Function = TypeVar("Function", bound=Callable[..., Any])


COMPILED = ("port", "linear", "aux_engines", "engines", "timeline", "machine", "rows")
"""Modules with compiled functions or with constants that these take over."""
CIRCUIT = ("isa.py", "control/*.py", "golden/*.py", "memory/*.py", "units/*.py")
"""Files of the circuit whose constants they take over."""


@functools.cache
def source_stamp() -> str:
    """Changes with every file that constants and functions of the fast model come from."""
    here, circuit = Path(__file__).parent, Path(hw.__file__).parent
    paths = [here / f"{name}.py" for name in COMPILED]
    for pattern in CIRCUIT:
        paths += sorted(circuit.glob(pattern))
    digest = hashlib.sha256()
    for path in paths:
        facts = path.stat()
        digest.update(f"{path} {facts.st_mtime_ns} {facts.st_size}\n".encode())
    return digest.hexdigest()[:8]


def compiled(function: Function) -> Function:
    """The function, compiled by numba when first called and kept on disk.

    Its name there carries the stamp, as numba looks at the function's own file only.
    """
    function.__qualname__ += f"_{source_stamp()}"
    return cast(Function, njit(cache=True, error_model="numpy")(function))
