"""Peers of lutrip, each in a virtual environment of its own, and runs of one product in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.image.image import write_atomically
from hw.errors import ToolError

LIMIT_S = 1800
READY = "ready.txt"
SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
RUNNERS = Path(__file__).parent / "runners"
Execute = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A public simulator or estimator of the Python registry.

    key: its folder; requirements: what pip installs; runner: module of `sim.peers.runners`, which
    its own Python executes as a file. kind: what its cycles are.
    """

    key: str
    name: str
    requirements: Sequence[str]
    runner: str
    kind: str


PEERS = (
    # With numpy 2.4 its reports fail.
    Peer(key="scale-sim", name="SCALE-Sim", requirements=("scalesim==3.0.0", "numpy<2.3"),
         runner="scale_sim_gemm", kind="simulated, addresses without values"),
    # It imports six and does not say so.
    Peer(key="zigzag", name="ZigZag", requirements=("zigzag-dse==3.9.1", "six"),
         runner="zigzag_gemm", kind="modelled"),
)


def failed(done: subprocess.CompletedProcess[str]) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    errors = [line for line in lines if "error" in line.lower()] or [line for line in lines if line]
    return errors[-1] if errors else f"status {done.returncode}"


def install(
    peer: Peer, folder: Path, say: Callable[[str], None], execute: Execute = subprocess.run
) -> Path:
    """Python of a peer's environment below ``folder``, made when it is not complete.

    Raises ToolError when it cannot be.
    """
    home = (folder / peer.key).resolve()
    python, ready = home / "bin" / "python", home / READY
    wanted = "\n".join(peer.requirements) + "\n"
    if python.exists() and ready.is_file() and ready.read_text() == wanted:
        return python
    say(f"installing {peer.name} ({', '.join(peer.requirements)})")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         *peer.requirements],
    ):
        done = execute(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ToolError(f"{peer.name} cannot be installed in {home}: {failed(done)}; check "
                            "the package index, or leave it out with --peer")
    write_atomically(ready, wanted.encode())
    return python


def run_peer(
    peer: Peer, python: Path, job: dict[str, Any], folder: Path, execute: Execute = subprocess.run
) -> dict[str, Any]:
    """Cycles, wall_s and cpu_s of one product; raises ToolError when the peer gives none."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "out.json"
    out.unlink(missing_ok=True)
    (folder / "job.json").write_text(json.dumps(job))
    try:
        done = execute(
            [str(python), str(RUNNERS / f"{peer.runner}.py"), str(folder / "job.json"), str(out)],
            cwd=folder, env={**os.environ, **SINGLE}, capture_output=True, text=True, check=False,
            timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise ToolError(f"{peer.name} took more than {LIMIT_S} s for {job['name']}") from None
    if done.returncode or not out.is_file():
        raise ToolError(f"{peer.name} failed on {job['name']}: {failed(done)}; its files are in "
                        f"{folder}")
    values: dict[str, Any] = json.loads(out.read_text())
    missing = {"cycles", "wall_s", "cpu_s"} - set(values)
    if missing or values["cycles"] <= 0:
        raise ToolError(f"{peer.name} gave no cycles for {job['name']}; its files are in {folder}")
    return values
