"""Random decoders in RTL against golden for a given time: ``python tests/verify/fuzz_decoders.py``.

Each round is a run of hypothesis; its seed is that of the command line plus the round's number.
Each case is a small model with random architecture, weights, scheme, prompt, memory timing and one
of a few random hardware sizes (a circuit takes a minute or two to compile). The golden decoder and
its program on golden functions must agree on tokens, logits, residual and cache, the circuit and
the program on every write. Counts, and a line that ``--case`` takes for every mismatch, go to a
JSON file. Exits 1 when there is a mismatch, 3 when a tool fails; an interrupted run ends with what
it has.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from decoder_checks import check_machine
from hypothesis import HealthCheck, Phase, given, seed, settings
from random_decoders import Case, cases, from_json, hardware_pool

from compiler.image.image import write_atomically
from hw.config import HardwareConfig
from hw.errors import LutripError, ToolError
from sim.execute import execute

COMMAND = "python tests/verify/fuzz_decoders.py"
EXAMPLES = 20
"""Cases of a round; hypothesis begins each with the simplest one, and varies what it has drawn."""


@dataclass
class Tally:
    """What ran so far."""

    rounds: int = 0
    passes: int = 0
    cycles: int = 0
    writes: int = 0
    tokens: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    mismatches: list[dict[str, str]] = field(default_factory=list)

    def values(self) -> dict[str, Any]:
        """For the JSON file."""
        return {"runs": self.runs.total(), "refused": self.refused.total(), **{
            name: getattr(self, name) for name in
            ("rounds", "passes", "cycles", "writes", "tokens", "mismatches")},
            "runs_by_hardware": dict(self.runs), "refusals": dict(self.refused.most_common())}


class Mismatch(Exception):
    """A difference; its text is one line."""


def run(case: Case, build_dir: Path, tally: Tally) -> None:
    """Compile a case, compare golden with the program, and the program with the circuit.

    Raises LutripError where the case cannot be compiled, Mismatch for a difference.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz_decoders_") as scratch:
        folder = Path(scratch)
        decoder = case.quantize()
        try:
            tokens = check_machine(decoder, case.prompt(), case.new_tokens, folder,
                                   split_layers=case.split_layers)
        except AssertionError as error:
            raise Mismatch(f"golden and the program differ: {error}") from None
        try:
            values = execute(folder, memory=case.memory, build_dir=build_dir).values
        except ToolError:
            raise
        except LutripError as error:
            raise Mismatch(f"cannot be simulated: {error}") from None
        if not values["bit_exact"]:
            place = values["first_mismatch"] or {}
            raise Mismatch(
                f"{values['failed_pass']}: {values['status']} {' '.join(values['errors'])} "
                f"{place.get('opcode')} {place.get('op')} {place.get('detail')}")
        if values["token_ids"] != tokens:
            raise Mismatch(f"tokens {values['token_ids']}, golden has {tokens}")
    tally.runs[case.hardware.name] += 1
    tally.passes += len(values["passes"])
    tally.cycles += values["cycles"]
    tally.writes += sum(values["beats"].values())
    tally.tokens += len(tokens)


def attempt(case: Case, build_dir: Path, tally: Tally) -> None:
    """`run`, with everything that goes wrong noted; ToolError is raised."""
    try:
        run(case, build_dir, tally)
    except ToolError:
        raise
    except LutripError as error:
        if "\n" not in str(error):
            tally.refused[f"{type(error).__name__}: {error}"] += 1
            return
        note(case, f"a message of more than one line: {error}", tally)
    except Mismatch as error:
        note(case, str(error), tally)
    except Exception as error:
        note(case, f"{type(error).__name__}: {error}", tally)


def note(case: Case, what: str, tally: Tally) -> None:
    """Keep a mismatch and how to see it again."""
    line = f"{COMMAND} --case {shlex.quote(case.to_json())}"
    tally.mismatches.append({"what": what, "reproduce": line})
    print(f"\nMISMATCH {what}\n{line}", flush=True)


def fuzz(
    pool: tuple[HardwareConfig, ...], first_seed: int, seconds: float, build_dir: Path,
    tally: Tally,
) -> None:
    """Rounds until the time is over."""
    end = time.monotonic() + seconds
    seen: set[str] = set()

    @settings(max_examples=EXAMPLES, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(cases(pool))
    def one(case: Case) -> None:
        key = case.to_json()
        if time.monotonic() >= end or key in seen:
            return
        seen.add(key)
        attempt(case, build_dir, tally)
        show(tally, end - time.monotonic())

    while time.monotonic() < end:
        seed(first_seed + tally.rounds)(one)()
        tally.rounds += 1


def show(tally: Tally, left: float) -> None:
    """The progress line."""
    print(f"\rround {tally.rounds}: {tally.runs.total()} runs, {tally.passes} passes, "
          f"{tally.cycles:,} cycles, {tally.refused.total()} refused, "
          f"{len(tally.mismatches)} mismatches, {max(0, left):.0f} s left ",
          end="", file=sys.stderr, flush=True)


def main() -> int:
    """Run rounds, or one case again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hardware", type=int, default=6, help="hardware sizes in the pool")
    parser.add_argument("--json", type=Path, help="file for counts and mismatches")
    parser.add_argument("--build-dir", type=Path, default=Path("build"))
    parser.add_argument("--case", help="run only this case")
    arguments = parser.parse_args()
    tally = Tally()
    if arguments.case:
        attempt(from_json(arguments.case), arguments.build_dir, tally)
        print(json.dumps(tally.values(), indent=1))
        return 1 if tally.mismatches else 0
    pool = hardware_pool(arguments.seed, arguments.hardware)
    started, interrupted, failure = time.monotonic(), False, None
    try:
        fuzz(pool, arguments.seed, arguments.seconds, arguments.build_dir, tally)
    except KeyboardInterrupt:
        interrupted = True
    except ToolError as error:
        failure = str(error)
    result = {
        "command": f"{COMMAND} --seconds {arguments.seconds:g} --seed {arguments.seed} "
                   f"--hardware {arguments.hardware}",
        "seconds": round(time.monotonic() - started), "interrupted": interrupted,
        "tool_failure": failure, "seed": arguments.seed, **tally.values(),
        "hardware": [dataclasses.asdict(config) for config in pool],
    }
    if arguments.json:
        write_atomically(arguments.json, (json.dumps(result, indent=1) + "\n").encode())
    print(f"\n{tally.runs.total()} runs on {len(tally.runs)} hardware sizes, {tally.passes} "
          f"passes, {tally.tokens} tokens, {tally.cycles:,} cycles, {tally.writes:,} writes; "
          f"{tally.refused.total()} cases refused; {len(tally.mismatches)} mismatches")
    if failure is not None:
        print(f"stopped: {failure}", file=sys.stderr)
        return 3
    return 1 if tally.mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
