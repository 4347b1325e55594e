"""Evaluates all schemes and writes docs/accuracy.md: ``python -m tests.verify.accuracy``.

Rows come from accuracy.yaml. Each runs in a process of its own, so that its time and memory are
its own; rows that are in the data with the same scheme and setting are kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compiler.image.image import write_atomically
from tests.verify.accuracy_page import page
from tests.verify.accuracy_plan import Plan, Row, evaluate_arguments, load_plan, row_key

SCRIPT = "-m tests.verify.accuracy"
Runner = Callable[[Sequence[str]], dict[str, Any]]


def run_lutrip(arguments: Sequence[str]) -> dict[str, Any]:
    """Result of a ``lutrip evaluate``; one that ends with an error has its line as ``error``."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        done = subprocess.run([sys.executable, "-m", "lutrip.cli", *arguments, "--json", result],
                              stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode == 0:
            values: dict[str, Any] = json.loads(result.read_text())
            return values
    lines = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
    return {"error": lines[-1].removeprefix("lutrip: error: ")}


def missing_rows(
    plan: Plan, results: dict[str, Any], folder: Path, only: Sequence[str], again: Sequence[str]
) -> list[Row]:
    """Rows to run: those asked for, else all that the data does not hold as they are now."""
    wanted = [row for row in plan.rows.values() if not (only or again) or row.name in
              (*only, *again)]
    return [row for row in wanted if row.name in again
            or results.get(row.name, {}).get("key") != row_key(plan, row, folder)
            or "error" in results[row.name]]


def run(
    plan: Plan, data: Path, document: Path, folder: Path, only: Sequence[str] = (),
    again: Sequence[str] = (), runner: Runner = run_lutrip,
) -> dict[str, Any]:
    """Run what is missing; data and page are written after each row."""
    kept = json.loads(data.read_text())["rows"] if data.is_file() else {}
    results = {name: kept[name] for name in plan.rows if name in kept}

    def write() -> None:
        data.parent.mkdir(parents=True, exist_ok=True)
        value = {"command": f"python {SCRIPT}", "model": plan.model, "rows": results}
        write_atomically(data, (json.dumps(value, indent=1) + "\n").encode())
        write_atomically(document, page(plan, results, SCRIPT).encode())

    for row in missing_rows(plan, results, folder, only, again):
        print(f"{row.name}: running", flush=True)
        made = runner(evaluate_arguments(plan, row, folder))
        results[row.name] = {"key": row_key(plan, row, folder), **made}
        said = made.get("error") or (f"perplexity {made['perplexity']:.3f} "
                                     f"({100 * made['relative']:+.2f} %)")
        print(f"{row.name}: {said}", flush=True)
        write()
    write()
    return results


def main() -> int:
    """Exit status 1 when a row could not be evaluated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, default=Path(__file__).with_name("accuracy.yaml"))
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="only these rows")
    parser.add_argument("--again", nargs="+", default=[], metavar="ROW", help="these rows, anew")
    parser.add_argument("--data", type=Path, default=Path("docs/measured/accuracy.json"))
    parser.add_argument("--document", type=Path, default=Path("docs/accuracy.md"))
    parser.add_argument("--folder", type=Path, default=Path("runs/accuracy"),
                        help="where changed schemes are written")
    parser.add_argument("--render", action="store_true", help="only the page, from the data")
    arguments = parser.parse_args()
    plan = load_plan(arguments.plan)
    if unknown := {*arguments.only, *arguments.again} - set(plan.rows):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    if arguments.render:
        rows = json.loads(arguments.data.read_text())["rows"]
        write_atomically(arguments.document, page(plan, rows, SCRIPT).encode())
        return 0
    results = run(plan, arguments.data, arguments.document, arguments.folder, arguments.only,
                  arguments.again)
    return 1 if any("error" in made for made in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
