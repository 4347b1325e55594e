"""Components of the accelerator at the sizes of resources.yaml, and what synthesis takes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.config import HardwareConfig
from hw.generate import TOP
from hw.module_synthesis import Circuit, ModuleSynthesis, text_hash
from hw.presets import load_hardware, load_yaml
from hw.resource_formulas import COMPONENTS
from hw.synthesis import cell_resources, hierarchy_cells

SIZES = Path(__file__).with_name("resources.yaml")
MEASURED = Path(__file__).resolve().parents[2] / "docs" / "measured"
DATA = {"xilinx": MEASURED / "synthesis.json", "ecp5": MEASURED / "synthesis-ecp5.json"}
"""Results of each flow."""
FIT, HELD_OUT = "fit", "held out"


@dataclass(frozen=True, kw_only=True)
class Size:
    """A configuration and the set that it belongs to: fit or held out."""

    name: str
    set: str
    config: HardwareConfig


def load_sizes(flow: str) -> dict[str, Size]:
    """Sizes of a flow by name; raises ConfigError."""
    found = {}
    for name, value in load_yaml(SIZES).items():
        changes = dict(value)
        kind, like = changes.pop("set"), changes.pop("like")
        if changes.pop("flow", flow) == flow:
            config = dataclasses.replace(load_hardware(like), **changes)
            found[name] = Size(name=name, set=kind, config=config)
    return found


@dataclass(frozen=True, kw_only=True)
class Record:
    """One instance of a component, synthesized.

    circuit: hash of its Verilog and of the modules below it. cells: by type.
    """

    component: str
    size: str
    circuit: str
    cells: Mapping[str, int]

    def used(self, family: str) -> dict[str, float]:
        """Resources by name."""
        return dataclasses.asdict(cell_resources(self.cells, family))


def modules_of(circuit: Circuit, component: str) -> tuple[str, set[str]] | None:
    """A component's module and all that belongs to it; None where the circuit has it not."""
    formula = COMPONENTS[component]
    paths = (formula.path, f"{TOP}.{formula.path}") if formula.path else (TOP,)
    name = next((path for path in paths if path in circuit.texts), None)
    if name is None:
        return None
    others: Collection[str] = formula.without if formula.path else circuit.below[TOP]
    found, waiting = set(), [name]
    while waiting:
        one = waiting.pop()
        if one not in found and one not in others:
            found.add(one)
            waiting.extend(circuit.below[one])
    return name, found


def circuit_hash(circuit: Circuit, modules: Collection[str]) -> str:
    """Hash of the Verilog of modules."""
    return text_hash(*(circuit.key(one) for one in sorted(modules)))


def records_of(circuit: Circuit, synthesis: ModuleSynthesis, family: str, size: str
               ) -> dict[str, Record]:
    """What is synthesized of a circuit, by component."""
    known = synthesis.known(circuit, family)
    found = {}
    for component in COMPONENTS:
        place = modules_of(circuit, component)
        if place is None or not place[1] <= set(known):
            continue
        name, modules = place
        boxes: dict[str, dict[str, int]] = {one: {} for one in circuit.texts}
        found[component] = Record(
            component=component, size=size,
            circuit=circuit_hash(circuit, modules),
            cells=hierarchy_cells(boxes | {one: known[one] for one in modules}, name),
        )
    return found


def record_values(record: Record, family: str) -> dict[str, Any]:
    """A record as data."""
    return {**dataclasses.asdict(record), "used": record.used(family)}


def load_records(flow: str) -> list[Record]:
    """Records of the last run of the command."""
    fields = [field.name for field in dataclasses.fields(Record)]
    return [Record(**{name: value[name] for name in fields})
            for value in json.loads(DATA[flow].read_text())["records"]]
