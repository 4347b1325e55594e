"""Several programs in one simulation: shared memory, patches, mismatches."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sim.compare import ExpectedBeats
from sim.records import Job, Patch, SimulationResult
from sim.runner import simulate_passes
from tests.sim import fake

SIMULATORS = [
    pytest.param("icarus", marks=pytest.mark.skipif(
        shutil.which("iverilog") is None, reason="needs iverilog")),
    "verilator",
]
SIMULATOR = "icarus" if shutil.which("iverilog") else "verilator"
IMAGE = fake.IMAGE + bytes(fake.COPY)
BYTES = 1024
"""What the stand-in copies in one program."""


@pytest.fixture(scope="module")
def build_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("build")


@pytest.fixture
def run(tmp_path: Path, build_dir: Path) -> Any:
    """Simulate jobs of the stand-in; keywords as for `simulate_passes`."""

    def call(jobs: list[Job], **keywords: Any) -> list[SimulationResult]:
        return simulate_passes(
            [fake.source(tmp_path)], fake.CONFIG, IMAGE, jobs, tmp_path / "run",
            **{"simulator": SIMULATOR, "build_dir": build_dir} | keywords)

    return call


def job(program: int, memory: np.ndarray, patch: Patch | None = None) -> Job:
    """A copy in a memory, which gets its result."""
    if patch is not None:
        memory.reshape(-1, 16)[patch.words] = patch.data
    beats = fake.beats(image=memory.tobytes(), program=program)
    start = program + fake.COPY
    memory[start:start + BYTES] = memory[program:program + BYTES]
    return Job(program_address=program, expected=beats, output=(start, 64), patch=patch)


def three_jobs() -> list[Job]:
    """Copy, copy the copy, and copy the first part again after a change from outside."""
    memory = np.frombuffer(IMAGE, np.uint8).copy()
    rng = np.random.default_rng(0)
    patch = Patch(words=np.array([3, 40, 41]), data=rng.integers(0, 256, (3, 16), np.uint8))
    return [job(0, memory), job(fake.COPY, memory), job(0, memory, patch)]


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_programs_share_the_memory(run, simulator):
    finished: list[int] = []
    results = run(three_jobs(), simulator=simulator,
                  finished=lambda number, result: finished.append(number))
    assert [result.bit_exact for result in results] == [True] * 3
    assert finished == [0, 1, 2]
    assert results[0].output == results[1].output == fake.IMAGE[:64]
    assert results[2].output[:48] == fake.IMAGE[:48]
    assert results[2].output[48:] != fake.IMAGE[48:64]
    assert results[0].cycles == results[2].cycles
    assert results[0].activity == results[2].activity
    counted = results[0].activity
    assert counted["weight_cycles"] == 64
    assert counted["weight_beside_linear_cycles"] == 63
    assert counted["linear_cycles"] == counted["linear_beside_others_cycles"] > 64
    events = [result.events.read_text() for result in results]
    assert events[0] == events[1] == events[2]


def test_a_wrong_program_is_the_last(run):
    jobs = three_jobs()
    beats: dict[str, Any] = dict(jobs[1].expected)
    data = beats["load"].data.copy()
    data[5, 2] ^= 1
    beats["load"] = SimpleNamespace(**{**vars(beats["load"]), "data": data})
    expected: ExpectedBeats = beats
    jobs[1] = Job(program_address=jobs[1].program_address, expected=expected)
    results = run(jobs)
    assert [result.bit_exact for result in results] == [True, False]
    mismatch = results[1].first_mismatch
    assert (mismatch.tap, mismatch.beat, mismatch.byte) == ("load", 5, 2)


def test_the_limit_of_cycles_is_each_programs(run):
    results = run(three_jobs(), max_cycles=100)
    assert [result.status for result in results] == ["max_cycles"]


def test_image_is_written_once(run, tmp_path):
    path = tmp_path / "run" / "image.bin"
    run(three_jobs()[:1], image_key="one")
    first = path.stat().st_mtime_ns
    run(three_jobs()[:1], image_key="one")
    assert path.stat().st_mtime_ns == first
    run(three_jobs()[:1], image_key="two")
    assert path.stat().st_mtime_ns != first


def test_a_file_is_an_image_too(run, tmp_path, build_dir):
    path = tmp_path / "memory.bin"
    path.write_bytes(IMAGE)
    (result,) = simulate_passes(
        [fake.source(tmp_path)], fake.CONFIG, path, three_jobs()[:1], tmp_path / "run",
        simulator=SIMULATOR, build_dir=build_dir)
    assert result.bit_exact


def test_a_failing_callback_is_raised(run):
    def refuse(number: int, result: SimulationResult) -> None:
        raise KeyError(number)

    with pytest.raises(KeyError):
        run(three_jobs(), finished=refuse)
