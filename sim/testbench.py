"""Generates the testbench around the accelerator: memory, checkers, event log, register master.

Everything that runs every cycle is Verilog, so that a simulation needs Python only to start and to
end it. The testbench adapts to the ports that the top level has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hw.config import HardwareConfig, bits_for
from hw.errors import ToolError
from hw.register_map import Register

TOP = "lutrip_top"
CHECKED_TAPS = ("load", "search", "quantize", "drain", "activate", "store")
"""Taps whose beats are compared; ``store`` is the write port of the external memory."""
VERILOG_FILES = ("axi_memory.v", "tap_checker.v")
WRITTEN = ("host_request", "host_write", "host_address", "host_wdata", "running", "report")
READ = ("rst", "host_rdata", "host_done", "finished", "expired", "memory_fault", "reported")
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
    parts = [("axi_memory", "memory", {"clk": "clk", "rst": "rst"}
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
        pairs = {"clk": "clk", "cycle": "cycle", "valid": f"{valid} & active",
                 "address": address, "data": data, "mask": mask}
        lines.append(f"    tap_checker #(.DATA_BITS({bits}), .MASK_BITS({bits // 4}), "
                     f'.FILE("expected_{tap}.bin")) check_{tap} (\n{_connections(pairs)}\n    );')
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
    traced = [f"trace_{name}" for name in ("busy", "waiting", "completed")]
    busy, waiting, completed = (name if name in ports else "7'd0" for name in traced)
    tied = [f"        {name} = 0;" for name, port in lite.items() if not port.output]
    return TEMPLATE.format(
        top=TOP, declarations="\n".join(lines), tied="\n".join(tied),
        connections=_connections({name: name for name in ports}),
        memory="\n".join(_memory(config, ports, depth)), checkers="\n".join(checkers),
        reports="\n".join(reports), busy=busy, waiting=waiting, completed=completed,
        control=offsets["control"], program=offsets["program"], cycles=offsets["cycles"],
        watchdog=offsets["watchdog_limit"],
        faults=" | ".join(["memory.fault", *(f"read_{name}.fault" for name in read_ports(ports))]),
    )


STROBES = """\
    wire written;
    wire [31:0] written_word;
    wire [{mask_bits}-1:0] written_mask;
    genvar number_of_byte;
    generate for (number_of_byte = 0; number_of_byte < {port_bytes};
                  number_of_byte = number_of_byte + 1) begin : strobes
        assign written_mask[2*number_of_byte +: 2] = {{2{{m_axi_write_wstrb[number_of_byte]}}}};
    end endgenerate"""

TEMPLATE = """\
// Generated: testbench of {top}. The host (Python, or the block at the end with +bare) sets host_*.
module tb;
    reg clk, rst;
    reg host_request, host_write, host_active, host_done;
    reg [11:0] host_address;
    reg [31:0] host_wdata, host_rdata;
    reg running, active, finished, expired, report, reported;
    reg [47:0] cycle, max_cycles;
    wire memory_fault;
{declarations}

    {top} dut (
{connections}
    );
{memory}
    assign memory_fault = {faults};
{checkers}

    always #5 clk = ~clk;

    // One AXI4-Lite access for each rise of host_request.
    always @(posedge clk) begin
        if (rst) begin
            s_axil_awvalid <= 0;
            s_axil_wvalid <= 0;
            s_axil_bready <= 0;
            s_axil_arvalid <= 0;
            s_axil_rready <= 0;
            host_active <= 0;
            host_done <= 0;
        end else begin
            if (s_axil_awready) s_axil_awvalid <= 0;
            if (s_axil_wready) s_axil_wvalid <= 0;
            if (s_axil_arready) s_axil_arvalid <= 0;
            if (~host_request) host_done <= 0;
            if (host_request & ~host_active & ~host_done) begin
                host_active <= 1;
                s_axil_awaddr <= host_address;
                s_axil_araddr <= host_address;
                s_axil_wdata <= host_wdata;
                s_axil_wstrb <= 4'hf;
                s_axil_awvalid <= host_write;
                s_axil_wvalid <= host_write;
                s_axil_bready <= host_write;
                s_axil_arvalid <= ~host_write;
                s_axil_rready <= ~host_write;
            end
            if ((s_axil_bvalid & s_axil_bready) | (s_axil_rvalid & s_axil_rready)) begin
                s_axil_bready <= 0;
                s_axil_rready <= 0;
                host_rdata <= s_axil_rdata;
                host_active <= 0;
                host_done <= 1;
            end
        end
    end

    // Cycles count from the host's start; one line for every change of the engines.
    integer events;
    reg [13:0] last_state;
    always @(posedge clk) active <= running;
    always @(posedge clk) if (active) begin
        cycle <= cycle + 48'd1;
        if (irq & ~finished) finished <= 1;
        else if (cycle == max_cycles) begin
            expired <= 1;
            finished <= 1;
        end
        if ({{{busy}, {waiting}}} != last_state || {completed} != 0) begin
            last_state <= {{{busy}, {waiting}}};
            if (~finished)
                $fwrite(events, "%0d %h %h %h\\n", cycle, {busy}, {waiting}, {completed});
        end
    end

    integer file, number, first_word, count_words, got;
    always @(posedge report) begin
        $fclose(events);
        file = $fopen("checks.txt", "w");
{reports}
        $fclose(file);
        first_word = 0;
        count_words = 0;
        got = $value$plusargs("output_word=%d", first_word);
        got = $value$plusargs("output_words=%d", count_words);
        file = $fopen("output.txt", "w");
        for (number = 0; number < count_words; number = number + 1)
            $fwrite(file, "%h\\n", memory.words[first_word + number]);
        $fclose(file);
        reported = 1;
    end

    task access(input write, input [11:0] address, input [31:0] data);
        begin
            host_write = write;
            host_address = address;
            host_wdata = data;
            host_request = 1;
            @(posedge host_done) host_request = 0;
            @(negedge host_done);
        end
    endtask

    reg [63:0] program_address;
    reg [31:0] watchdog_limit;
    integer parsed;
    initial begin
        clk = 0;
        rst = 1;
        host_request = 0;
        host_write = 0;
        host_address = 0;
        host_wdata = 0;
        host_rdata = 0;
{tied}
        running = 0;
        active = 0;
        finished = 0;
        expired = 0;
        report = 0;
        reported = 0;
        cycle = 0;
        last_state = 0;
        program_address = 0;
        watchdog_limit = 0;
        max_cycles = {{48{{1'b1}}}};
        parsed = $value$plusargs("max_cycles=%d", max_cycles);
        parsed = $value$plusargs("program=%d", program_address);
        parsed = $value$plusargs("watchdog=%d", watchdog_limit);
        events = $fopen("events.txt", "w");
`ifdef __ICARUS__
        if ($test$plusargs("waves")) begin
            $dumpfile("waves.fst");
            $dumpvars(0, tb);
        end
`endif
        repeat (8) @(posedge clk);
        rst <= 0;
        if ($test$plusargs("bare")) begin
            access(1, {program}, program_address[31:0]);
            access(1, {program} + 4, program_address[63:32]);
            access(1, {watchdog}, watchdog_limit);
            running = 1;
            access(1, {control}, 1);
            if (~finished) @(posedge finished);
            access(0, {cycles}, 0);
            $display("cycles %0d", host_rdata);
            report = 1;
            repeat (2) @(posedge clk);
            $finish;
        end
    end
endmodule
"""
