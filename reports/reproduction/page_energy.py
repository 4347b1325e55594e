"""Part of docs/reproduction.md: resources and power of the published design, and GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hw.presets import load_hardware, names
from hw.resources import total as resources_of
from reports.reproduction.lutllm_latency import WORK, latencies, model_of, split
from reports.reproduction.lutllm_power import (
    CAUSES,
    by_events,
    default_activity,
    device_table,
    likely_total,
    lookups_share,
    published_watts,
    total,
)
from reports.reproduction.prediction import architecture
from reports.reproduction.published import error, load_published, table
from sim.energy_table import Bounds
from sim.gpu import REPORTED, WEIGHT_BITS, decode, load_gpu, prefill, stacks

ROWS = {16: "bf16", 8: "int8", 4: "int4"}


def _range(value: Bounds, digits: int = 1) -> str:
    return f"{value.value:.{digits}f} ({value.lower:.{digits}f} to {value.upper:.{digits}f})"


def resources_section(data: Mapping[str, Any]) -> list[str]:
    """What the vendor report lists, and our generator's design of the same geometry."""
    theirs = data["power"]["resources"]
    own = resources_of(load_hardware("v80-lutllm"))
    all_luts = theirs["lut"] + theirs["shift_register"] + theirs["lutram"]
    rows = [
        ["look-up tables", f"{all_luts:,}", f"{own.lut:,.0f}"],
        ["flip-flops", f"{theirs['ff']:,}", f"{own.ff:,.0f}"],
        ["block RAM (36 Kb)", f"{theirs['bram36'] + theirs['bram18'] / 2:g}", f"{own.bram36:g}"],
        ["UltraRAM", f"{theirs['uram']}", f"{own.uram:g}"],
        ["multiplier slices", f"{theirs['dsp']:,}", f"{own.dsp:g}"],
    ]
    return [
        "### Resources", "",
        *table(["", "vendor report (published)", "`v80-lutllm` (modelled, hw/resources.py)"], rows),
        ("Not the same circuit: theirs searches, normalizes and attends in FP32 "
        f"({theirs['fp32_adders']:,} of its multiplier slices add, "
        f"{theirs['fp32_multipliers']} multiply); `v80-lutllm` is the lookup engine of the same "
        "geometry with integers, without attention."), "",
    ]


def power_section(data: Mapping[str, Any]) -> list[str]:
    """Watts by cause."""
    device, report = device_table(), data["power"]
    published = published_watts(data)
    estimates = {"default activity": default_activity, "by events, decoding": by_events}
    watts = {name: estimate(data, device) for name, estimate in estimates.items()}
    rows = [[cause, f"{published[cause]:.2f}", *(_range(watts[name][cause]) for name in estimates)]
            for cause in CAUSES]
    low, high = (report["total"] * (1 + sign * report["uncertainty"]) for sign in (-1, 1))
    sums = {name: total(found) for name, found in watts.items()}
    rows.append(["sum, all causes off the same way", f"{report['total']:.2f}",
                 *(_range(sums[name]) for name in estimates)])
    likely = {name: likely_total(estimate, data, device) for name, estimate in estimates.items()}
    rows.append(["sum, likely range", f"{low:.1f} to {high:.1f}",
                 *(_range(likely[name][0]) for name in estimates)])
    rows.append(["deviation", "", *(error(sums[name].value, report["total"])
                                    for name in estimates)])
    bars = "; ".join(f"{name}: {'met' if low <= item.value <= high else '**missed**'}"
                     for name, item in sums.items())
    main = likely["default activity"][1]
    seconds = split(data, WORK).decode / 1e3
    cards = {name: item / device["card_efficiency"] + device["card_auxiliary"]
             for name, item in sums.items()}
    return [
        "### Power", "",
        (f"Watts at {report['clock_mhz']} MHz and a junction of 100 C, int8 build. Bar: within the "
        f"report's own ±{report['uncertainty']:.0%}: {bars}."), "",
        *table(["cause", "vendor report (published)",
                *(f"{name} (modelled)" for name in estimates)], rows),
        ("The unit energies of `configs/energy/fpga-7nm.yaml` were derived from rows of this same "
        "report, its static power is the report's, and the resources are the report's: this "
        "tests counts and activity, not unit energies, and nothing was fitted to the total. "
        "*Default activity* is an estimate of the report's own kind (12.5 % of bits change, a "
        "quarter of the memories and multipliers are used, ports at full rate); logic comes out "
        "high and multipliers low, which partly cancels. *By events* counts what a decoded token "
        f"does: lookups run in {lookups_share(data):.0%} of its cycles, so its logic hardly "
        "changes and the sum is below the report. A power tool that is not told the activity "
        "cannot see that."), "",
        "Values that widen the likely range most: "
        + ", ".join(f"{key} {value:.1f} W" for key, value in main.items())
        + ". Table values count as independent of each other (squares), one value as off the same "
        "way in all causes (linear).", "",
        f"A token takes {seconds * 1e3:.3f} ms (published latency): "
        f"{report['total'] * seconds:.3f} J by the report, "
        + ", ".join(f"{item.value * seconds:.3f} J {name}" for name, item in sums.items())
        + "; with the card "
        + ", ".join(f"{_range(item * seconds, 3)} J {name}" for name, item in cards.items())
        + ".", "",
    ]


def gpu_section(data: Mapping[str, Any]) -> list[str]:
    """GPUs as reported and tuned, and ratios to the published design."""
    model = model_of(data)
    fpga_seconds = split(data, WORK).decode / 1e3
    fpga_joules = data["power"]["total"] * fpga_seconds
    rows: list[list[str]] = []
    modelled: list[float] = []
    for name in names("gpus"):
        for stack in stacks(name):
            gpu = load_gpu(name, stack)
            for bits in WEIGHT_BITS:
                key = f"{name} {ROWS[bits]}"
                has = key in data["latencies"]["rows"]
                if stack == REPORTED and not has:
                    continue
                cost = decode(gpu, model, bits, 128)
                rows.append([
                    gpu.title, stack, f"{bits}",
                    f"{split(data, key).decode:.2f}" if stack == REPORTED else "",
                    _range(cost.seconds * 1e3, 2), cost.limit, _range(cost.joules, 2),
                    f"{cost.seconds.value / fpga_seconds:.2f}",
                    _range(cost.joules * (1 / fpga_joules), 2)])
                if stack == REPORTED:
                    modelled.append(cost.joules.value / fpga_joules)
    ratios = data["energy_ratios"]
    honest = latencies(data)[-1]
    return [
        "## GPUs beside it", "",
        ("Decoding Qwen3-1.7B, batch 1 (modelled, `configs/gpus`): time and energy of a token, "
        f"and over those of the published design ({fpga_seconds * 1e3:.2f} ms and "
        f"{fpga_joules:.3f} J, its latency x the vendor report). *reported* is the software stack "
        "behind the paper's numbers, *tuned* what graphs and good kernels reach."), "",
        *table(["GPU", "stack", "weight bits", "published, ms", "time, ms", "bound by",
                "energy, J", "time / FPGA", "energy / FPGA"], rows),
        (f"The paper reports {ratios['lowest']:g} to {ratios['highest']:g} times the tokens a "
        "joule of A100 and MI210 (published); the reported stacks have "
        f"{min(modelled):.2f} to {max(modelled):.2f} times its joules a token (modelled). The "
        "FPGA side is device power without the board and without a head, the GPU side a whole "
        f"card with a head: with the honest accounting above the FPGA's time alone is up to "
        f"{honest.ours['honest, int4 tables'] / honest.published:.1f} times as long."), "",
        *gpu_checks(),
    ]


def gpu_checks() -> list[str]:
    """Rates that nothing was set by."""
    data = load_published("gpu-checks")
    model = architecture(data["model"], load_published("kv260")["models"][data["model"]])
    rows = []
    for name, published in data["tokens_per_second"]["rows"].items():
        gpu = load_gpu(name)
        first = prefill(gpu, model, data["weight_bits"], data["prompt"]).seconds
        each = decode(gpu, model, data["weight_bits"], data["prompt"]).seconds
        rate = data["output"] / (first.value + each.value * (data["output"] - 1))
        rows.append([gpu.title, f"{published}", f"{rate:.0f}", error(rate, published)])
    return [
        (f"Check of the tuned stacks with rates that set nothing ({data['title']}, prompt of "
        f"{data['prompt']}, {data['output']} tokens):"), "",
        *table(["GPU", "published, tokens/s", "modelled, tokens/s", "error"], rows),
        "The tuned model is optimistic by that much.", "",
    ]
