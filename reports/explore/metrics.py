"""What a design point is measured by: names, units, which direction is better, where from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reports.numbers import quantity

Provenance = Literal["simulated", "modelled", "measured", "predicted", "setting"]
Goal = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Metric:
    """label and unit as pages show them; goal: which direction is better; source: of its values."""

    label: str
    unit: str
    goal: Goal
    provenance: Provenance
    source: str


_CYCLES = "cycle model of the compiled program (docs/cycle-model.md)"
_ENERGY = "counters of the cycle model times the energy table (docs/energy.md)"
_SIZE = "formulas fitted to synthesis (docs/resources.md)"
_ACCURACY = ("whole models measured on golden, else worked out from losses of single linears "
             "(docs/exploration.md)")

METRICS: dict[str, Metric] = {
    "time_to_first_token_s": Metric("time to first token", "s", "minimize", "modelled", _CYCLES),
    "time_per_token_s": Metric("time per token", "s", "minimize", "modelled", _CYCLES),
    "request_s": Metric("time of a request", "s", "minimize", "modelled", _CYCLES),
    "prefill_tokens_per_s": Metric("prefill speed", "tokens/s", "maximize", "modelled", _CYCLES),
    "tokens_per_s": Metric("decode speed", "tokens/s", "maximize", "modelled", _CYCLES),
    "layers_time_to_first_token_s": Metric(
        "prefill of the layers alone", "s", "minimize", "modelled",
        f"{_CYCLES}, without embedding, last norm and head"),
    "layers_time_per_token_s": Metric(
        "decode of the layers alone", "s", "minimize", "modelled",
        f"{_CYCLES}, without embedding, last norm and head"),
    "energy_per_token_j": Metric("energy per token", "J", "minimize", "modelled", _ENERGY),
    "energy_to_first_token_j": Metric("energy to first token", "J", "minimize", "modelled",
                                      _ENERGY),
    "energy_per_request_j": Metric("energy of a request", "J", "minimize", "modelled", _ENERGY),
    "power_w": Metric("power while decoding", "W", "minimize", "modelled", _ENERGY),
    "read_bytes_per_token": Metric("bytes read per token", "B", "minimize", "modelled", _CYCLES),
    "loss_nats": Metric("loss added", "nats/token", "minimize", "predicted", _ACCURACY),
    "perplexity_ratio": Metric("perplexity over float", "times", "minimize", "predicted",
                               _ACCURACY),
    "lut": Metric("LUTs", "", "minimize", "modelled", _SIZE),
    "ff": Metric("flip-flops", "", "minimize", "modelled", _SIZE),
    "bram36": Metric("block RAM (36 Kb)", "", "minimize", "modelled", _SIZE),
    "uram": Metric("UltraRAM", "", "minimize", "modelled", _SIZE),
    "dsp": Metric("DSP slices", "", "minimize", "modelled", _SIZE),
    "largest_share": Metric("largest share of a device's resource", "", "minimize", "modelled",
                            _SIZE),
    "ports": Metric("memory ports", "", "minimize", "setting", "hardware configuration"),
    "clock_mhz": Metric("clock", "MHz", "maximize", "setting", "hardware configuration"),
    "price": Metric("price", "", "minimize", "setting", "prices in the study file"),
}
"""All metrics by name; a study's objectives and constraints are among them."""

SIZES = ("lut", "ff", "bram36", "uram", "dsp")
ACCURACY = ("loss_nats", "perplexity_ratio")
EARLY = (*SIZES, "largest_share", "ports", "clock_mhz", "price", *ACCURACY)
"""Known before the cycle model runs, so that a point that breaks a bound on them needs none."""


def told(metric: str, value: float) -> str:
    """A metric's value with its unit."""
    unit = METRICS[metric].unit
    if unit in ("s", "J", "W", "B"):
        return quantity(value, unit)
    written = f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"
    return f"{written} {unit}".strip()
