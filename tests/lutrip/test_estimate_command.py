"""`lutrip estimate`: energy and operations of the phases, and one line for what cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

import lutrip
from compiler.decoder.build import DecoderCompiler
from compiler.errors import CompileError
from compiler.frontends.shapes import SHAPES
from compiler.lower.allocate import OutOfSpaceError
from compiler.lower.attention import Span
from compiler.lower.cache import positions_max
from compiler.quant.scheme import load_scheme
from compiler.structure import structural_decoder
from hw.errors import ConfigError, LutripError
from hw.presets import find, load_hardware
from lutrip import estimating
from lutrip.cli import main
from lutrip.estimating import operation_count
from sim.estimate.plan import Planner
from sim.memory_presets import load_memory

TINY = ("--model", "shape:tiny", "--scheme", "simd-w4a8-tiny", "--hw", "tiny")


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that is refused."""
    assert main(["estimate", *arguments]) == 2
    text = capsys.readouterr().err
    assert text.startswith("lutrip: error: ")
    assert text.count("\n") == 1
    return text


def test_energy_counters_and_operations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Causes add up to the joules; nothing that is not modelled is among the counters."""
    path = tmp_path / "new" / "estimate.json"
    monkeypatch.setattr(estimating, "ERROR_FILE", tmp_path / "none.json")
    assert main(["estimate", *TINY, "--prefill", "8", "--decode", "4", "--json", str(path)]) == 0
    values = json.loads(path.read_text())
    for found in (values, values["prefill"], values["decode"]):
        energy = found["energy"]
        assert sum(one["joules"] for one in energy["causes"]) == pytest.approx(found["energy_j"])
        assert (energy["low_j"] < energy["likely_low_j"] < found["energy_j"]
                < energy["likely_high_j"] < energy["high_j"])
        assert energy["causes"][0]["provenance"].startswith("modelled counters")
    counters = values["decode"]["counters"]
    assert not [name for name in counters if name.startswith(("waiting_", "prefetched"))]
    assert counters["busy_linear"] > 0
    text = capsys.readouterr()
    assert "(likely " in text.out
    assert "error against RTL: see docs/cycle-model.md" in text.out
    assert not text.err


def test_in_python(tmp_path: Path) -> None:
    """The function gives what the command writes."""
    path = tmp_path / "estimate.json"
    assert main(["estimate", *TINY, "--prefill", "9", "--decode", "3", "--json", str(path)]) == 0
    found = lutrip.estimate("shape:tiny", "simd-w4a8-tiny", "tiny", prefill=9, decode=3)
    assert json.loads(json.dumps(found)) == json.loads(path.read_text())
    assert lutrip.estimate("shape:tiny", "simd-w4a8-tiny", "tiny", prefill=9, decode=0,
                           memory="ideal")["memory"]["preset"] == "ideal"
    with pytest.raises(LutripError, match="did you mean tiny"):
        lutrip.estimate("shape:tiny", "simd-w4a8-tiny", "tinny")


def test_operations_by_hand() -> None:
    """Linears of each token, scores and mixes of what it sees, the head of each token given."""
    linears = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 160
    one = 2 * (2 * (linears + 2 * 64 * 10) + 256 * 64)
    assert operation_count(SHAPES["tiny"], 9, 1, 1) == one
    seen = sum(min(position + 1, 6) for position in range(10))
    most = 2 * 2 * (10 * linears + 2 * 64 * seen)
    assert operation_count(SHAPES["tiny-mistral"], 0, 10, 0) == most


def test_advice_on_a_token_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where passes are shorter than the rule's, a scheme with the tokens that are named runs."""
    common = ("--model", "shape:smollm2-135m", "--hw", "sim", "--decode", "0")
    text = error_of(capsys, *common, "--scheme", "simd-w4a4-agile")
    (tokens,) = re.findall(r"with tokens: (\d+) under token_rule$", text.rstrip())
    scheme = yaml.safe_load(find("schemes", "simd-w4a4-agile").read_text())
    path = tmp_path / "my.yaml"
    for more, status in ((1, 2), (0, 0)):
        scheme["token_rule"]["tokens"] = int(tokens) + more
        path.write_text(yaml.safe_dump(scheme))
        assert main(["estimate", *common, "--scheme", str(path)]) == status


@pytest.mark.parametrize(("prefill", "decode"), [("999999999999", "1"), ("8", "100000000")])
def test_too_long_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], prefill: str, decode: str
) -> None:
    text = error_of(capsys, *TINY, "--prefill", prefill, "--decode", decode)
    assert f"--prefill {prefill} and --decode {decode} are" in text
    assert f"{positions_max(load_hardware('tiny'))} at most" in text


def test_longer_than_the_model_was_made_for(capsys: pytest.CaptureFixture[str]) -> None:
    text = error_of(capsys, *TINY, "--prefill", "510", "--decode", "3")
    assert "--prefill 510 and --decode 3 are 513 positions, tiny was made for 512" in text


def test_the_longest_context_has_no_room() -> None:
    """Positions that instructions could go through, but whose rows no store holds."""
    config = load_hardware("tiny")
    most = positions_max(config)
    decoder = structural_decoder(SHAPES["tiny"], load_scheme("simd-w4a8-tiny"), config, most)
    for make in (lambda: Planner(decoder, 4, most - 3),
                 lambda: DecoderCompiler(decoder, [0] * 4, most - 3)):
        with pytest.raises(CompileError, match=r"use larger hardware or a shorter context$"):
            make()


def test_passes_are_those_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """At any context; a layer that has no room for one is refused in one line."""
    config = load_hardware("sim")
    decoder = structural_decoder(SHAPES["smollm2-135m"], load_scheme("simd-w4a8"), config, 2600)
    for prompt in (700, 2500):
        planner = Planner(decoder, prompt, 20)
        assert planner.tokens_max == DecoderCompiler(decoder, [0] * prompt, 20).tokens_max

    def full(*arguments: object) -> object:
        raise OutOfSpaceError("operand store (operand_words)", 9, 8)

    monkeypatch.setattr(planner.emitter, "stages", full)
    with pytest.raises(CompileError, match=r"operand store \(operand_words\) holds 8, too few"):
        planner.stages(decoder.layer(0), Span(33, 1))


@pytest.mark.parametrize(("key", "given", "message"), [
    ("gb_per_s", float("inf"), "gb_per_s must be a number from 0.1 to 1,000,000.0, not inf"),
    ("latency_ns", float("nan"), "latency_ns must be a number from 0 to 1,000,000.0, not nan"),
    ("refresh_ns", 1e30, r"refresh_ns must be a number from 0 to 1,000,000,000.0, not 1e\+30"),
    ("refresh_ns", 9000, r"refresh_ns must be less than refresh_interval_ns \(7800\), not 9000"),
    ("row_bytes", 1000.5, "row_bytes must be a whole number from 1 to 1,073,741,824, not 1000.5"),
    ("row_bytes", 1000, "row_bytes must be a power of two, not 1000"),
    ("outstanding", 2.5, "outstanding must be a whole number from 1 to 64, not 2.5"),
])
def test_wrong_memory(tmp_path: Path, key: str, given: float, message: str) -> None:
    values = {name: getattr(load_memory("ddr4-kv260"), name) for name in (
        "latency_ns", "gb_per_s", "row_bytes", "row_miss_ns", "refresh_interval_ns",
        "refresh_ns", "outstanding", "sources")}
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump({**values, key: given}))
    with pytest.raises(ConfigError, match=rf"^.*my\.yaml: {message}$"):
        load_memory(str(path))


def test_shared_memory_warns(capsys: pytest.CaptureFixture[str]) -> None:
    """Only where the ports together could ask for more than the device gives."""
    for hardware, warned in (("u280", True), ("kv260", False)):
        preset, config = load_memory("ddr4-kv260"), load_hardware(hardware)
        most = preset.device_gb_per_s()
        assert most == 19.2
        assert (preset.ports_gb_per_s(config) > most) is warned
    assert main(["estimate", "--model", "shape:tiny", "--scheme", "simd-w4a8", "--hw", "u280",
                 "--memory", "ddr4-kv260", "--prefill", "2", "--decode", "0"]) == 0
    assert "warning: memory ddr4-kv260 gives 19.2 GB/s in all" in capsys.readouterr().err


def test_output_and_names_are_checked_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    place = blocked / "below" / "x.json"
    assert f"--json {place}: " in error_of(capsys, *TINY, "--json", str(place))
    rest = TINY[2:]
    assert "the model's name is empty" in error_of(capsys, "--model", "", *rest)
    assert "shape: names no shape; known are" in error_of(capsys, "--model", "shape:", *rest)
