"""docs/reproduction.md: published numbers of others, derived again, with what is behind each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hw.errors import LutripError
from reports.reproduction.agilequant import (
    KERNELS,
    end_to_end,
    fpga_products,
    published_speedups,
)
from reports.reproduction.lutllm_latency import WORK
from reports.reproduction.page_energy import gpu_section, power_section, resources_section
from reports.reproduction.page_lutllm import (
    bandwidth_section,
    cycles_section,
    grid_section,
    latency_section,
)
from reports.reproduction.prediction import predictions
from reports.reproduction.published import error, load_published, table

COMMAND = "python -m reports.reproduction"
ACCURACY = Path("docs") / "measured" / "accuracy.json"
HEAD = f"""\
# Reproduction of published numbers

Made by `{COMMAND}`. *Published*: from a paper, its repository or a vendor, as data in
`configs/published`, each with its source. *Derived*: computed here from a geometry or from public
code. *Modelled*: with assumed values on top. *Computed*: golden's arithmetic on a text. Nothing on
this page was simulated in RTL.
"""
TRENDS = {
    "simd-w4a8": "int4 weights of the file, int8 activations",
    "simd-w4a8-g128": "int4 weights in groups of 128 (GPTQ), int8 activations",
    "simd-w4a4-agile": "some tokens in int4, TRIP factors, no token dropped",
    "simd-w4a4-agile-notrip": "the same without TRIP factors",
    "simd-w4a4": "every token in int4",
}


def agile_section(data: Mapping[str, Any], accuracy: Mapping[str, Any]) -> list[str]:
    """Speed-ups by instruction counts, perplexity trends, the FPGA's counterpart."""
    found, own = published_speedups(data), end_to_end(data)
    steps = found.pop("4 over 8 bits")
    kernels = [[item.name, " ".join(item.instructions), f"{item.products}", f"{item.rate:.2f}",
                item.cores] for item in KERNELS]
    speed = [[bits, f"{found[bits][0]:.2f} to {found[bits][1]:.2f}", f"{own[bits]:.2f}"]
             for bits in found]
    rate = {item.name: item.rate for item in KERNELS}
    agile, free = (next(rate[name] for name in rate if name.startswith(start))
                   for start in ("4 bits, two", "4 bits, the three"))
    lane = rate["8 bits, one product a 32-bit lane"]
    wide = rate["8 bits, widening"] / rate["FP16 widened to FP32"]
    packed = fpga_products()
    trend = [[name, f"{row['float']:.2f}", f"{row['weights']:.2f}", f"{row['eight']:.2f}",
              error(row["eight"], row["float"]), f"{row['four']:.2f}",
              error(row["four"], row["float"])]
             for name, row in data["perplexities"]["rows"].items()]
    measured = [
        [f"`{name}`", text, f"{row['perplexity_float']:.2f}", f"{row['perplexity']:.2f}",
         error(row["perplexity"], row["perplexity_float"])]
        for name, text in TRENDS.items()
        if "perplexity" in (row := accuracy["rows"].get(name, {}))]
    return [
        f"## Agile-Quant: {data['title']}", "",
        "### Speed-up of 8 and 4 bits", "",
        *table(["kernel", "instructions of a round", "products", "multiply-adds an instruction",
                "cores"], kernels),
        ("Counts (derived) of vectors of 128 bits, loads left out. The 4-bit multiplier's "
        f"{agile:g} multiply-adds an instruction are {agile / lane:.1f} times one product a lane; "
        f"were the three moving instructions free, {free / lane:.1f} times. The paper's "
        f"{data['gemm']['four_over_eight']:g} times 8 bits (published) lies near the latter: "
        "**counts do not reproduce it** unless those three run beside the multiplication, and "
        "both are below the dot-product instruction of the A77. Widening 8-bit kernels count "
        f"{wide:.1f} times FP16 on the A72, which has no FP16 arithmetic; on the A77 FP16 is "
        "native and counts higher. The paper says 1.8 to 1.9 on both."), "",
        *table(["activations", "published, end to end over FP16",
                "derived from the paper's GEMM ratios"], speed),
        ("Derived: 8 % of the FP16 time is not GEMM (published), the rest is divided by the "
        "published GEMM ratios. The published 4-bit figures are lower, as only some products "
        "have 4 bits, and part of them is due to dropped tokens; the paper does not separate the "
        "two."), "",
        "### The FPGA's counterpart", "",
        "A multiplier slice (27 x 18) gives "
        + ", ".join(f"{count} products for {mode.upper()}" for mode, count in packed.items())
        + " each cycle, exactly (`hw/units/packed_multiplier.py`, all operand pairs tested; AMD "
        "WP486, WP521). Moving the products apart is wiring. So 4 bits are "
        f"{packed['w4a4'] / packed['w4a8']:.1f} times 8 bits in the multiplier array, where the "
        f"published Arm kernel has {data['gemm']['four_over_eight']:g} and its programs "
        f"{steps[0]:.2f} to {steps[1]:.2f} end to end. FP16 needs a slice "
        "for each product at least. Decoding is bound by memory, where none of this counts.", "",
        "### Perplexity", "",
        *table(["model (published, WikiText-2)", "float", "int4 weights", "8 bits", "over float",
                "4 bits, tokens dropped", "over float"], trend),
        f"Ours (computed, `{ACCURACY}`, {accuracy['model']}; every position is scored):", "",
        *table(["scheme", "", "float", "perplexity", "over float"], measured),
        ("The same order: 8 bits cost little, 4 bits several times as much. Levels do not compare: "
        "other model, other text, and the published evaluation leaves out the labels of dropped "
        "tokens."), "",
    ]


def prediction_section(data: Mapping[str, Any]) -> list[str]:
    """Designs that set nothing."""
    efficiency = data["efficiency"]
    rows = []
    for item in predictions(data):
        rate = item.tokens_per_second
        held = "" if item.published_capacity is None else (
            f"{item.capacity_part:.1%} / {item.published_capacity:.1%}")
        rows.append([item.name, f"{item.published:g}",
                     f"{rate.value:.2f} ({rate.lower:.2f} to {rate.upper:.2f})",
                     error(rate.value, item.published), held])
    return [
        "## Designs that nothing was fitted to", "",
        (f"{data['title']}: tokens a second if every weight and half of the context's keys and "
        f"values are read once a token at {efficiency['value']:.0%} of "
        f"{data['bandwidth_gb_per_s']['value']} GB/s ({efficiency['lower']:.0%} to "
        f"{efficiency['upper']:.0%}, AMD's measurements of its memory controller)."), "",
        *table(["design", "published, tokens/s", "predicted, tokens/s", "error",
                "memory filled, predicted / published"], rows),
        ("Li et al. (LLaMA2-7B, 4-bit weights) is bound by memory, and shapes, bits and bandwidth "
        "are all that the prediction takes. TeLLMe (0.7B, ternary weights) is not: memory would "
        "allow several times its rate, its lookup and attention units are the limit, and their "
        "sizes are not in its abstract. The prediction fails there, as it should."), "",
    ]


def page(root: Path) -> str:
    """The whole page; root: of the checkout. Raises LutripError without its measurements."""
    data = load_published(WORK)
    try:
        accuracy = json.loads((root / ACCURACY).read_text())
    except (OSError, ValueError) as problem:
        raise LutripError(f"{root / ACCURACY}: {problem}; run this in a checkout, or make it with "
                          "python -m tests.verify.accuracy") from None
    lines = [
        *HEAD.splitlines(), "",
        f"## LUT-LLM: {data['title']}", "", "Qwen3-1.7B on the AMD V80, batch 1.", "",
        *latency_section(data), *cycles_section(data), *bandwidth_section(data),
        *grid_section(data), *resources_section(data), *power_section(data), *gpu_section(data),
        *agile_section(load_published("agile-quant"), accuracy),
        *prediction_section(load_published("kv260")),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"
