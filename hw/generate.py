"""Write the accelerator as Verilog, with its register map, constraints and manifest."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import tempfile
from pathlib import Path

from hw.config import HardwareConfig
from hw.errors import LutripError
from hw.register_map import register_map, register_map_markdown
from hw.top import Accelerator
from hw.verilog import Library, convert

TOP = "lutrip_top"
TARGETS = ("verilog", "vivado", "ecp5")
MODULE = re.compile(r"^module (\\\S+ |[A-Za-z_]\w*)", re.MULTILINE)

WAIVERS = """\
`verilator_config
// Waived for generated code, each with its reason:
// Amaranth names every intermediate value, used or not, and keeps unused bits of records.
lint_off -rule UNUSEDSIGNAL
// Unused outputs of a shared module are left open.
lint_off -rule PINCONNECTEMPTY
lint_off -rule PINMISSING
// Amaranth's always blocks assign with blocking statements to simulate combinational `if`.
lint_off -rule COMBDLY
lint_off -rule BLKSEQ
// Yosys writes its helper signal for initial values as a constant register.
lint_off -rule INITIALDLY
// Switch statements assign their default first instead of in a default branch.
lint_off -rule CASEINCOMPLETE
// Several record views of one bus are declared in one scope and hide nothing.
lint_off -rule VARHIDDEN
// Values that an instruction does not use are driven to constants or left undriven by Yosys.
lint_off -rule UNDRIVEN
"""


def modules(config: HardwareConfig) -> dict[str, str]:
    """Verilog text of every module by name; stable from run to run."""
    library = Library()
    text = convert(Accelerator(config), TOP, library)
    texts = [text, *library.modules.values()]
    escaped = {
        name.strip(): name.strip().removeprefix("\\").replace(".", "_").replace("$", "_")
        for text in texts for name in MODULE.findall(text) if name.startswith("\\")
    }
    result: dict[str, str] = {}
    for text in texts:
        for old, new in escaped.items():
            text = text.replace(f"{old} ", f"{new} ")
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
        "synth.ys": f"read_verilog {reads}\nsynth_ecp5 -top {TOP} -json {TOP}.json\nstat\n",
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
    extra = {"vivado": _vivado, "ecp5": _ecp5}.get(target, lambda *_: {})(config, files)
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
