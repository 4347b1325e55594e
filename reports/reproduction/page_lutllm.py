"""Part of docs/reproduction.md: latency of the published LUT-LLM design."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hw.resources import load_device
from reports.reproduction.lutllm_design import Design, Operators, head_round, layer_cycles
from reports.reproduction.lutllm_grid import SETTINGS, cycles, milliseconds
from reports.reproduction.lutllm_latency import (
    HONEST_INT4,
    HONEST_INT8,
    PAPER,
    WORK,
    bandwidth,
    implied_cycles,
    latencies,
    model_of,
    own_cycles,
    sensitivity,
    split,
)
from reports.reproduction.own_rounds import own_section
from reports.reproduction.published import error, table
from sim.shape_counts import head_weights

BAR = 0.03


def latency_section(data: Mapping[str, Any]) -> list[str]:
    """The six latencies."""
    found = latencies(data)
    worst = max(abs(item.deviation) for item in found)
    met = "met" if worst <= BAR else "**missed**"
    rows = [[f"{item.prompt}, {item.output}", f"{item.published:.1f}", f"{item.ours[PAPER]:.1f}",
             f"{100 * item.deviation:+.2f} %", f"{item.ours[HONEST_INT4]:.0f}",
             f"{item.ours[HONEST_INT8]:.0f}"] for item in found]
    design, model = Design(), model_of(data)
    head = head_round(design, model)
    item = layer_cycles(design, model, 1, 256, cache_exposed=True)
    short = layer_cycles(design, model, 1, data["decode_keys"])
    return [
        "### Latency", "",
        (f"Bar: each of the six within {BAR:.0%} under the paper's accounting: {met}, worst "
        f"{100 * worst:.2f} %."), "",
        *table(["prompt, output tokens", "published, ms", "derived, ms", "deviation",
                "honest, int4 tables, ms", "honest, int8 tables, ms"], rows),
        ("*Paper's accounting* (`qwen_block/e2e_latency.cpp`): 28 layers, (prefill + output x "
        f"decode) at {data['clock_mhz']} MHz, every decode step with {data['decode_keys']} keys, "
        "no embedding, no head, memory without latency."), "",
        ("*Honest*: decode step by step with the keys that are there by then "
        f"({sum(short.values()):,.0f} cycles a layer with {data['decode_keys']} keys, "
        f"{sum(item.values()):,.0f} with 256, of which "
        f"{item['waiting for keys and values']:,.0f} wait for keys and values on their way), and "
        f"a head for each output token, computed by table lookup as the layers are "
        f"({head.groups * head.load_cycles(design):,} cycles; in FP16 it would move "
        f"{2 * head_weights(model) / 1e6:.0f} MB). The "
        "first output token comes from the prefill. The design's buffers end at 256 keys; 128 + "
        "256 is computed as if they did not. The paper and its accuracy table have int8 table "
        "entries, the released kernels int4: only with int4 are the published latencies "
        "reachable, and no accuracy is published for them."), "",
    ]


def cycles_section(data: Mapping[str, Any]) -> list[str]:
    """Cycles of a layer, by part, and what they rest on."""
    model, design = model_of(data), Design(clock_mhz=data["clock_mhz"])
    passes = {"decode": (1, data["decode_keys"]), "prefill(32)": (32, 32),
              "prefill(128)": (128, 128)}
    parts = {name: layer_cycles(design, model, *sizes) for name, sizes in passes.items()}
    rows = [[part, *(f"{parts[name][part]:,.0f}" for name in passes)] for part in parts["decode"]]
    implied, own = implied_cycles(data), own_cycles(data)
    rows += [["sum, derived", *(f"{own[name]:,.0f}" for name in passes)],
             ["implied by the published latencies", *(f"{implied[name]:,.0f}" for name in passes)],
             ["deviation", *(error(own[name], implied[name]) for name in passes)]]
    found = sensitivity(data)
    steps = [[f"{key.add}", f"{key.accumulate}", *(f"{100 * value:+.1f} %" for value in values)]
             for key, values in found.items()]
    pairs = [f"{prompt}, {output}" for prompt, output in data["latencies"]["columns"]]
    checker = data["checker_latencies"]["values"]
    return [
        "### Cycles of a layer", "",
        *table(["part", *passes], rows),
        "Implied: lines through the published latencies over output tokens, by least squares.", "",
        ("From the code: sizes, ports, words, order of loops, what overlaps and what waits "
        "(`config.h`, `imm.h`, `ccu_fp32.h`, `gqa.h`, `rms_norm.h`, `qwen_block.h`). A group of 16 "
        "positions takes the longest of its words of tables and indices, its 64 centroids and "
        "tokens x blocks of 512 columns. Derived from it: every number above. Assumed, because "
        "no schedule is readable there: latencies of the floating-point operators "
        f"({_operators()}), the usual ones of Vitis HLS at 300 MHz. The two prefill lengths say "
        "whether the addition's latency and the norm's sum are right; decode hardly depends on "
        "them and is a check. Deviation of the six latencies for other choices:"), "",
        *table(["addition, cycles", "norm's sum, cycles a term", *pairs], steps),
        ("Published figures were known when this model was written, so the table shows how much "
        "freedom there was: of six choices one is within 3 % everywhere. The repository's own "
        "checker names other references for the six, "
        f"{', '.join(f'{value:g}' for value in checker)} ms, "
        f"up to {max(abs(a / b - 1) for a, b in _pairs(data)):.0%} from the README's."), "",
        *own_section(design, model),
    ]


def _pairs(data: Mapping[str, Any]) -> list[tuple[float, float]]:
    return list(zip(data["checker_latencies"]["values"], data["latencies"]["rows"][WORK],
                    strict=True))


def _operators() -> str:
    found = Operators()
    return (f"addition {found.add}, multiplication {found.multiply}, memory "
            f"{found.memory_read}, root {found.square_root}, division {found.divide}, "
            f"sum of a norm {found.accumulate} a term")


def bandwidth_section(data: Mapping[str, Any]) -> list[str]:
    """Bandwidth of decoding."""
    found = bandwidth(data)
    peak, memory = found["ports' peak"], load_device("v80").memory_gb_per_s
    return [
        "### Bandwidth", "",
        (f"Decoding reads {found['bytes of a token'] / 1e9:.3f} GB a token (tables, indices, "
        f"centroids, keys and values): {found['bytes a second'] / 1e9:.0f} GB/s (derived) of the "
        f"{peak / 1e9:.0f} GB/s of 16 ports of 512 bits at 250 MHz, "
        f"{found['part of the ports']:.0%}; summaries of the paper say about "
        f"{data['ports_used']['value']:.0%} (published). Of the {memory:.0f} GB/s of the V80's "
        f"HBM that is {found['bytes a second'] / 1e9 / memory:.0%}."), "",
    ]


def grid_section(data: Mapping[str, Any]) -> list[str]:
    """The authors' own performance model."""
    model = model_of(data)
    rows, worst = [], 0.0
    for name, tokens, phase, count, offchip, published in data["grid"]["rows"]:
        setting, decode = SETTINGS[name], phase == "decode"
        own = cycles(setting, model, tokens, decode)
        time = milliseconds(setting, model, tokens, decode)
        worst = max(worst, abs(own / count - 1), abs(time / published - 1))
        rows.append([name, f"{tokens}", phase, f"{count:,.0f}", f"{own:,.0f}", f"{offchip:.3f}",
                     f"{published:.3f}", f"{time:.3f}"])
    line = split(data, WORK)
    own_prefill = milliseconds(SETTINGS["w_vq"], model, 128, False)
    own_decode = milliseconds(SETTINGS["w_vq"], model, 1024, True)
    return [
        "### The authors' model", "",
        ("`qwen_lut_model/model.py` of the same repository, written anew from its formulas "
        "(derived), beside what the script prints for Qwen3-1.7B on the V80 (published; 18 of "
        f"its 260 points). Worst difference: {worst:.1e}."), "",
        *table(["setting", "tokens", "phase", "cycles, script", "cycles, here", "off-chip, ms",
                "latency, script, ms", "latency, here, ms"], rows),
        (f"It is a bound: for the setting nearest to the built design (w_vq, vectors of 4) it says "
        f"{own_prefill:.1f} ms for a prompt of 128 and {own_decode:.2f} ms a token, the published "
        f"latencies {line.prefill[128]:.0f} ms and {line.decode:.2f} ms: "
        f"{line.prefill[128] / own_prefill:.0f} and {line.decode / own_decode:.1f} times as long. "
        "It has no attention tiles that wait for additions, no drains and no norms."), "",
    ]
