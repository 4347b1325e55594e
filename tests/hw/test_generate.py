"""Generated Verilog: files, stability, lint, and nothing half-written."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess

import pytest

from hw import generate as generator
from hw.errors import LutripError
from hw.generate import TOP, generate
from hw.presets import load_hardware
from sim.toolchain import find_verilator

TINY = load_hardware("tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("generated") / "tiny"
    generate(TINY, out, "ecp5")
    return out


def test_one_module_a_file_with_its_name(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["top"] == TOP
    assert manifest["configuration_hash"] == TINY.digest()
    assert manifest["hardware"] == dataclasses.asdict(TINY)
    on_disk = {f"verilog/{path.name}" for path in (folder / "verilog").iterdir()}
    assert on_disk == set(manifest["files"])
    for file in manifest["files"]:
        modules = re.findall(r"^module ([A-Za-z_]\w*)", (folder / file).read_text(), re.MULTILINE)
        assert modules == [(folder / file).stem]


def test_repeated_blocks_are_one_module(folder):
    names = {path.stem for path in (folder / "verilog").iterdir()}
    for block in ("position_lane", "distance_unit", "packed_dot", "packed_multiplier"):
        assert block in names
    text = (folder / "verilog" / "lutrip_top_lut.v").read_text()
    assert len(re.findall(r"^  position_lane ", text, re.MULTILINE)) == TINY.positions


def test_same_configuration_same_bytes(folder, tmp_path):
    generate(TINY, tmp_path / "again", "ecp5")
    for path in (folder / "verilog").iterdir():
        assert (tmp_path / "again" / "verilog" / path.name).read_bytes() == path.read_bytes()


def test_register_map_is_written(folder):
    registers = json.loads((folder / "registers.json").read_text())
    offsets = [register["offset"] for register in registers]
    assert len(set(offsets)) == len(offsets)
    for register in registers:
        assert f"| {register['name']} |" in (folder / "registers.md").read_text()


def test_constraints_name_the_clock(folder, tmp_path):
    assert 'FREQUENCY PORT "clk" 50 MHZ' in (folder / "lutrip.lpf").read_text()
    generate(TINY, tmp_path / "vivado", "vivado")
    assert "-period 20.000" in (tmp_path / "vivado" / "lutrip.xdc").read_text()


def test_lint_is_clean_but_for_the_documented_waivers(folder):
    tool = find_verilator()
    done = subprocess.run(
        [str(tool.path), "--lint-only", "-Wall", "--top-module", TOP, "waivers.vlt",
         *(f"verilog/{path.name}" for path in sorted((folder / "verilog").iterdir()))],
        cwd=folder, env={**os.environ, **tool.environment()}, capture_output=True, text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "%Warning" not in done.stdout + done.stderr


def test_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LutripError, match="exists and is not an earlier output of generate"):
        generate(TINY, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_interrupted_generate_leaves_the_old_output(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    generate(TINY, out)
    before = (out / "manifest.json").read_bytes()

    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(generator, "register_map_markdown", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(TINY, out, "vivado")
    assert (out / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
