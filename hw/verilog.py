"""Verilog emission: repeated blocks become one module that is instantiated many times."""

from __future__ import annotations

import re
from typing import Any

from amaranth import ClockSignal, Elaboratable, Instance, Module, ResetSignal, Value
from amaranth.back import rtlil, verilog
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped


class Library:
    """The platform of a conversion: collects the RTLIL of shared modules by name."""

    def __init__(self) -> None:
        self.modules: dict[str, str] = {}
        self._circuits: dict[str, tuple[Any, ...]] = {}

    def add(self, name: str, component: Any) -> str:
        """RTLIL of ``component`` as module ``name``, converted on first use."""
        key = (type(component), getattr(component, "config", None), repr(component.signature))
        if name not in self.modules:
            self._circuits[name] = key
            self.modules[name] = ""
            self.modules[name] = _rtlil(component, name, self)
        assert self._circuits[name] == key, f"two different circuits are both called {name}"
        return self.modules[name]


class SharedModule(wiring.Component):
    """A component that a `Library` emits once; elsewhere (Amaranth simulator) a plain submodule."""

    def __init__(self, name: str, component: Any) -> None:
        self.name = name
        self.component = component
        super().__init__(component.signature)

    def elaborate(self, platform: object) -> Elaboratable:
        if not isinstance(platform, Library):
            m = Module()
            m.submodules[self.name] = self.component
            connect(m, flipped(self), self.component)
            return m
        text = platform.add(self.name, self.component)
        # Only the first component of a name is elaborated; Amaranth would call the others unused.
        self.component._MustUse__used = True
        ports: dict[str, Any] = {}
        for path, member, value in self.signature.flatten(self):
            direction = "i" if member.flow == In else "o"
            ports[f"{direction}_{'__'.join(str(part) for part in path)}"] = Value.cast(value)
        for port, signal in (("clk", ClockSignal()), ("rst", ResetSignal())):
            if CLOCKED[port].search(text):
                ports[f"i_{port}"] = signal
        return Instance(self.name, **ports)


def module(name: str, component: Any) -> Any:
    """Wrap a repeated block so that it becomes one Verilog module called ``name``.

    All components wrapped under one name must be the same circuit.
    """
    return SharedModule(name, component)


CLOCKED = {port: re.compile(rf"wire width 1 input \d+\s+\\{port}$", re.MULTILINE)
           for port in ("clk", "rst")}


def _rtlil(component: Any, name: str, library: Library) -> str:
    text: str = rtlil.convert(component, name=name, platform=library, emit_src=False)
    return ZEROS.sub("", text)


def convert(component: Any, name: str) -> str:
    """Verilog of a component and of everything below it, shared modules once."""
    library = Library()
    top = _rtlil(component, name, library)
    # One run of Yosys for all modules: its start costs more than a module.
    text: str = verilog._convert_rtlil_text(
        "\n".join([*library.modules.values(), top]), strip_internal_attrs=True
    )
    text = INDEXED.sub(lambda name: name.group(0).replace("[", ".").replace("]", ""), text)
    text = TRIGGER.sub(r"  reg \1;\n  initial \1 <= 0;", text)
    text = MODULE.sub(_join_parts, text)
    return MEMORY.sub(_loop, text)


TRIGGER = re.compile(r"^  reg (\\\$auto\$verilog_backend\S+ ) = 0;$", re.MULTILINE)
"""A register that Yosys reads in every ``always @*`` block, so that all of them run at time 0.

An initial value in the declaration is no event in SystemVerilog (Icarus -g2012); the assignment is.
"""
MODULE = re.compile(r"^module .*?^endmodule", re.MULTILINE | re.DOTALL)
WIRE = re.compile(r"^  (?:wire|reg) \[(\d+):0\] (\\\S+ |\w+)(?= *[;=])", re.MULTILINE)
PART = re.compile(
    r"^  assign (?P<name>\\\S+ |\w+) ?\[(?P<high>\d+)(?::(?P<low>\d+))?\] = "
    # Signals, constants and concatenations: those have the same width wherever they stand.
    r"(?P<value>(?:\\\S+ |\d+'h[0-9a-f]+|\w+|[][{},: ])+);\n", re.MULTILINE)
INDEXED = re.compile(r"\\\S*\[\S* ")
"""Amaranth calls field 0 of an array ``\\a[0]``; Yosys' abc9 calls bit 0 of a vector the same."""

MEMORY = re.compile(r"^  reg \[\d+:0\] (\S+ ?)\[(\d+):0\];$(?!\n  initial begin$)", re.MULTILINE)
"""A memory without content; the second initial block of one with content would race the first."""

ZEROS = re.compile(
    r"^  cell \$meminit_v2 .*\n(?:    parameter .*\n)+    connect \\ADDR .*\n"
    r"    connect \\DATA \d+'0+\n    connect \\EN .*\n  end\n", re.MULTILINE)
"""Amaranth writes the initial zeros of a memory bit by bit; large memories take Yosys minutes."""


def _join_parts(module: re.Match[str]) -> str:
    """One assignment instead of one for each part of a wire.

    Icarus keeps a strength for every bit of a wire that has more than one driver, which took it
    two thirds of its time.
    """
    text = module.group(0)
    widths = {name: int(high) + 1 for high, name in WIRE.findall(text)}
    parts: dict[str, list[re.Match[str]]] = {}
    for part in PART.finditer(text):
        parts.setdefault(part["name"], []).append(part)
    joined: dict[int, str] = {}
    for name, found in parts.items():
        found.sort(key=lambda part: int(part["high"]), reverse=True)
        above = widths.get(name)
        for part in found:
            above = int(part["low"] or part["high"]) if int(part["high"]) + 1 == above else None
        if above == 0:
            values = ", ".join(part["value"] for part in found)
            joined |= {part.start(): "" for part in found}
            joined[found[0].start()] = f"  assign {name} = {{ {values} }};\n"
    return PART.sub(lambda part: joined.get(part.start(), part.group(0)), text)


def _loop(match: re.Match[str]) -> str:
    """The initial zeros of a memory as a loop."""
    name, last = match.group(1), int(match.group(2))
    index = re.sub(r"\W", "_", name.strip().removeprefix("\\")) + "_word"
    return (
        f"{match.group(0)}\n  integer {index};\n  initial for ({index} = 0; {index} <= {last}; "
        f"{index} = {index} + 1) {name}[{index}] = 0;"
    )
