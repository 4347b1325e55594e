"""Synthesis of a circuit module by module, with results kept by the hash of a module's Verilog.

The flows of `hw.synthesis` keep the hierarchy, so that a module takes the same cells wherever it
stands and a circuit takes the sum of its modules. Two sizes of a circuit share many modules.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from pathlib import Path

from hw.synthesis import COMMANDS, synthesize
from hw.verilog import MODULE

NAME = re.compile(r"^module (\\\S+|\w+)")
INSTANCE = re.compile(r"^  (\\\S+|\w+) +(?:\\\S+|\w+) +\($", re.MULTILINE)
COUNTED = re.compile(r"(?<=dump_module)\$\d+")
"""A number that depends on the modules before."""
PORT = re.compile(r"^  (?:input|output) .*;$", re.MULTILINE)


def text_hash(*texts: str) -> str:
    """Short hash of texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def split(verilog: str) -> dict[str, str]:
    """Text of each module by name, without the backslash of names that Verilog escapes."""
    found = {}
    for match in MODULE.finditer(verilog):
        name = NAME.match(match.group(0))
        assert name is not None
        found[name.group(1).removeprefix("\\")] = match.group(0)
    return found


class Circuit:
    """Modules of a Verilog text.

    texts: by name. below: the modules that each one instantiates.
    """

    def __init__(self, verilog: str, top: str) -> None:
        self.top = top
        self.texts = split(verilog)
        self.below = {
            name: sorted({child.removeprefix("\\") for child in INSTANCE.findall(text)}
                         & set(self.texts))
            for name, text in self.texts.items()
        }

    def under(self, name: str) -> set[str]:
        """A module and all modules below it."""
        return {name}.union(*(self.under(child) for child in self.below[name]))

    def key(self, name: str) -> str:
        """Hash of all that a module's cells depend on: its text and its instances' ports."""
        ports = [port for child in self.below[name] for port in PORT.findall(self.texts[child])]
        return text_hash(COUNTED.sub("", self.texts[name]), *ports)


class ModuleSynthesis:
    """Cells of modules; what is not in ``folder`` yet is synthesized.

    folder: a file for each module and flow; it can be deleted at any time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def known(self, circuit: Circuit, family: str) -> dict[str, dict[str, int]]:
        """Cells that modules hold themselves, the modules below among them, as far as kept."""
        files = {name: self._file(circuit, name, family) for name in circuit.texts}
        return {name: json.loads(file.read_text()) for name, file in files.items()
                if file.is_file()}

    def synthesize(self, circuit: Circuit, name: str, family: str) -> None:
        """Synthesize a module and what is below it, as far as that is not kept.

        Raises ToolError when Yosys is missing or fails.
        """
        known = set(self.known(circuit, family))
        missing = {one for one in circuit.under(name) if not circuit.under(one) <= known}
        if not missing:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "circuit.v"
            wanted = {one: text for one, text in circuit.texts.items()
                      if one in missing or any(one in circuit.below[parent] for parent in missing)}
            source.write_text("\n".join(wanted.values()))
            done = synthesize([source], name, family, Path(scratch) / "out",
                              set(wanted) - missing)
        for one in missing:
            file = self._file(circuit, one, family)
            unfinished = file.with_suffix(".part")
            unfinished.write_text(json.dumps(done.modules[one]))
            unfinished.replace(file)

    def _file(self, circuit: Circuit, name: str, family: str) -> Path:
        return self.folder / f"{family}-{text_hash(COMMANDS[family], circuit.key(name))}"
