"""The simulation around a stand-in accelerator: checks, memory model, errors, both simulators."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hw.errors import ConfigError, LutripError, ToolError
from sim.bare import run_bare
from sim.records import MemoryModel, SimulationResult
from sim.runner import simulate
from tests.sim import fake

SIMULATOR = "icarus" if shutil.which("iverilog") else "verilator"
"""Icarus builds faster; it is not always there."""


@pytest.fixture(scope="module")
def build_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("build")


@pytest.fixture
def run(tmp_path: Path, build_dir: Path) -> Any:
    """Simulate the stand-in; keywords as for `simulate`."""

    def call(expected: Any = None, image: bytes = fake.IMAGE, **keywords: Any) -> SimulationResult:
        bursts = keywords.pop("bursts", 4)
        return simulate(
            [fake.source(tmp_path, bursts)], fake.CONFIG, image, 0,
            fake.beats() if expected is None else expected, tmp_path / "run",
            **{"simulator": SIMULATOR, "build_dir": build_dir} | keywords,
        )

    return call


def changed(tap: str, field: str, index: Any, value: int) -> dict[str, Any]:
    """Expected beats with one value changed by exclusive or."""
    beats = dict(fake.beats())
    fields = dict(vars(beats[tap]))
    fields[field] = fields[field].copy()
    fields[field][index] ^= value
    beats[tap] = SimpleNamespace(**fields)
    return beats


def cut(tap: str, count: int) -> dict[str, Any]:
    """Expected beats with only the first ones of a tap."""
    beats = dict(fake.beats())
    beats[tap] = SimpleNamespace(**{
        name: None if value is None else value[:count] for name, value in vars(beats[tap]).items()
    })
    return beats


def test_exact(run):
    told: list[str] = []
    result = run(output=(fake.COPY, 1024), progress=told.append)
    assert result.bit_exact
    assert result.done
    assert result.first_mismatch is None
    assert {tap.tap: tap.beats for tap in result.taps} == {"load": 64, "quantize": 64, "store": 64}
    assert result.output == fake.IMAGE[:1024]
    assert result.counters["read_words_w0"] == 64
    assert result.cycles == result.counters["cycles"]
    assert told[-1] == f"done after {result.cycles} cycles"
    assert result.bit_exact is True


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="compares with Icarus")
@pytest.mark.parametrize("memory", [
    MemoryModel(), MemoryModel(latency_cycles=2, bytes_per_cycle=3, outstanding=1),
])
def test_verilator_has_the_cycles_of_icarus(run, memory):
    verilator = run(simulator="verilator", memory=memory)
    icarus = run(simulator="icarus", memory=memory)
    assert verilator.bit_exact
    assert verilator.cycles == icarus.cycles
    assert verilator.events.read_text()
    assert verilator.counters == icarus.counters


def test_wrong_data_is_located(run):
    result = run(changed("load", "data", (37, 9), 0x10))
    mismatch = result.first_mismatch
    assert not result.bit_exact
    assert (mismatch.tap, mismatch.kind, mismatch.beat, mismatch.instruction, mismatch.byte) == (
        "load", "value", 37, 2, 9)
    assert mismatch.cycle > 64
    got = np.frombuffer(fake.IMAGE, np.uint8)[37 * 16:38 * 16][::-1].tobytes().hex()
    assert mismatch.got_data == got
    assert int(mismatch.expected_data, 16) == int(got, 16) ^ 0x10 << 72
    assert "load beat 37 (instruction 2), cycle" in mismatch.describe()


def test_earliest_tap_comes_first(run):
    beats = changed("store", "address", 3, 16)
    beats["load"] = changed("load", "address", 2, 1)["load"]
    result = run(beats)
    assert [(item.tap, item.beat) for item in result.mismatches] == [("load", 2), ("store", 3)]
    assert result.mismatches[1].expected_address == fake.COPY + 16 * 3 ^ 16
    assert result.mismatches[1].got_address == fake.COPY + 16 * 3


def test_disabled_nibbles_do_not_count(run):
    # Beat 0 writes low nibbles, so a high one may be anything.
    assert run(changed("quantize", "data", (0, 5), 0xF0)).bit_exact
    result = run(changed("quantize", "data", (0, 5), 0x0F))
    assert result.first_mismatch.byte == 5


def test_wrong_mask(run):
    mismatch = run(changed("quantize", "mask", (4, 0), 1)).first_mismatch
    assert (mismatch.beat, mismatch.byte) == (4, None)
    assert "expected mask 5554, got 5555" in mismatch.describe()


def test_missing_and_extra_beats(run):
    mismatch = run(cut("load", 60)).first_mismatch
    assert (mismatch.kind, mismatch.beat, mismatch.instruction) == ("extra", 60, None)
    mismatch = run(fake.beats(5)).first_mismatch
    assert (mismatch.kind, mismatch.beat, mismatch.cycle) == ("missing", 64, None)


def test_latency(run):
    short, long = (run(memory=MemoryModel(latency_cycles=cycles, outstanding=64))
                   for cycles in (10, 50))
    # The first read and the last write response each wait once.
    assert long.cycles - short.cycles == 2 * 40


def test_bandwidth(run):
    result = run(memory=MemoryModel(latency_cycles=2, bytes_per_cycle=0.5))
    assert 32 * 63 <= result.cycles <= 32 * 64


def test_outstanding(run):
    single, many = (run(memory=MemoryModel(latency_cycles=200, outstanding=count))
                    for count in (1, 16))
    # One write after the other, and one burst of 16 reads after the other.
    assert single.cycles > many.cycles + 60 * 200


def test_limit_of_cycles(run):
    result = run(max_cycles=100)
    assert result.status == "max_cycles"
    assert not result.bit_exact


def test_read_beyond_the_image(run):
    result = run(image=fake.IMAGE[:512], expected=cut("load", 32))
    assert result.error
    assert result.errors == ("read", "memory")
    assert "read_w0: read of word 32, beyond 32 words" in (
        result.run_dir / "simulate.log").read_text()


def test_waves(run):
    result = run(waves=True)
    assert result.waves is not None
    assert result.waves.stat().st_size > 1000


@pytest.mark.slow
def test_verilator_waves(run):
    assert run(simulator="verilator", waves=True).waves.stat().st_size > 1000


@pytest.mark.slow
def test_bare_loop_has_the_same_cycles(run, tmp_path, build_dir):
    bare = run_bare([fake.source(tmp_path)], fake.CONFIG, fake.IMAGE, 0, fake.beats(),
                    tmp_path / "bare", build_dir=build_dir)
    assert bare.cycles == run().cycles


def test_other_configuration(run, tmp_path, build_dir):
    source = fake.source(tmp_path)
    source.write_text(source.read_text().replace(fake.CONFIG.digest(), "0123456789abcdef"))
    with pytest.raises(LutripError, match="generated for another configuration than tiny"):
        simulate([source], fake.CONFIG, fake.IMAGE, 0, {}, tmp_path / "run", simulator=SIMULATOR,
                 build_dir=build_dir)


def test_broken_circuit(tmp_path, build_dir):
    source = fake.source(tmp_path)
    source.write_text(source.read_text().replace("assign irq = done", "assign irq = nothing"))
    with pytest.raises(ToolError, match=r"failed .*the generated circuit.*; see .*log"):
        simulate([source], fake.CONFIG, fake.IMAGE, 0, {}, tmp_path / "run", simulator=SIMULATOR,
                 build_dir=build_dir)


def test_misuse(run, tmp_path):
    other = tmp_path / "other.v"
    other.write_text("module other;\nendmodule\n")
    with pytest.raises(ToolError, match=r"^no module lutrip_top in other\.v"):
        simulate([other], fake.CONFIG, fake.IMAGE, 0, {}, tmp_path / "run", simulator=SIMULATOR)
    with pytest.raises(LutripError, match=r"^the memory image is empty"):
        run(image=b"")
    with pytest.raises(ValueError, match="no checker for sums"):
        run({"sums": fake.beats()["load"]})
    with pytest.raises(ConfigError, match=r"at least 2 cycles, not 1$"):
        MemoryModel(latency_cycles=1)
