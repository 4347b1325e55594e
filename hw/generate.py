"""Write the accelerator as Verilog, with its register map, constraints and manifest."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hw.config import HardwareConfig
from hw.errors import LutripError
from hw.register_map import register_map, register_map_markdown
from hw.top import Accelerator
from hw.verilog import convert

TOP = "lutrip_top"
MODULE = re.compile(r"^module (\\\S+ |[A-Za-z_]\w*)", re.MULTILINE)

WAIVERS = """\
`verilator_config
// Waived for generated code, each with its reason.
// Amaranth names every intermediate value and every field of a record, used or not.
lint_off -rule UNUSEDSIGNAL
// Amaranth widens operands where it needs to; Yosys then drops the explicit extensions, and the
// language's own extension rules give the same value.
lint_off -rule WIDTHEXPAND
// Yosys writes "is zero" as the logical negation of a vector.
lint_off -rule WIDTHTRUNC
// Registers have an initial value beside their reset, as FPGAs do.
lint_off -rule PROCASSINIT
// Every case statement stands behind a default assignment.
lint_off -rule CASEINCOMPLETE
// A value without bits is declared as [-1:0]; nothing reads or drives it.
lint_off -rule ASCRANGE
// A comparison of generic width can be decided for one size of the hardware.
lint_off -rule CMPCONST
// A nonblocking assignment makes always @* blocks run at time 0 in Icarus; Verilator runs them all.
lint_off -rule INITIALDLY
"""


def modules(config: HardwareConfig) -> dict[str, str]:
    """Verilog text of every module by name; stable from run to run."""
    text = convert(Accelerator(config), TOP)
    escaped = {
        name.strip(): name.strip().removeprefix("\\").replace(".", "_").replace("$", "_")
        for name in MODULE.findall(text) if name.startswith("\\")
    }
    for old, new in escaped.items():
        text = text.replace(f"{old} ", f"{new} ")
    result: dict[str, str] = {}
    starts = [match.start() for match in MODULE.finditer(text)]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        body = text[start:end].strip() + "\n"
        name = MODULE.match(body)
        assert name is not None
        assert name.group(1) not in result, f"two modules are called {name.group(1)}"
        result[name.group(1)] = body
    return result


def _vivado(config: HardwareConfig, files: list[str]) -> dict[str, str]:
    period = 1000 / config.clock_mhz
    script = [f"read_verilog verilog/{file}" for file in files]
    return {
        "lutrip.xdc": f"create_clock -name clk -period {period:.3f} [get_ports clk]\n",
        "synth.tcl": "\n".join([
            *script, "read_xdc lutrip.xdc",
            f"synth_design -top {TOP} -mode out_of_context -part $::env(LUTRIP_PART)",
            "report_utilization -file utilization.rpt", "report_timing -file timing.rpt",
        ]) + "\n",
    }


def _ecp5(config: HardwareConfig, files: list[str]) -> dict[str, str]:
    reads = " ".join(f"verilog/{file}" for file in files)
    return {
        "lutrip.lpf": f'FREQUENCY PORT "clk" {config.clock_mhz:g} MHZ;\n',
        "synth.ys": (f"read_verilog {reads}\nsynth_ecp5 -top {TOP} -json {TOP}.json\n"
                     "tee -o utilization.txt stat\n"),
    }


EXTRA: dict[str, Callable[[HardwareConfig, list[str]], dict[str, str]]] = {
    "verilog": lambda _config, _files: {}, "vivado": _vivado, "ecp5": _ecp5,
}


def generate(config: HardwareConfig, out: Path, target: str = "verilog") -> dict[str, object]:
    """Write everything under ``out`` (replaced whole when finished) and return the manifest.

    target: verilog, vivado (adds an .xdc and a Tcl script) or ecp5 (adds an .lpf and a Yosys
    script). Raises LutripError when ``out`` holds something that generate did not write.
    """
    if out.exists() and not (out / "manifest.json").is_file() and any(out.iterdir()):
        raise LutripError(f"{out}: exists and is not an earlier output of generate; "
                          "name another folder")
    texts = modules(config)
    files = [f"{name}.v" for name in texts]
    manifest: dict[str, object] = {
        "top": TOP,
        "hardware": dataclasses.asdict(config),
        "configuration_hash": config.digest(),
        "target": target,
        "files": [f"verilog/{file}" for file in files],
    }
    extra = EXTRA[target](config, files)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        (scratch / "verilog").mkdir()
        for name, text in texts.items():
            (scratch / "verilog" / f"{name}.v").write_text(text)
        (scratch / "waivers.vlt").write_text(WAIVERS)
        (scratch / "registers.md").write_text(register_map_markdown(config))
        registers = [dataclasses.asdict(register) for register in register_map(config)]
        (scratch / "registers.json").write_text(json.dumps(registers, indent=2) + "\n")
        for name, text in extra.items():
            (scratch / name).write_text(text)
        (scratch / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        scratch.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        scratch.replace(out)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return manifest
