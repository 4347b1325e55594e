"""Generates the testbench around the accelerator: memory, checkers, event log, register master.

Everything that runs every cycle is Verilog, so that a simulation needs Python only to start and to
end each program. The testbench adapts to the ports that the top level has.

Programs run one after the other on one memory. ``prepare`` starts run ``run_number``: it resets
cycles, checkers and event log, and writes patch_RUN.bin into the memory if there is such a file.
``report`` writes checks_RUN.txt and output_RUN.txt. progress.txt tells run and cycle meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hw.config import HardwareConfig, bits_for
from hw.errors import ToolError
from hw.isa import Engine
from hw.register_map import Register
from sim.testbench_text import STROBES, TEMPLATE

TOP = "lutrip_top"
CHECKED_TAPS = ("load", "gather", "search", "quantize", "drain", "activate", "norm", "rope",
                "hadamard", "softmax", "order", "store")
"""Taps whose beats are compared; ``store`` is the write port of the external memory."""
ACTIVITY = ("linear_cycles", "linear_beside_others_cycles", "weight_cycles",
            "weight_beside_linear_cycles")
"""Cycles counted by the testbench: the linear engine is busy, and another engine too; a weight port
moves a word, and the linear engine is busy meanwhile."""
PROGRESS_BITS = 14
"""The testbench tells its progress every so many cycles, as a power of two."""
VERILOG_FILES = ("axi_memory.v", "tap_checker.v")
WRITTEN = ("host_request", "host_write", "host_address", "host_wdata", "running", "report",
           "prepare", "run_number", "output_word", "output_words")
READ = ("rst", "host_rdata", "host_done", "finished", "expired", "memory_fault", "reported",
        "prepared")
"""Signals of the testbench that the cocotb bench writes and reads."""

_PORT = re.compile(
    r"^\s*(input|output)\s+(?:wire\s+|reg\s+)?(?:signed\s+)?(?:\[(\d+):0\]\s*)?(\w+)", re.MULTILINE
)


@dataclass(frozen=True)
class Port:
    """A port of the top level and its width."""

    output: bool
    width: int


def top_ports(sources: Sequence[Path], top: str = TOP) -> dict[str, Port]:
    """Ports of module ``top``; raises ToolError when no source has it."""
    for source in sources:
        found = re.search(rf"^\s*module {top}\b(.*?)^\s*endmodule", source.read_text(),
                          re.MULTILINE | re.DOTALL)
        if found:
            return {
                name: Port(direction == "output", int(high or 0) + 1)
                for direction, high, name in _PORT.findall(found[1])
            }
    raise ToolError(f"no module {top} in {', '.join(source.name for source in sources)}: "
                    "give simulate() all files of the generated circuit")


def read_ports(ports: Mapping[str, Port]) -> list[str]:
    """Names of the AXI4 read masters among the ports."""
    found = (re.fullmatch(r"m_axi_(\w+)_araddr", name) for name in ports)
    return [match[1] for match in found if match]


def library_sources() -> list[Path]:
    """Verilog files that the testbench needs."""
    folder = Path(str(resources.files("sim"))) / "verilog"
    return [folder / name for name in VERILOG_FILES]


def control_file() -> str:
    """Verilator control file: only what Python touches is kept from being optimized away."""
    lines = [f'public_flat_rw -module "tb" -var "{name}"' for name in WRITTEN]
    lines += [f'public_flat_rd -module "tb" -var "{name}"' for name in READ]
    return "`verilator_config\n" + "\n".join(lines) + "\n"


def _declare(kind: str, width: int, name: str) -> str:
    return f"    {kind} {f'[{width - 1}:0] ' if width > 1 else ''}{name};"


def _connections(pairs: Mapping[str, str]) -> str:
    return ",\n".join(f"        .{port}({signal})" for port, signal in pairs.items())


def _memory_port(ports: Mapping[str, Port], prefix: str, names: Sequence[str]) -> dict[str, str]:
    return {name: f"{prefix}{name}" for name in names if f"{prefix}{name}" in ports}


def _memory(config: HardwareConfig, ports: Mapping[str, Port], depth: int) -> list[str]:
    sizes = {
        "WORD_BITS": config.port_bits, "WORD_SHIFT": bits_for(config.port_bytes),
    }
    write = ("awaddr", "awlen", "awsize", "awburst", "awid", "awvalid", "awready", "wdata",
             "wstrb", "wlast", "wvalid", "wready", "bresp", "bid", "bvalid", "bready")
    read = ("araddr", "arlen", "arsize", "arburst", "arid", "arvalid", "arready", "rdata",
            "rresp", "rlast", "rid", "rvalid", "rready")
    prefix = "m_axi_write_"
    lines = [STROBES.format(mask_bits=config.port_bits // 4, port_bytes=config.port_bytes)]
    parts = [("axi_memory", "memory",
              {"clk": "clk", "rst": "rst", "prepare": "load", "run": "run_number"}
              | _memory_port(ports, prefix, write)
              | {"written": "written", "written_word": "written_word"},
              {"DEPTH": depth} | _id_bits(ports, prefix + "awid"))]
    for name in read_ports(ports):
        pairs = {"clk": "clk", "rst": "rst"} | _memory_port(ports, f"m_axi_{name}_", read)
        parts.append(("axi_read_port", f"read_{name}", pairs,
                      _id_bits(ports, f"m_axi_{name}_arid")))
    for module, name, pairs, own in parts:
        parameters = ", ".join(f".{key}({value})" for key, value in {**sizes, **own}.items())
        lines.append(f"    {module} #({parameters}) {name} (\n{_connections(pairs)}\n    );")
    return lines


def _id_bits(ports: Mapping[str, Port], name: str) -> dict[str, int]:
    return {"ID_BITS": ports[name].width} if name in ports else {}


def _checkers(config: HardwareConfig, ports: Mapping[str, Port]) -> tuple[list[str], list[str]]:
    """Checker instances and the statements that report them."""
    lines, reports = [], []
    for tap in CHECKED_TAPS:
        if tap == "store":
            bits, valid, address = config.port_bits, "written", "written_word"
            data, mask = "m_axi_write_wdata", "written_mask"
        else:
            if f"trace_{tap}_valid" not in ports:
                continue
            bits, valid = ports[f"trace_{tap}_data"].width, f"trace_{tap}_valid"
            address = f"{{{32 - ports[f'trace_{tap}_address'].width}'d0, trace_{tap}_address}}"
            data, mask = f"trace_{tap}_data", f"{{{bits // 4}{{1'b1}}}}"
            if f"trace_{tap}_nibbles" in ports:
                mask = f"trace_{tap}_nibbles"
        pairs = {"clk": "clk", "prepare": "load", "run": "run_number", "cycle": "cycle",
                 "valid": f"{valid} & active",
                 "address": address, "data": data, "mask": mask}
        lines.append(f"    tap_checker #(.DATA_BITS({bits}), .MASK_BITS({bits // 4}), "
                     f'.TAP("{tap}")) check_{tap} (\n{_connections(pairs)}\n    );')
        fields = ("beats", "mismatches", "first_beat", "first_cycle", "extra", "got_address",
                  "expected_address", "got_data", "expected_data", "got_mask", "expected_mask")
        values = ",\n            ".join(f"check_{tap}.{field}" for field in fields)
        reports.append(f'        $fwrite(file, "{tap}{" %h" * len(fields)}\\n",\n'
                       f"            {values});")
    return lines, reports


def testbench(
    config: HardwareConfig, ports: Mapping[str, Port], registers: Sequence[Register], depth: int
) -> str:
    """Verilog of module ``tb`` around the top level.

    ports: those of the top level; depth: words of the external memory.
    """
    offsets = {register.name: register.offset for register in registers}
    lite = {name: port for name, port in ports.items() if name.startswith("s_axil_")}
    lines = []
    for name, port in ports.items():
        if name == "irq" or name.startswith(("m_axi_", "trace_")) or (name in lite and port.output):
            lines.append(_declare("wire", port.width, name))
        elif name in lite:
            lines.append(_declare("reg", port.width, name))
        elif name not in ("clk", "rst"):
            raise ToolError(f"the testbench does not know port {name} of {TOP}")
    checkers, reports = _checkers(config, ports)
    engines = ports["trace_busy"].width if "trace_busy" in ports else len(Engine)
    traced = [f"trace_{name}" for name in ("busy", "waiting", "completed")]
    busy, waiting, completed = (name if name in ports else f"{engines}'d0" for name in traced)
    moves = [f"m_axi_{name}_rvalid & m_axi_{name}_rready" for name in read_ports(ports)
             if re.fullmatch(r"w\d+", name)]
    tied = [f"        {name} = 0;" for name, port in lite.items() if not port.output]
    return TEMPLATE.format(
        top=TOP, declarations="\n".join(lines), tied="\n".join(tied),
        connections=_connections({name: name for name in ports}),
        memory="\n".join(_memory(config, ports, depth)), checkers="\n".join(checkers),
        reports="\n".join(reports), engines=engines, state=2 * engines - 1,
        linear=1 << Engine.LINEAR, moves=" | ".join(f"({move})" for move in moves) or "1'b0",
        counts=", ".join(ACTIVITY), progress=PROGRESS_BITS,
        activity_format=" %0d" * len(ACTIVITY), busy=busy, waiting=waiting, completed=completed,
        control=offsets["control"], program=offsets["program"], cycles=offsets["cycles"],
        watchdog=offsets["watchdog_limit"],
        faults=" | ".join(["memory.fault", *(f"read_{name}.fault" for name in read_ports(ports))]),
    )
