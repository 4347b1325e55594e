"""lutrip beside SCALE-Sim and ZigZag: ``python -m sim.bench_peers --out FILE --page FILE``.

Installs the peers in virtual environments of their own, runs the same matrix products in each and
in lutrip's fast model and RTL, and writes figures and a page.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compiler.image.image import write_atomically
from hw.config import HardwareConfig
from hw.errors import LutripError, ToolError
from hw.presets import load_hardware
from sim.bench import machine
from sim.circuit import BUILD_DIR
from sim.peers.comparison import array_shape, job_of, row_of, summary
from sim.peers.environments import PEERS, Peer, install, run_peer
from sim.peers.gemm import GEMMS, REPEATS, array_multipliers, model_costs, rtl_costs
from sim.peers.page import page

COMMAND = "make bench-peers"


def peer_version(peer: Peer, python: Path) -> str:
    """Release of the peer's own distribution."""
    package = peer.requirements[0].split("==")[0]
    script = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([str(python), "-c", script], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"{python} has no {package}; remove its folder and run this again")
    return done.stdout.strip()


def measure(
    peers: Sequence[Peer], hardware: HardwareConfig, folder: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """All figures; raises ToolError when a peer or Verilator is missing or fails."""
    pythons = {peer.key: install(peer, folder / "peers", say) for peer in peers}
    say("building the circuit")
    rtl_costs(GEMMS[0], hardware, folder, folder / "peers" / "rtl")
    rows = []
    for number, gemm in enumerate(GEMMS):
        job, runs = job_of(gemm, hardware), folder / "peers" / "runs" / str(number)
        say(f"{gemm.name}: lutrip")
        model = model_costs(gemm, hardware)
        rtl = rtl_costs(gemm, hardware, folder, folder / "peers" / "rtl")
        found = {}
        for peer in peers:
            say(f"{gemm.name}: {peer.name}")
            found[peer.key] = run_peer(peer, pythons[peer.key], job, runs / peer.key)
        rows.append(row_of(gemm, job, model, rtl, found))
    return {
        "command": COMMAND, "summary": summary(rows), "machine": machine(),
        "hardware": hardware.name, "multipliers": array_multipliers(hardware),
        "array": array_shape(hardware), "repeats": REPEATS,
        "peers": {peer.key: {
            "name": peer.name, "kind": peer.kind, "version": peer_version(peer, pythons[peer.key]),
            "requirements": list(peer.requirements)} for peer in peers},
        "rows": rows,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; 1 when a peer is faster or RTL is not exact, 2 input, 3 tools."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--page", type=Path, required=True, help="Markdown file")
    parser.add_argument("--hw", default="sim", help="hardware configuration with simd")
    parser.add_argument("--build-dir", type=Path, default=BUILD_DIR)
    parser.add_argument("--peer", action="append", choices=[peer.key for peer in PEERS],
                        help="only this one; may be repeated")
    options = parser.parse_args(arguments)
    peers = [peer for peer in PEERS if not options.peer or peer.key in options.peer]
    try:
        result = measure(peers, load_hardware(options.hw), options.build_dir,
                         lambda text: print(text, flush=True))
    except LutripError as error:
        print(f"bench_peers: {error}", file=sys.stderr)
        return 3 if isinstance(error, ToolError) else 2
    for path, text in ((options.out, json.dumps(result, indent=2) + "\n"),
                       (options.page, page(result))):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    holds = result["summary"]["all_hold"]
    print(f"{options.out}: " + ("the model is faster on every product, the RTL exact" if holds
                                else "missed: " + ", ".join(
                                    row["name"] for row in result["rows"] if not row["holds"])))
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
