"""Random programs, hardware and memory timings in RTL: what the cycle model is held to.

A case is a random small model, scheme and hardware (`random_decoders`, without skipped positions,
whose time depends on the data) with random numbers in place of weights: the circuit's values are
what `fuzz_decoders` checks, here only its time counts. Some passes of a case, each with a memory
timing of its own, run one by one; the cache before them holds random bytes.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from random_decoders import Case, architectures, cases, rotations

from compiler.build import IMAGE_FILE
from compiler.decoder.build import DecoderCompiler
from compiler.image.image import map_image
from compiler.image.program import Instruction, decode_program
from compiler.quant.scheme import RowgenScheme, Scheme, SchemeMap
from compiler.structure import drawn, structural_decoder
from hw.config import HardwareConfig
from hw.errors import LutripError, ToolError
from hw.isa import INSTRUCTION_BYTES
from sim.bare import run_bare
from sim.circuit import circuit
from sim.records import MemoryModel

EXAMPLES = 20
"""Cases of a round of hypothesis."""
IMAGE_BYTES = 1 << 21
"""Size of every image, so that a circuit is compiled once."""
PASSES = 4
"""Passes of a case that run."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A program and the cycles that the circuit needed for it.

    name: of the pass; place: byte address of the program.
    """

    key: str
    name: str
    hardware: HardwareConfig
    memory: MemoryModel
    place: int
    program: list[Instruction]
    cycles: int


def random_memory(rng: random.Random) -> MemoryModel:
    """Timing of the external memory, from ideal to slow, some with rows and refresh."""
    rows = rng.choice(((1024, 0), (1024, 0), (256, 3), (1024, 9), (64, 24)))
    refresh = rng.choice(((0, 0), (0, 0), (390, 26), (900, 60)))
    return MemoryModel(
        latency_cycles=rng.choice((2, 3, 17, 40, 64, 100, 150)),
        bytes_per_cycle=rng.choice((None, None, None, 1.7, 5.0, 8.0)),
        outstanding=rng.choice((1, 2, 3, 16, 64)), row_bytes=rows[0], row_miss_cycles=rows[1],
        refresh_interval_cycles=refresh[0], refresh_cycles=refresh[1])


def dense(scheme: SchemeMap) -> SchemeMap:
    """The scheme without skipped positions."""
    def part(one: Scheme) -> Scheme:
        if isinstance(one, RowgenScheme):
            return dataclasses.replace(one, skip_zeros=False, sparsity=0.0)
        return one

    return dataclasses.replace(scheme, default=part(scheme.default), layers={
        name: part(one) for name, one in scheme.layers.items()})


@st.composite
def timed_cases(draw: st.DrawFn, pool: tuple[HardwareConfig, ...]) -> Case:
    """A case with some more positions; its own memory timing does not count."""
    case = draw(cases(pool))
    architecture = dataclasses.replace(draw(architectures()), norm=case.architecture.norm)
    rotation = case.scheme.rotation
    if architecture.norm != "rms" or rotation not in rotations(architecture, case.hardware):
        rotation = "none"
    return dataclasses.replace(
        case, architecture=dataclasses.replace(architecture, embedding_norm=False),
        scheme=dataclasses.replace(dense(case.scheme), rotation=rotation),
        prompt_tokens=draw(st.integers(1, 40)), new_tokens=draw(st.integers(1, 60)))


def simulate(case: Case, build_dir: Path) -> list[dict[str, Any]]:
    """Compile a case and run some of its passes in RTL; returns rows of `read_runs`.

    Raises LutripError where the case cannot be compiled or simulated.
    """
    rng, config = random.Random(case.seed), case.hardware
    with tempfile.TemporaryDirectory(prefix="cycle_runs_") as scratch:
        folder = Path(scratch)
        decoder = structural_decoder(case.architecture, case.scheme, config, case.capacity,
                                     drawn(case.seed))
        compiler = DecoderCompiler(decoder, case.prompt(), case.new_tokens,
                                   split_layers=case.split_layers)
        built = compiler.write(folder, {"model": "random", "scheme": "random"})
        memory, _, sections = map_image(folder / IMAGE_FILE)
        image = np.zeros(IMAGE_BYTES, np.uint8)
        image[:len(memory)] = memory
        cache = sections["cache"]
        image[cache.address:cache.address + cache.size] = np.random.default_rng(
            case.seed).integers(0, 256, cache.size, np.uint8)
        rows = []
        for item in rng.sample(built["passes"], min(PASSES, len(built["passes"]))):
            start, timing = item["program_address"], random_memory(rng)
            result = run_bare(circuit(config, build_dir), config, image.tobytes(), start, {},
                              folder / "run", memory=timing, build_dir=build_dir / "sim")
            size = INSTRUCTION_BYTES * (len(item["instructions"]) + 1)
            rows.append({
                "name": item["name"], "memory": dataclasses.asdict(timing), "place": start,
                "program": base64.b64encode(image[start:start + size].tobytes()).decode(),
                "cycles": result.cycles})
    return rows


def read_runs(path: Path) -> Iterator[Run]:
    """Runs of a file that `collect` wrote."""
    if not path.is_file():
        return
    with path.open() as lines:
        for line in lines:
            case = json.loads(line)
            for row in case.get("passes", ()):
                yield Run(
                    key=case["case"], name=row["name"], place=row["place"],
                    hardware=HardwareConfig(**case["hardware"]), cycles=row["cycles"],
                    memory=MemoryModel(**row["memory"]),
                    program=decode_program(base64.b64decode(row["program"])))


def known_cases(path: Path) -> set[str]:
    """Cases that a file has, refused ones too."""
    if not path.is_file():
        return set()
    with path.open() as lines:
        return {json.loads(line)["case"] for line in lines}


def collect(
    path: Path, pool: tuple[HardwareConfig, ...], first_seed: int, wanted: int, build_dir: Path,
    say: Callable[[str], None],
) -> None:
    """Append cases to a file until it has ``wanted`` runs; goes on where an earlier call ended."""
    done = known_cases(path)
    count, rounds = sum(1 for _ in read_runs(path)), 0

    @settings(max_examples=EXAMPLES, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(timed_cases(pool))
    def one(case: Case) -> None:
        nonlocal count
        key = case.to_json()
        if key in done or count >= wanted:
            return
        done.add(key)
        row: dict[str, Any] = {"case": key, "hardware": dataclasses.asdict(case.hardware)}
        try:
            row["passes"] = simulate(case, build_dir)
            count += len(row["passes"])
        except ToolError:
            raise
        except LutripError as error:
            row["refused"] = str(error)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        say(f"{count} of {wanted} runs")

    while count < wanted:
        seed(first_seed + rounds)(one)()
        rounds += 1
