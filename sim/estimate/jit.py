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


COMPILED = ("port", "linear", "aux_engines", "engines", "loops", "timeline", "machine", "rows",
            "state", "packed", "hazards", "breakdown")
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
    """The function, compiled by numba when first called and kept on disk where there is a place.

    Its name there carries the stamp, as numba looks at the function's own file only. Arrays are not
    counted as references (``_nrt``), which would take most of the time: a compiled function makes
    none, it works on those that it is given.
    """
    function.__qualname__ += f"_{source_stamp()}"
    options = {"error_model": "numpy", "_nrt": False}
    try:
        return cast(Function, njit(cache=True, **options)(function))
    except RuntimeError:
        # Neither beside the module nor in the user's folder can anything be kept.
        return cast(Function, njit(**options)(function))
