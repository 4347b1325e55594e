"""docs/resources.md: the formulas, what synthesis takes beside them, and whole configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hw.config import HardwareConfig
from hw.presets import load_hardware, names
from hw.resource_blocks import Resources
from hw.resource_formulas import COMPONENTS
from hw.resources import FILL, FLOWS, LUT_RANGE, estimate, load_device, total, whole
from tests.verify.resource_fit import COUNTED, FEW, TOLERANCE, Coefficients, Comparison
from tests.verify.resource_published import section

SIZES_FILE = "`tests/verify/resources.yaml`"
NOTES = """\
# Resources

`hw.resources.estimate(config)` gives look-up tables (LUT), flip-flops (FF), block RAM, UltraRAM
and DSP slices of each component, `total(config)` their sum, `Device.verdict(resources)` whether
they fit. Units are those of the device's family: this page is of AMD's, [Resources of
ECP5](resources-ecp5.md) of Lattice's. All figures here are **modelled** (formulas) or
**synthesized** (Yosys); none comes from a vendor's tool, except where a published report is named.

## How a figure is made

- Memories and multipliers follow rules (`hw/resource_blocks.py`): shapes of the vendors'
  primitives, and the choice among them by the cost that Yosys' `memory_libmap` has. Deep memories
  add a multiplexer of one LUT6 for each four blocks. UltraRAM (72 x 4096, UG573) takes memories of
  2048 words or more where the device has it; the synthesized flow has none, so that this rule is
  not checked by it.
- The rest is a sum of terms (`hw/resource_formulas.py`), each a size of the configuration times a
  coefficient. The terms follow the circuit (a lane, an element of a word, a bit that is compared,
  a port); the coefficients are fitted, none below 0.
- Modules keep their hierarchy in synthesis, so that the whole is the sum of its components.

Two counts of LUTs:
- **LUT cells**: functions as Yosys counts them, and the LUTs of memories.
- **LUT** (CLB LUTs, what a device table counts; `lut` in reports): the same after functions of
  one or two inputs, inverters among them, share the LUT6 of one with three, or of each other (a
  LUT6 has two outputs for five inputs together, AMD UG574).
  {ratio}
  AMD's tool shares more: in two public implementation reports of LUT-LLM 494,334 functions occupy
  317,635 LUTs (V80, 0.64 each) and 559,937 functions 388,908 (VP1802, 0.69). The true count lies
  between {low:g} and 1 LUT for each cell.

Corrections that depend on the device:
- *Wide multiplexers.* Yosys builds a 16:1 multiplexer from {copy:.1f} LUT6 a bit here (two
  levels, `copy lanes` below). Versal has no F7/F8 multiplexers: the best tree of 4:1 multiplexers
  takes 5 LUT6 (AM005). UltraScale+ takes 4 and the slice's F7 and F8 (UG574). A vendor's tool can
  so save up to a third of the copy lanes; the estimate does not count on it.
- *DSP.* A DSP48E2 multiplies 27 x 18 bits (UG579), a DSP58 27 x 24 (AM004). On Versal the
  dequantizer's 32 x 25 bits take 2 slices for 4, and the norm's squares of 19 bits one for two
  (by arithmetic on the widths: Yosys has no Versal flow); the estimate counts so for the V80.
- *Block RAM.* Versal's has no shapes narrower than 9 bits; the rule leaves them out there.

"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right of the first column."""
    return "\n".join(["| " + " | ".join(head) + " |",
                      "|---" + "|---:" * (len(head) - 1) + "|",
                      *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _percent(value: float) -> str:
    return f"{100 * value:+.1f} %"


def _formula(component: str, resource: str, coefficients: Coefficients) -> str:
    terms = [f"{factor:g}" if name == "unit" else f"{factor:g} x {name}"
             for name, factor in coefficients[component][resource].items() if factor]
    return " + ".join(terms) or "0"


def _rules(component: str) -> str:
    formula = COMPONENTS[component]
    found = [text for text, there in (
        ("memories", formula.memories is not COMPONENTS["load"].memories),
        ("multiplexers", formula.choices is not COMPONENTS["load"].choices),
        ("multipliers", formula.dsp is not COMPONENTS["load"].dsp)) if there]
    return ", ".join(found)


def formulas(coefficients: Coefficients, resource: str, title: str) -> str:
    """All formulas of LUTs, by the resource's name and title, and of flip-flops."""
    return table(
        ["component", title, "FF", "by rule"],
        [[name, _formula(name, resource, coefficients), _formula(name, "ff", coefficients),
          _rules(name)] for name in COMPONENTS])


def comparison_rows(
    found: Sequence[Comparison], units: Mapping[str, float]
) -> list[list[str]]:
    """Synthesis, and the formula's error, of each circuit; units: of what rules count."""
    rows = []
    for one in sorted(found, key=lambda one: list(COMPONENTS).index(one.record.component)):
        counted = " / ".join(f"{one.used[name] * unit:g}" for name, unit in units.items())
        rows.append([
            one.record.component, one.record.size, "held out" if one.new else "fit",
            *(text for name in one.fitted
              for text in (f"{one.used[name]:,.0f}", _percent(one.error(name)))),
            counted, ", ".join(one.missed) or "yes",
        ])
    return rows


def held_out(found: Sequence[Comparison]) -> str:
    """How far the bar is met."""
    new = [one for one in found if one.new]
    met = [one for one in new if not one.missed]
    components = {one.record.component for one in new}
    lines = [f"{len(met)} of {len(new)} held-out sizes ({len(components)} components) are within "
             "the bar; mean absolute errors "
             + ", ".join(f"{name} {sum(abs(one.error(name)) for one in new) / len(new):.1%}"
                         for name in new[0].fitted) + "."]
    lines += [f"- missed: {one.record.component} of `{one.record.size}`: " + ", ".join(
        f"{name} {one.modelled[name]:,.0f} modelled, {one.used[name]:,.0f} synthesized"
        for name in one.missed) for one in new if one.missed]
    return "\n".join(lines) + "\n"


def shipped_for(flow: str) -> dict[str, HardwareConfig]:
    """Shipped configurations whose devices are of a flow."""
    shipped = {name: load_hardware(name) for name in names("hardware")}
    return {name: config for name, config in shipped.items()
            if FLOWS[load_device(config.device).family] == flow}


def configurations() -> str:
    """Totals of the shipped configurations and LUTs by component."""
    shipped = shipped_for("xilinx")
    rows = []
    for name, config in shipped.items():
        device = load_device(config.device)
        used = total(config)
        counts, share = used.rounded(), device.shares(used)
        rows.append([name, f"{used.lut_cells:,.0f}", *(
            f"{whole(count)} ({share[resource]:.0%})" for resource, count in counts.items()),
            device.verdict(used).replace(device.title, config.device)])
    text = table(["configuration", "LUT cells", "LUT", "FF", "BRAM36", "URAM", "DSP", "verdict"],
                 rows)
    parts = {name: estimate(config) for name, config in shipped.items()}
    text += "\nLUT / FF by component:\n\n"
    return text + table(["component", *shipped], [
        [component, *(_pair(parts[name].get(component)) for name in shipped)]
        for component in COMPONENTS])


def _pair(part: Resources | None) -> str:
    return "–" if part is None else f"{part.lut:,.0f} / {part.ff:,.0f}"


def sets_text(values: Mapping[str, Any]) -> str:
    """Names of the sizes by set."""
    return "; ".join(
        f"{kind}: " + ", ".join(f"`{name}`" for name, one in values["sets"].items() if one == kind)
        for kind in dict.fromkeys(values["sets"].values()))


def changed_text(values: Mapping[str, Any]) -> str:
    """Which records are of circuits that have changed since."""
    if not values["changed_since"]:
        return ""
    parts = "; ".join(f"{component} ({', '.join(f'`{size}`' for size in sizes)})"
                      for component, sizes in values["changed_since"].items())
    return f"Not synthesized again since their Verilog, or that below, has changed: {parts}.\n\n"


def page(
    found: Sequence[Comparison], values: Mapping[str, Any], coefficients: Coefficients
) -> str:
    """The whole page."""
    whole = [one for one in found if one.used["lut_cells"]]
    cells, luts = (sum(one.used[name] for one in whole) for name in ("lut_cells", "lut"))
    copy = coefficients["copy lanes"]["lut_cells"]["column entry bit, rows of 16"]
    notes = NOTES.format(
        ratio=f"Over all synthesized components this leaves {luts / cells:.2f} of the cells.",
        low=LUT_RANGE[0], copy=copy)
    fills = ", ".join(f"{name} {share:.0%}" for name, share in FILL.items())
    return f"""\
{notes}## Whether it fits

`fits` compares each count with the device table (`configs/devices.yaml`); `verdict` names what
exceeds it and by how much. Within the device but above {fills} it says "without headroom": up to
these shares AMD expects a design to be placed and routed without trouble (guidelines of
`report_failfast`, UltraFast methodology UG949). The published V80 design fills 49 % of the LUTs
at 250 MHz.

## Proof

Bar: LUT and FF within {TOLERANCE:.0%} (or {FEW["lut"]} LUT, {FEW["ff"]} FF in a component that
has few), BRAM, URAM and DSP exact, on circuits that no coefficient was fitted to.
{values["tool"]}, `{values["yosys_command"]}`.
Sizes ({SIZES_FILE}) are {sets_text(values)}.
Sizes at which a formula has the same inputs are listed once. No coefficient saw a held-out size;
but the terms of `row buffers`, `index buffers`, `argmin trees`, `group scalers` and, by what ECP5
showed ([Resources of ECP5](resources-ecp5.md)), `vector memory` and the products
of `softmax` and `append` were corrected, by reading the circuit, after errors had shown that they
lacked one, some of them errors at held-out sizes; `tables` joined the fit after the `read masters`
of `sim` had been off by 24.8% in LUTs.

{held_out(found)}
{changed_text(values)}`{values["command"]}` makes this page, the data
([measured/synthesis.json](measured/synthesis.json)) and the coefficients;
{values["estimates_per_s"]:,.0f} estimates a second of one core's time.

## Configurations

Modelled; shares of the device in brackets.

{configurations()}
{section()}## Formulas

Terms are sizes of the configuration (`TERMS` in `hw/resource_formulas.py`); an instance takes the
sum.

{formulas(coefficients, "lut_cells", "LUT cells")}
## Formula against synthesis

For one instance: what Yosys' cells come to, and the formula's error. Counted: BRAM36 / URAM / DSP.

{table(["component", "size", "set", "LUT", "error", "LUT cells", "error", "FF", "error",
"counted", "met"],
       comparison_rows(found, dict.fromkeys(COUNTED, 1)))}"""
