"""Power of the published LUT-LLM design, by cause, beside the vendor report in its repository.

Two estimates, neither of them fitted to the total. Both use the energy table, whose unit values
come from rows of this same report (so they test counts and activity, not unit energies), and the
resources that it lists.

- By default activity: every bit changes as often as Vivado assumes when nothing is known (12.5 %,
  AMD UG835). The report is of that kind, without a simulation behind it.
- By events: a token of decoding, each unit busy as long as `lutllm_design` says. This is what the
  arithmetic of a real decode costs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from compiler.model import Architecture
from reports.reproduction.lutllm_design import Design, layer_bytes, layer_cycles, rounds
from reports.reproduction.lutllm_latency import model_of
from sim.energy_range import effects, likely
from sim.energy_table import Bounds, EnergyTable, load_energy

DEFAULT_TOGGLE = 0.125
"""Changes of a bit in a cycle (AMD UG835, set_switching_activity)."""
DEFAULT_ENABLE = 0.25
"""Part of the cycles in which a memory port or multiplier is used where nothing is known."""
LUTRAM_LUTS = 4.6
"""Energy of a change in a look-up table used as memory, over that of logic (0.97 / 0.211 pJ)."""
SHIFT_LUTS = 1.3
"""The same for a shift register (0.272 / 0.211 pJ)."""
BRAM18_PART = 0.5
CAUSES = ("static", "clock", "logic", "block RAM", "UltraRAM", "DSP", "memory and its network",
          "processor")

Watts = dict[str, Bounds]


def published_watts(data: Mapping[str, Any]) -> dict[str, float]:
    """Watts of the report by our causes: its memory network belongs to the memory."""
    watts = data["power"]["watts"]
    return {"static": watts["static"], "clock": watts["clock"], "logic": watts["logic"],
            "block RAM": watts["block RAM"], "UltraRAM": watts["UltraRAM"], "DSP": watts["DSP"],
            "memory and its network": watts["HBM"] + watts["network on chip"],
            "processor": watts["processor"]}


def _fixed(data: Mapping[str, Any], table: EnergyTable, bytes_per_second: float) -> Watts:
    resources, hertz = data["power"]["resources"], data["power"]["clock_mhz"] * 1e6
    loads = table["clock_loads_per_ff"] * table["clock_enable"] * resources["ff"]
    return {
        "static": table["static"], "clock": table["clock_load_cycle"] * loads * hertz,
        "memory and its network":
            table["memory_background"] + table["offchip_bit"] * (8 * bytes_per_second),
        "processor": table["processor"],
    }


def default_activity(data: Mapping[str, Any], table: EnergyTable) -> Watts:
    """Watts when every resource is as active as tools assume, memory ports at full rate."""
    resources, hertz = data["power"]["resources"], data["power"]["clock_mhz"] * 1e6
    used = hertz * DEFAULT_ENABLE
    design = Design()
    luts = (resources["lut"] + SHIFT_LUTS * resources["shift_register"]
            + LUTRAM_LUTS * resources["lutram"])
    blocks = resources["bram36"] + BRAM18_PART * resources["bram18"]
    bits = 72 * DEFAULT_TOGGLE
    ultra = (table["uram_read"] + table["uram_write"]
             + (table["uram_read_bit"] + table["uram_write_bit"]) * bits)
    return {
        **_fixed(data, table, resources["read_ports"] * design.port_bytes * hertz),
        "logic": (table["lut_toggle"] * luts + table["ff_toggle"] * resources["ff"])
        * (DEFAULT_TOGGLE * hertz),
        "block RAM": (table["bram_read_36"] + table["bram_write_36"]) * (blocks * used),
        "UltraRAM": ultra * (resources["uram"] * used),
        "DSP": table["dsp_multiply"] * (resources["dsp"] * used),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What a decode pass of a layer does, in the design's own units."""

    seconds: float
    bytes: float
    lookup_luts: float
    lookup_ffs: float
    additions: float
    table_reads: float
    index_bits: float
    loaded_bits: float
    accumulator_words: float


def decode_work(design: Design, model: Architecture, keys: int) -> Work:
    """Counted from the geometry.

    A lookup step extracts 16 rows, copies each to ``lanes`` 16:1 multiplexers of ``entry_bits``
    (5 look-up tables a bit, AMD AM005) and adds along the cascade; half of the cascade's adders
    are multiplier slices. A search step is two subtractions for each distance unit.
    """
    items = rounds(design, model)
    steps = sum(item.groups * item.blocks for item in items)
    searches = sum(item.groups for item in items)
    cells = design.positions * design.lanes
    sum_bits = design.entry_bits + 4
    units = design.positions * design.act_codes
    attention = 2 * 2 * model.heads * model.head_width * keys
    return Work(
        seconds=sum(layer_cycles(design, model, 1, keys).values()) / (design.clock_mhz * 1e6),
        bytes=sum(layer_bytes(design, model, keys).values()),
        lookup_luts=steps * cells * (5 * design.entry_bits + sum_bits / 2),
        lookup_ffs=steps * cells * (design.entry_bits + sum_bits),
        additions=steps * (cells / 4 / 2 + design.lanes / 2)
        + searches * units * design.vector_length + attention,
        table_reads=steps * design.positions * design.weight_codes * design.entry_bits,
        index_bits=steps * cells * (design.weight_codes.bit_length() - 1),
        loaded_bits=8 * sum(layer_bytes(design, model, keys).values()),
        accumulator_words=steps * design.lanes / 2,
    )


def by_events(data: Mapping[str, Any], table: EnergyTable) -> Watts:
    """Watts of decoding by the report's build: int8 entries at its clock."""
    design = Design(entry_bits=8, clock_mhz=data["power"]["clock_mhz"])
    work = decode_work(design, model_of(data), data["decode_keys"])
    rate = 1 / work.seconds
    changes = table["data_toggle"]
    ultra = (table["uram_read"] + table["uram_write"]
             + (table["uram_read_bit"] + table["uram_write_bit"]) * changes * 72)
    memories = work.table_reads + work.index_bits
    return {
        **_fixed(data, table, work.bytes * rate),
        "logic": (table["lut_toggle"] * work.lookup_luts + table["ff_toggle"] * work.lookup_ffs)
        * changes * rate,
        "block RAM": (table["bram_read_36"] * (memories / 36)
                      + table["bram_write_36"] * (work.loaded_bits / 36)) * rate,
        "UltraRAM": ultra * (work.accumulator_words * rate),
        "DSP": table["dsp_multiply"] * (work.additions * rate),
    }


def lookups_share(data: Mapping[str, Any]) -> float:
    """Part of a decode pass' cycles in which the report's build looks up."""
    design, model = Design(entry_bits=8), model_of(data)
    steps = sum(item.groups * item.blocks for item in rounds(design, model))
    return steps / sum(layer_cycles(design, model, 1, data["decode_keys"]).values())


def total(watts: Mapping[str, Bounds]) -> Bounds:
    """All causes, bounds added linearly."""
    return sum(watts.values(), Bounds(0, 0, 0))


def likely_total(
    estimate: Any, data: Mapping[str, Any], table: EnergyTable
) -> tuple[Bounds, dict[str, float]]:
    """The likely range of an estimate's total, and the table values that widen it most (watts)."""

    def evaluate(changed: EnergyTable) -> float:
        return total(estimate(data, changed)).value

    widest = {key: max(up, -down) for key, (down, up) in effects(evaluate, table).items()}
    return likely(evaluate, table), dict(sorted(widest.items(), key=lambda item: -item[1])[:4])


def device_table() -> EnergyTable:
    """The table of the published design's device."""
    return load_energy("fpga-7nm", "v80")
