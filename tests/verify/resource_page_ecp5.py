"""docs/resources-ecp5.md: the formulas for ECP5 beside what synthesis takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hw.resources import FILL, estimate, load_device, total
from tests.verify.resource_fit import FEW, TOLERANCE, Coefficients, Comparison
from tests.verify.resource_page import (
    SIZES_FILE,
    changed_text,
    comparison_rows,
    formulas,
    held_out,
    sets_text,
    shipped_for,
    table,
)

UNITS = {"bram36": 2, "dsp": 1}
"""EBR of 18 Kb, MULT18X18D."""
NOTES = """\
# Resources of ECP5

The same formulas as for AMD's families ([Resources](resources.md)) with coefficients of their own,
fitted to `synth_ecp5`: `Device.family` says which apply. All figures are **modelled** (formulas) or
**synthesized** (Yosys); none was placed or routed.

## What is counted

- **LUT4**: functions of four inputs as Yosys counts them, two for each carry cell (CCU2C, half a
  slice), six for each memory of 16 x 4 bits (TRELLIS_DPR16X4: two slices hold the bits, a third
  one writes them). Wider functions are LUT4s and the slice's PFUMX and L6MUX21, which cost nothing
  of their own.
- **EBR**: block memories of 18 Kb, as DP16KD (1, 2, 4, 9 or 18 bits wide) or PDPW16KD (36);
  `bram36` in reports counts two of them as one.
- **MULT18X18D**: multipliers of 18 x 18 bits. Yosys gives every product of 2 x 2 bits or more to
  them, 27 x 18 bits to two, with an adder in carry cells. ALU54B is not used.

Rules for memories (`hw/resource_blocks.py`): the least cost of Yosys' `memory_libmap`. As Yosys
describes an EBR, it does not define what a read of a word gives that is written in the same cycle,
and our memories read the old word: Yosys keeps the write for a cycle and passes it on, which takes
two flip-flops and a LUT4 for each bit, the address and the enables in flip-flops, and a comparison
of the addresses.

LUT4 of a multiplexer differ from place to place: Yosys' mapper weighs depth against area (a 4:1
multiplexer alone takes 4 LUT4 a bit, an 8:1 one 6, a 16:1 one {copy:.0f} in `copy lanes` below).
The rule counts one for each input but the first; the rest is in the coefficients.

"""


def configurations() -> str:
    """Totals of the shipped configurations and resources by component."""
    shipped, rows = shipped_for("ecp5"), []
    for name, config in shipped.items():
        device, used = load_device(config.device), total(config)
        counts, share = used.rounded(), device.shares(used)
        rows.append([name, *(
            f"{counts[resource] * unit:,.0f} ({share[resource]:.0%})"
            for resource, unit in {"lut": 1, "ff": 1, **UNITS}.items()),
            device.verdict(used).replace(device.title, config.device)])
    text = table(["configuration", "LUT4", "FF", "EBR", "MULT18X18D", "verdict"], rows)
    for name, config in shipped.items():
        parts = estimate(config)
        text += f"\nBy component, `{name}`:\n\n" + table(
            ["component", "LUT4", "FF", "EBR", "MULT18X18D"],
            [[component, f"{part.lut:,.0f}", f"{part.ff:,.0f}", f"{part.bram36 * 2:g}",
              f"{part.dsp:g}"] for component, part in parts.items()])
    return text


def page(
    found: Sequence[Comparison], values: Mapping[str, Any], coefficients: Coefficients
) -> str:
    """The whole page."""
    copy = coefficients["copy lanes"]["lut"]["column entry bit, rows of 16"]
    return f"""\
{NOTES.format(copy=copy)}## Proof

Bar: LUT4 and FF within {TOLERANCE:.0%} (or {FEW["lut"]} LUT4, {FEW["ff"]} FF in a component that
has few), EBR and MULT18X18D exact, on circuits that no coefficient was fitted to.
{values["tool"]}, `{values["yosys_command"]}`.
Sizes ({SIZES_FILE}) are {sets_text(values)}.
Sizes at which a formula has the same inputs are listed once. The counts of multipliers and the
terms that only ECP5 has (`ecp5` in `hw/resource_formulas.py`) were found by reading the circuits of
the fit set; a term of `vector memory` and what blocks of `index buffers` share were corrected, by
reading the circuit, after errors at held-out sizes (`ecp5-85`, `card`) had shown that they lacked
the writers' addresses and the common write. `card` joined these sizes with `hadamard` on, as
Yosys' ABC9 aborts on the arbiter of six writers that it has without.

{held_out(found)}
{changed_text(values)}`{values["command"]}` makes this page, the data
([measured/synthesis-ecp5.json](measured/synthesis-ecp5.json)) and the coefficients;
{values["estimates_per_s"]:,.0f} estimates a second of one core's time.

## Configurations

Modelled; shares of the device in brackets. Headroom ({FILL["lut"]:.0%} of LUTs, and so on) is AMD's
recommendation, used here as well.

{configurations()}
## Formulas

Terms are sizes of the configuration (`TERMS` in `hw/resource_formulas.py`); an instance takes the
sum.

{formulas(coefficients, "lut", "LUT4")}
## Formula against synthesis

For one instance: what Yosys' cells come to, and the formula's error. Counted: EBR / MULT18X18D.

{table(["component", "size", "set", "LUT4", "error", "FF", "error", "counted", "met"],
       comparison_rows(found, UNITS))}"""
