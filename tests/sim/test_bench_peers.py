"""`make bench-peers`: products, peers in environments of their own, ratios, page; with fakes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from compiler.image.program import decode_program
from hw.errors import ToolError
from hw.presets import load_hardware
from sim import bench_peers
from sim.estimate.rows import pack_rows
from sim.peers.comparison import array_shape, dataflow_cycles, job_of, row_of, summary
from sim.peers.environments import PEERS, READY, Peer, install, run_peer
from sim.peers.gemm import (
    GEMMS,
    Gemm,
    gemm_build,
    linear_of,
    model_costs,
    program_place,
    structural_program,
)
from sim.peers.page import count, page, seconds, times
from sim.peers.runners.scale_sim_gemm import report
from sim.peers.runners.zigzag_gemm import workload

SMALL = Gemm(name="small", tokens=5, inputs=96, columns=80)
FAKE = Peer(key="fake", name="Fake", requirements=("fake==1",), runner="missing", kind="modelled")


def done(status, output="", errors=""):
    return subprocess.CompletedProcess([], status, output, errors)


def costs(cycles, wall_s, cpu_s):
    return {"cycles": cycles, "wall_s": wall_s, "cpu_s": cpu_s}


def rtl(cycles, cpu_s, bit_exact=True):
    return {**costs(cycles, cpu_s, cpu_s), "bit_exact": bit_exact, "words_compared": 12}


def row(model_cpu=1e-3, peer_cpu=0.5, bit_exact=True):
    job = job_of(SMALL, load_hardware("tiny"))
    peers = {peer.key: costs(777, 2 * peer_cpu, peer_cpu) for peer in PEERS}
    return row_of(SMALL, job, costs(99, model_cpu, model_cpu), rtl(100, 0.25, bit_exact), peers)


@pytest.mark.parametrize("gemm", [SMALL, linear_of("smollm2-135m", "k", 9)])
def test_the_fast_model_takes_the_program_that_is_compiled(gemm):
    hardware = load_hardware("tiny")
    image = gemm_build(gemm, hardware).image
    stored = pack_rows(decode_program(image.section("program")), hardware)
    np.testing.assert_array_equal(structural_program(gemm, hardware), stored)
    assert image.program_address == program_place(hardware) * hardware.port_bytes


def test_the_fast_model_is_timed():
    found = model_costs(SMALL, load_hardware("tiny"), repeats=2)
    assert found["cycles"] > SMALL.macs / 128
    assert 0 < found["same_program_wall_s"] < found["wall_s"]


def test_products_are_those_of_published_shapes():
    assert linear_of("qwen3-1.7b", "k", 128).macs == 128 * 2048 * 1024
    assert len({gemm.name for gemm in GEMMS}) == len(GEMMS) == 6


def test_the_array_has_as_many_multipliers():
    assert array_shape(load_hardware("sim")) == (32, 16)


def test_dataflow_cycles_are_those_that_scale_sim_printed():
    one = linear_of("smollm2-135m", "k", 1)
    assert dataflow_cycles(one, 32, 16) == {"ws": 17064, "os": 7464, "is": 4860}
    assert job_of(one, load_hardware("sim"))["dataflow"] == "is"
    assert job_of(linear_of("smollm2-135m", "k", 128), load_hardware("sim"))["dataflow"] == "os"


def test_ratios_and_rates():
    found = row()
    assert found["ratios"]["zigzag"] == {
        "model_faster": 500, "model_faster_wall": 1000, "rtl_faster": 2, "rtl_faster_wall": 4}
    assert found["model_error"] == pytest.approx(-0.01)
    assert found["peers"]["zigzag"]["macs_per_cpu_s"] == 2 * SMALL.macs
    assert found["holds"]
    total = summary([found, row(peer_cpu=8.0)])
    assert total["zigzag"]["model_faster"]["least"] == 500
    assert total["zigzag"]["model_faster"]["geometric_mean"] == pytest.approx(2000)
    assert total["all_hold"]


@pytest.mark.parametrize("options", [{"model_cpu": 2.0}, {"bit_exact": False}])
def test_a_slower_model_or_a_wrong_value_misses(options):
    found = row(**options)
    assert not found["holds"]
    assert not summary([row(), found])["all_hold"]


def test_scale_sim_report(tmp_path):
    (tmp_path / "r.csv").write_text("LayerID, Total Cycles, Stall Cycles,\n0, 1375, 0,\n")
    assert report(tmp_path / "r.csv") == {"LayerID": 0, "Total Cycles": 1375, "Stall Cycles": 0}


def test_zigzag_workload():
    layer, = workload({"tokens": 1, "inputs": 2, "columns": 3})
    assert dict(zip(layer["loop_dims"], layer["loop_sizes"], strict=True)) == {
        "C": 2, "D": 1, "K": 3}


def test_an_environment_is_made_once(tmp_path):
    commands = []

    def execute(command, **options):
        commands.append(command)
        python = tmp_path / "fake" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        return done(0)

    for _ in range(2):
        assert install(FAKE, tmp_path, str, execute).name == "python"
    assert [command[2] for command in commands] == ["venv", "pip"]
    assert commands[1][-1] == "fake==1"
    (tmp_path / "fake" / READY).write_text("fake==0\n")
    install(FAKE, tmp_path, str, execute)
    assert len(commands) == 4


def test_a_peer_that_cannot_be_installed_is_one_line(tmp_path, monkeypatch, capsys):
    def execute(command, **options):
        return done(1, errors="note\nERROR: No matching distribution found for scalesim\n\n")

    monkeypatch.setattr(bench_peers, "install", lambda peer, folder, say: install(
        peer, folder, say, execute))
    out = tmp_path / "peers.json"
    status = bench_peers.main(["--out", str(out), "--page", str(tmp_path / "peers.md"),
                               "--build-dir", str(tmp_path), "--peer", "scale-sim"])
    errors = capsys.readouterr().err
    assert status == 3
    assert errors.count("\n") == 1
    assert "No matching distribution found for scalesim" in errors
    assert not out.exists()


def test_unknown_hardware_is_one_line(tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "o"), "--page", str(tmp_path / "p"), "--hw", "none"]
    assert bench_peers.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("written", "message"), [
    (None, "no_such_module"),
    ({"cycles": 0, "wall_s": 1, "cpu_s": 1}, "no cycles"),
    ({"cycles": 9}, "no cycles"),
])
def test_a_peer_that_gives_nothing_is_a_tool_error(tmp_path, written, message):
    def execute(command, **options):
        if written is None:
            return done(1, errors="Traceback\nModuleNotFoundError: no_such_module\n")
        (tmp_path / "out.json").write_text(json.dumps(written))
        return done(0)

    with pytest.raises(ToolError, match=message):
        run_peer(FAKE, tmp_path / "python", {"name": "small"}, tmp_path, execute)


def test_a_slow_peer_is_a_tool_error(tmp_path):
    def execute(command, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    with pytest.raises(ToolError, match="took more than"):
        run_peer(FAKE, tmp_path / "python", {"name": "small"}, tmp_path, execute)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.key)
def test_runners_need_only_their_own_python(tmp_path, peer):
    # This Python has no peer installed, so that the runner itself gets as far as the import.
    with pytest.raises(ToolError, match="No module named"):
        run_peer(peer, sys.executable, {"name": "small", **job_of(SMALL, load_hardware("tiny"))},
                 tmp_path)


def test_the_page_has_every_figure():
    rows = [row()]
    peers = {peer.key: {"name": peer.name, "kind": peer.kind, "version": "9.9"} for peer in PEERS}
    text = page({
        "command": "make bench-peers", "summary": summary(rows), "hardware": "sim",
        "multipliers": 512, "array": [32, 16], "repeats": 7, "peers": peers, "rows": rows})
    for part in ("SCALE-Sim 9.9", "ZigZag 9.9", "500 x", "| 777 |", "-1.00%", "12 words",
                 "32 x 16"):
        assert part in text
    assert all(len(line) <= 400 for line in text.splitlines())


def test_numbers_for_readers():
    assert [count(value) for value in (5, 42_500, 268_435_456, 3e9)] == [
        "5", "42.5 k", "268 M", "3 G"]
    assert [seconds(value) for value in (0.0021, 12.34)] == ["2.1 ms", "12.3 s"]
    assert [times(value) for value in (0.037, 1.27, 12_599.2)] == ["0.037 x", "1.3 x", "12,599 x"]
