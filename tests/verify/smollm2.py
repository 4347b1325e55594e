"""SmolLM2-135M generates on the circuit under several schemes: ``python tests/verify/smollm2.py``.

Compiles the model, simulates every pass of a greedy generation in RTL, compares every write with
golden, and writes tokens and text as data. Exits 1 when a write differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from compiler.image.image import write_atomically
from lutrip.api import compile_decoder, simulate

MODEL, HARDWARE = "smollm2-135m", "sim"
PROMPT = "The capital of France is"
SCHEMES = ("simd-w4a8", "rowgen-3bit", "mix-lut-simd")
KEPT = ("bit_exact", "token_ids", "text", "cycles", "prefill", "decode", "energy_j", "overlap",
        "simulator", "first_mismatch")


def generate(scheme: str, folder: Path, new_tokens: int, build_dir: Path) -> dict[str, Any]:
    """Compile and simulate one scheme; a build that is there is continued."""

    def say(text: str) -> None:
        print(f"{scheme}: {text}", flush=True)

    if not (folder / "build.json").is_file():
        compile_decoder(MODEL, scheme, HARDWARE, folder, prompt=PROMPT, new_tokens=new_tokens,
                        progress=say)
    values = simulate(folder, build_dir=build_dir, progress=say)
    return {"scheme": scheme, **{key: values.get(key) for key in KEPT}}


def main() -> int:
    """Run every scheme; the file is written after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--schemes", nargs="+", default=SCHEMES)
    parser.add_argument("--runs", type=Path, default=Path("runs/verify"))
    parser.add_argument("--build-dir", type=Path, default=Path("build"))
    parser.add_argument("--out", type=Path, default=Path("docs/measured/generation.json"))
    arguments = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for scheme in arguments.schemes:
        runs.append(generate(scheme, arguments.runs / scheme, arguments.new_tokens,
                             arguments.build_dir))
        print(json.dumps({key: runs[-1][key] for key in ("scheme", "bit_exact", "text")}))
        result = {"command": "python tests/verify/smollm2.py", "model": MODEL,
                  "hardware": HARDWARE, "prompt": PROMPT, "runs": runs}
        write_atomically(arguments.out, (json.dumps(result, indent=1) + "\n").encode())
    return 0 if all(run["bit_exact"] for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
