"""Passes of a decoder: chunks, resumption and sampled layers, on a circuit that is golden too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hw.errors import LutripError, ToolError
from hw.isa import LINE_BYTES, Opcode, encode
from hw.presets import load_hardware
from sim import decoder
from sim.compare import TapResult
from sim.decoder import DecoderRun, GoldenPasses
from sim.functional import Machine
from sim.passes import Pass, PassFile, PassProgress, PassRecord, choose, expected_cycles
from sim.records import Job, SimulationResult
from sim.testbench import ACTIVITY

TINY = load_hardware("tiny")
WORDS = LINE_BYTES // TINY.port_bytes
PROGRAMS = 64
"""First line of the programs; each has two."""
STEPS, LAYERS = 3, 3
"""Two positions in the first pass, then one in each; layers of each pass."""
CYCLES = 1000


def copy(source: int, destination: int) -> bytes:
    """A program that copies one line."""
    load = {"words": WORDS, "address": source, "destination": 0}
    store = {"words": WORDS, "address": destination, "source": 0}
    return b"".join([encode(Opcode.LOAD, load), encode(Opcode.STORE, store),
                     encode(Opcode.END, {})]).ljust(2 * LINE_BYTES, b"\0")


def build(split: bool = True) -> tuple[np.ndarray, list[Pass]]:
    """Memory and passes: every pass moves line n to line n + 1, so each needs all before it."""
    memory = np.zeros((PROGRAMS + 2 * STEPS * LAYERS) * LINE_BYTES, np.uint8)
    memory[:4] = np.array([4711], "<i4").view(np.uint8)
    passes = []
    for index in range(STEPS * LAYERS):
        step, layer = divmod(index, LAYERS)
        address = (PROGRAMS + 2 * index) * LINE_BYTES
        memory[address:address + 2 * LINE_BYTES] = np.frombuffer(copy(index, index + 1), np.uint8)
        name = f"decode {1 + step}" if step else "prefill 0:2"
        passes.append(Pass(
            index=index, name=f"{name} layer {layer}", first=1 + step if step else 0,
            tokens=1 if step else 2, layer=layer if split else None, program_address=address,
            token_slot=(index + 1) * LINE_BYTES if layer == LAYERS - 1 else None,
            instructions=["load", "layers.0.store"],
        ))
    return memory, passes


class Circuit:
    """Runs jobs as the circuit would, on a memory of its own that starts as the image.

    dies_after: passes after which the simulator fails; wrong: pass whose first beat is wrong.
    """

    def __init__(
        self, folder: Path, passes: Sequence[Pass], dies_after: int | None = None,
        wrong: str | None = None,
    ) -> None:
        self.folder, self.dies_after, self.wrong = folder, dies_after, wrong
        self.names = {item.program_address: item.name for item in passes}
        self.calls: list[list[str]] = []

    @property
    def ran(self) -> list[str]:
        """Passes of all calls."""
        return [name for call in self.calls for name in call]

    def __call__(
        self, jobs: Sequence[Job], running: Callable[[int, int], None],
        finished: Callable[[int, SimulationResult], None],
    ) -> None:
        machine = Machine(build()[0], TINY)
        self.calls.append([])
        for number, job in enumerate(jobs):
            if self.dies_after is not None and len(self.ran) == self.dies_after:
                raise ToolError("killed")
            name = self.names[job.program_address]
            self.calls[-1].append(name)
            running(number, 0)
            if job.patch is not None:
                words = machine.memory.reshape(-1, TINY.port_bytes)
                words[job.patch.words] = job.patch.data
            beats = machine.run(job.program_address)
            exact = name != self.wrong and all(
                np.array_equal(beats[tap].data, job.expected[tap].data)
                and np.array_equal(beats[tap].address, job.expected[tap].address)
                for tap in beats)
            start, size = job.output or (0, 0)
            events = self.folder / f"events_{number}.txt"
            events.write_text("")
            finished(number, SimulationResult(
                simulator="none", simulator_version="0", status="done", errors=(), cycles=CYCLES,
                counters={"cycles": CYCLES}, activity=dict.fromkeys(ACTIVITY, 1),
                bit_exact=exact,
                taps=tuple(TapResult(tap=tap, beats=len(item), expected=len(item), mismatches=0)
                           for tap, item in beats.items()),
                mismatches=(), busy_engines=(), waiting_engines=(), wall_s=0.5, build_s=0.0,
                run_dir=self.folder, events=events, waves=None,
                output=machine.memory[start:start + size].tobytes() if job.output else None,
            ))
            if not exact:
                return


@pytest.fixture
def simulate(tmp_path: Path) -> Any:
    """Run a decoder; returns its state and the circuit."""

    def call(
        sample: Sequence[int] | None = None, resume: bool = True, key: str = "key",
        tell: Callable[[PassProgress], None] = lambda report: None, **options: Any,
    ) -> tuple[DecoderRun, Circuit]:
        memory, passes = build()
        circuit = Circuit(tmp_path, passes, **options)
        run = DecoderRun(passes, choose(passes, sample, LAYERS),
                         PassFile(tmp_path / "passes.jsonl", key), resume=resume, tell=tell)
        try:
            run.run(GoldenPasses(memory, TINY), circuit)
        except ToolError:
            assert options["dies_after"] is not None
        return run, circuit

    return call


def names(first: int, last: int | None = None) -> list[str]:
    return [item.name for item in build()[1]][first:last]


def test_all_passes(simulate):
    run, circuit = simulate()
    assert circuit.calls == [names(0)]
    assert run.complete
    assert run.tokens == {2: 4711, 5: 4711, 8: 4711}
    assert run.records[0].beats["store"] == WORDS
    assert run.records[0].instructions == 2


def test_chunks_go_on_from_the_image(simulate, monkeypatch):
    monkeypatch.setattr(decoder, "CHUNK_BYTES", 1)
    run, circuit = simulate()
    assert circuit.calls == [[name] for name in names(0)]
    assert run.complete


@pytest.mark.parametrize("chunk", [1, decoder.CHUNK_BYTES])
def test_resumed(simulate, monkeypatch, chunk):
    monkeypatch.setattr(decoder, "CHUNK_BYTES", chunk)
    run, _ = simulate(dies_after=4)
    assert not run.complete
    run, circuit = simulate()
    assert circuit.ran == names(4)
    assert run.resumed == 4
    assert run.complete
    assert run.tokens == {2: 4711, 5: 4711, 8: 4711}
    again, circuit = simulate()
    assert circuit.calls == []
    assert again.complete
    assert again.tokens == run.tokens
    assert again.records == run.records


def test_not_resumed(simulate):
    simulate(dies_after=4)
    assert simulate(resume=False)[0].resumed == 0
    simulate(dies_after=4)
    assert simulate(key="another image")[1].calls == [names(0)]


@pytest.mark.parametrize("chunk", [1, decoder.CHUNK_BYTES])
def test_sampled_layers(simulate, monkeypatch, chunk):
    monkeypatch.setattr(decoder, "CHUNK_BYTES", chunk)
    run, circuit = simulate(sample=[1])
    assert circuit.ran == names(1, 2) + names(4, 5) + names(7, 8)
    assert run.complete
    assert run.tokens == {2: 4711, 5: 4711, 8: 4711}
    more, circuit = simulate(sample=[1, 2])
    assert circuit.ran == names(2, 3) + names(5, 6) + names(8, 9)
    assert more.complete
    assert simulate()[0].resumed == 6


def test_a_wrong_pass_is_the_last(simulate):
    run, circuit = simulate(wrong="decode 2 layer 1")
    assert circuit.calls == [names(0, 5)]
    assert not run.complete
    assert run.failed.name == "decode 2 layer 1"
    assert run.tokens == {2: 4711}
    resumed, circuit = simulate()
    assert resumed.resumed == 4
    assert circuit.calls == [names(4)]


def test_progress(simulate):
    told: list[PassProgress] = []
    simulate(tell=told.append)
    rtl = [report for report in told if report.stage == "rtl"]
    assert [report.passes_done for report in rtl] == list(range(9))
    assert [report.tokens_done for report in rtl] == [0, 0, 0, 2, 2, 2, 3, 3, 3]
    assert {report.tokens for report in told} == {4}
    assert [report.cycles for report in rtl] == [CYCLES * n for n in range(9)]


def test_damaged_file(tmp_path, simulate):
    run, _ = simulate()
    path = tmp_path / "passes.jsonl"
    path.write_text(path.read_text()[:-20])
    found = PassFile(path, "key").load()
    assert list(found) == list(range(8))
    assert found[3] == run.records[3]
    assert PassFile(path, "other").load() == {}
    assert PassFile(tmp_path / "none", "key").load() == {}


def test_layers_that_cannot_be_chosen():
    passes = build()[1]
    with pytest.raises(LutripError, match=r"^--sample-layers 3: the model has layers 0 to 2$"):
        choose(passes, [0, 3], LAYERS)
    with pytest.raises(LutripError, match="compile it with --split-layers"):
        choose(build(split=False)[1], [0], LAYERS)


def test_cycles_expected_of_a_pass():
    passes = build()[1]
    record = PassRecord(
        index=0, name="", status="done", errors=[], bit_exact=True, cycles=600, counters={},
        activity={}, beats={}, instructions=1, wall_s=1.0, token=None, simulator="none",
        first_mismatch=None)
    assert expected_cycles(passes[1], [(passes[0], record)]) == 600
    assert expected_cycles(passes[4], [(passes[0], record)]) is None
    assert expected_cycles(passes[4], [(passes[3], record), (passes[0], record)]) == 600
