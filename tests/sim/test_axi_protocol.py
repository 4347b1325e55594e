"""AXI components against the independent models of cocotbext-axi, in an HDL simulator."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from hw.control.registers import Registers
from hw.memory.axi_read_master import AxiReadMaster
from hw.memory.axi_write_master import AxiWriteMaster
from hw.register_map import counters
from hw.verilog import convert
from sim.toolchain import find_verilator
from tests.hw.engines import load_config

ROOT = Path(__file__).parents[2]
CONFIG = load_config()
UNITS = {
    "read_words": lambda: AxiReadMaster(CONFIG),
    "write_words": lambda: AxiWriteMaster(CONFIG),
    "host_access": lambda: Registers(CONFIG, counters(CONFIG)),
}
SIMULATOR = "icarus" if shutil.which("iverilog") else "verilator"


@pytest.mark.parametrize("name", UNITS)
def test_protocol(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    if SIMULATOR == "verilator":
        tool = find_verilator()
        for key, value in tool.environment().items():
            monkeypatch.setenv(key, value)
        monkeypatch.setenv("PATH", str(tool.path.parent), prepend=os.pathsep)
        monkeypatch.setenv("MAKEFLAGS", " ".join(tool.make_variables()))
    (tmp_path / "unit.v").write_text(convert(UNITS[name](), "unit"))
    runner = get_runner(SIMULATOR)
    runner.build(
        sources=[tmp_path / "unit.v"], hdl_toplevel="unit", build_dir=tmp_path,
        timescale=("1ns", "1ps"), log_file=tmp_path / "build.log",
        build_args=[] if SIMULATOR == "icarus" else ["-Wno-fatal"],
    )
    results = runner.test(
        hdl_toplevel="unit", test_module="tests.sim.axi_protocol_bench", test_filter=f"{name}$",
        build_dir=tmp_path, test_dir=tmp_path, timescale=("1ns", "1ps"),
        log_file=tmp_path / "test.log",
    )
    assert get_results(results) == (1, 0), (tmp_path / "test.log").read_text()[-2000:]
