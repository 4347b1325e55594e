"""A study that nobody ran: seeded numbers, made up, but in agreement with each other."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

PARAMETERS: dict[str, tuple[str, list[Any]]] = {
    "hardware.lanes": ("lanes", [256, 512, 1024, 2048]),
    "hardware.weight_ports": ("weight ports", [8, 16, 24]),
    "hardware.search_chains": ("search chains", [1, 2, 4, 8]),
    "hardware.rows": ("multiplier rows", [16, 32, 64]),
    "hardware.clock_mhz": ("clock, MHz", [200, 250, 300]),
    "scheme.attention": ("attention scheme", ["rowgen-3bit", "simd-w4a8", "lut2d"]),
    "scheme.mlp": ("MLP scheme", ["rowgen-2bit", "rowgen-3bit", "simd-w4a8", "lut2d"]),
    "scheme.group": ("group", [64, 128, 256, 512]),
}
BITS = {"rowgen-2bit": 2.3, "rowgen-3bit": 3.3, "simd-w4a8": 4.5, "lut2d": 6.5}
HARM = {"rowgen-2bit": 1.2, "rowgen-3bit": 0.31, "simd-w4a8": 0.06, "lut2d": 2.6}
MODELLED, PREDICTED, MEASURED = "modelled", "predicted", "measured"
METRICS = {
    "time_to_first_token_s": ("time to first token", "s", MODELLED),
    "time_per_token_s": ("time per token", "s", MODELLED),
    "energy_per_token_j": ("energy per token", "J", MODELLED),
    "power_w": ("power", "W", MODELLED),
    "perplexity_ratio": ("perplexity over float", "", PREDICTED),
    "lut": ("LUTs", "", MODELLED), "ff": ("flip-flops", "", MODELLED),
    "bram36": ("block RAMs", "", MODELLED), "uram": ("UltraRAMs", "", MODELLED),
    "dsp": ("DSP slices", "", MODELLED), "ports": ("memory ports", "", "setting"),
    "cost": ("cost", "", MODELLED),
}
AVAILABLE = {"lut": 2_574_208, "ff": 5_148_416, "bram36": 3_741, "uram": 1_925, "dsp": 10_848}
LUT_LIMIT = 1_267_909
OBJECTIVES = ("time_to_first_token_s", "time_per_token_s", "energy_per_token_j")
REFERENCE_NAME = "LUT-LLM on V80 (He et al., FCCM 2026)"


def metrics_of(chosen: dict[str, Any], noise: float) -> tuple[dict[str, float], str, str]:
    """Metrics of a combination, and what bounds prefill and decode."""
    clock = chosen["hardware.clock_mhz"] * 1e6
    weights = 0.4e9 * BITS[chosen["scheme.attention"]] + 1e9 * BITS[chosen["scheme.mlp"]]
    weights *= 1 + 8 / chosen["scheme.group"]
    decode = {"weight port": weights / 8 / 64 / chosen["hardware.weight_ports"],
              "lookup lanes": 0.7e9 / chosen["hardware.lanes"] * 0.55,
              "norm": 120_000.0}
    prefill = {"multipliers": 1.4e9 * 128 / (chosen["hardware.rows"] * 96),
               "search": 2.2e8 / chosen["hardware.search_chains"],
               "lookup lanes": 0.7e9 * 12 / chosen["hardware.lanes"]}
    lut = 260_000 + 210 * chosen["hardware.lanes"] + 30_000 * chosen["hardware.search_chains"] \
        + 9_000 * chosen["hardware.rows"]
    power = 22 + lut / 22_000 + 0.4 * chosen["hardware.weight_ports"]
    decode_s = sum(decode.values()) / clock * noise
    harm = 0.3 * HARM[chosen["scheme.attention"]] + 0.7 * HARM[chosen["scheme.mlp"]]
    return {
        "time_to_first_token_s": sum(prefill.values()) / clock * noise,
        "time_per_token_s": decode_s, "energy_per_token_j": power * decode_s, "power_w": power,
        "perplexity_ratio": 1 + harm * (1 + chosen["scheme.group"] / 2048) * noise,
        "lut": lut, "ff": 1.4 * lut, "bram36": 300 + chosen["hardware.lanes"] / 2,
        "uram": 12 * chosen["hardware.search_chains"], "dsp": 2 * chosen["hardware.rows"] * 48,
        "ports": chosen["hardware.weight_ports"] + 4, "cost": lut / AVAILABLE["lut"],
    }, max(prefill, key=prefill.__getitem__), max(decode, key=decode.__getitem__)


def on_front(rows: list[tuple[float, ...] | None]) -> list[bool]:
    """Which rows no other row beats; None takes no part."""
    front: list[tuple[float, ...]] = []
    for row in sorted(row for row in rows if row is not None):
        if not any(all(a <= b for a, b in zip(kept, row, strict=True)) for kept in front):
            front.append(row)
    kept = set(front)
    return [row in kept for row in rows]


def design_of(number: int, chosen: dict[str, Any], metrics: dict[str, float],
              bound: dict[str, str]) -> dict[str, Any]:
    """A point of the front in detail."""
    phases = []
    for phase, name, tokens in (("prefill", "time_to_first_token_s", 128),
                                ("decode", "time_per_token_s", 64)):
        latency = metrics[name] * (1 if phase == "prefill" else tokens)
        cycles = latency * chosen["hardware.clock_mhz"] * 1e6
        shares = {"up": 0.31, "down": 0.27, "gate": 0.18, "qkv": 0.12, "attention": 0.08,
                  "norm": 0.04}
        phases.append({
            "workload": "chat", "phase": phase, "cycles": cycles, "latency_s": latency,
            "tokens": tokens, "energy_j": metrics["power_w"] * latency,
            "path": [{"name": f"{part}.{chosen['scheme.mlp']}", "cycles": share * cycles,
                      "bound": "norm" if part == "norm" else bound[phase]}
                     for part, share in shares.items()],
            "energy_causes": [
                {"cause": cause, "joules": metrics["power_w"] * latency * share}
                for cause, share in (("static: device leakage", 0.34), ("clock: clock tree", 0.2),
                                     ("off-chip memory: reads", 0.31), ("compute: lookup", 0.15))],
        })
    folder = f"designs/{number}"
    return {
        "id": number, "name": f"design {number}", "parameters": chosen, "metrics": metrics,
        "hardware": {"name": f"design-{number}", "lanes": chosen["hardware.lanes"],
                     "weight_ports": chosen["hardware.weight_ports"]},
        "scheme": {"name": chosen["scheme.mlp"], "group": chosen["scheme.group"]},
        "files": {"hardware": f"{folder}/hardware.yaml", "scheme": f"{folder}/scheme.yaml"},
        "commands": [f"lutrip estimate --model shape:qwen3-1.7b --hw {folder}/hardware.yaml",
                     f"lutrip generate --hw {folder}/hardware.yaml --out build/design-{number}"],
        "resources": {name: {"used": metrics[name], "available": whole,
                             "share": metrics[name] / whole} for name, whole in AVAILABLE.items()},
        "verdict": "fits AMD Alveo V80 (XCV80, 7 nm)", "phases": phases,
        "accuracy": {"perplexity_ratio": metrics["perplexity_ratio"], "provenance": PREDICTED,
                     "source": "sum of each linear's measured harm", "linears": None},
        "confirmation": None,
        "neighbours": [
            {"parameter": "hardware.lanes", "from": chosen["hardware.lanes"], "to": 256,
             "state": "feasible", "reason": "", "bounds": bound,
             "metrics": {name: 1.2 * metrics[name] for name in OBJECTIVES}},
            {"parameter": "scheme.mlp", "from": chosen["scheme.mlp"], "to": "lut2d",
             "state": "infeasible", "reason": "does not fit: lut by 5", "bounds": {},
             "metrics": dict.fromkeys(OBJECTIVES)}],
    }


def confirmations_of(designs: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """RTL runs of the first designs, a little off the model."""
    found = []
    for design, phase in itertools.product(designs[:4], ("prefill", "decode")):
        model = next(each["cycles"] for each in design["phases"] if each["phase"] == phase) / 28
        rtl = round(model * chance.uniform(0.985, 1.015))
        found.append({"id": design["id"], "what": f"1 layer of 28, {phase}", "phase": phase,
                      "model_cycles": round(model), "rtl_cycles": rtl,
                      "error": round(model) / rtl - 1, "bit_exact": True, "wall_s": 12.0})
    for item in found:
        if item["phase"] == "decode":
            next(each for each in designs if each["id"] == item["id"])["confirmation"] = item
    return found


def columns_of(count: int, chance: random.Random) -> dict[str, Any]:
    """Distinct random points in columns."""
    combinations = list(itertools.product(*(values for _, values in PARAMETERS.values())))
    rows = [dict(zip(PARAMETERS, each, strict=True))
            for each in chance.sample(combinations, min(count, len(combinations)))]
    points: dict[str, Any] = {"id": list(range(len(rows))), "state": [], "reason": [],
                              "parameters": {name: [row[name] for row in rows]
                                             for name in PARAMETERS},
                              "metrics": {name: [] for name in METRICS},
                              "bound_prefill": [], "bound_decode": []}
    for row in rows:
        metrics, *bounds = metrics_of(row, chance.uniform(0.97, 1.03))
        refused = row["scheme.attention"] == "lut2d" and row["hardware.search_chains"] == 1
        over = metrics["lut"] - LUT_LIMIT
        points["state"].append("refused" if refused else "infeasible" if over > 0 else "feasible")
        points["reason"].append(
            "hardware search_chains: lut2d in attention needs at least 2, this has 1" if refused
            else f"does not fit: lut by {over:,.0f}" if over > 0 else "")
        for name in METRICS:
            points["metrics"][name].append(None if refused else metrics[name])
        for name, bound in zip(("bound_prefill", "bound_decode"), bounds, strict=True):
            points[name].append(None if refused else bound)
    points["accuracy"] = ["" if state == "refused" else MEASURED if number % 4 == 0 else PREDICTED
                          for number, state in zip(points["id"], points["state"], strict=True)]
    columns = zip(*(points["metrics"][name] for name in OBJECTIVES), strict=True)
    points["front"] = on_front([row if state == "feasible" else None for row, state
                                in zip(columns, points["state"], strict=True)])
    return points


def synthetic_study(folder: Path, count: int = 400, seed: int = 1,
                    **changes: Any) -> dict[str, Any]:
    """Write ``study.json`` of ``count`` points; ``changes`` replaces keys. Returns its values."""
    chance = random.Random(seed)
    points = columns_of(count, chance)
    front = [row for row, kept in enumerate(points["front"]) if kept]
    front.sort(key=lambda row: points["metrics"]["time_per_token_s"][row])
    designs = [design_of(
        points["id"][row], {name: points["parameters"][name][row] for name in PARAMETERS},
        {name: points["metrics"][name][row] for name in METRICS},
        {phase: points[f"bound_{phase}"][row] for phase in ("prefill", "decode")})
        for row in front[:24]]
    states = points["state"]
    values: dict[str, Any] = {
        "format": 2, "kind": "study", "name": "made-up", "title": "Designs on the V80 card",
        "question": "Which design on the V80 decodes Qwen3-1.7B fastest with no more LUTs than "
                    "the published one?",
        "command": f"lutrip explore made-up --out runs/made-up --seed {seed}",
        "study_text": "name: made-up\nmodel: shape:qwen3-1.7b\ndevice: v80  # <card>\n",
        "versions": {"lutrip": "0.6.0", "python": "3.11.2", "optuna": "4.5.0"},
        "model": "shape:qwen3-1.7b", "accuracy_model": "smollm2-135m",
        "search": {"sampler": "nsga2", "seed": seed, "points": count, "space": 20_736},
        "state": "finished",
        "workloads": [{"name": "chat", "prefill": 128, "decode": 64, "weight": 1.0}],
        "parameters": [{"name": name, "label": label, "values": chosen}
                       for name, (label, chosen) in PARAMETERS.items()],
        "objectives": [{"name": name, "goal": "minimize"} for name in OBJECTIVES],
        "constraints": [{"name": "lut", "text": f"LUTs at most {LUT_LIMIT:,}",
                         "met": states.count("feasible")}],
        "metrics": {name: {"label": label, "unit": unit, "provenance": provenance,
                           "source": f"made-up source of {label}"}
                    for name, (label, unit, provenance) in METRICS.items()},
        "measured_error": {"command": "python tests/verify/cycle_model.py", "runs": 203,
                           "mean_absolute_error": 0.0019, "worst_absolute_error": 0.045},
        "counts": {"asked": count, "distinct": len(states), "refused": states.count("refused"),
                   "infeasible": states.count("infeasible"),
                   "feasible": states.count("feasible"), "front": len(front)},
        "points": points,
        "importance": {name: {"hardware.lanes": 0.41, "hardware.clock_mhz": 0.24,
                              "scheme.mlp": 0.2, "hardware.weight_ports": 0.15}
                       for name in OBJECTIVES},
        "designs": designs,
        "references": [
            {"name": REFERENCE_NAME, "kind": "fpga", "provenance": "published",
             "source": "arXiv 2511.06174", "note": "layers only, decode cycles constant",
             "metrics": {"time_per_token_s": 0.0051, "time_to_first_token_s": 0.203,
                         "energy_per_token_j": 0.32}},
            {"name": "NVIDIA A100, INT4", "kind": "gpu", "provenance": MODELLED,
             "source": "roofline of published bandwidth and arithmetic", "note": "batch 1",
             "metrics": {"time_per_token_s": 0.0062, "time_to_first_token_s": 0.019,
                         "energy_per_token_j": 0.9}},
        ],
        "evaluations": [
            {"id": designs[0]["id"], "scheme": "mix-of-everything", "row_bits": 12,
             "key_bits": 4, "value_bits": 8, "predicted_nats": 0.625, "measured_nats": 0.5,
             "perplexity_ratio": 1.6487, "predictions": 3066,
             "command": "lutrip evaluate --model smollm2-135m --scheme mix.yaml", "error": None},
            {"id": designs[-1]["id"], "scheme": "too-wide", "row_bits": 16, "key_bits": 8,
             "value_bits": 8, "predicted_nats": 2.0, "measured_nats": None,
             "perplexity_ratio": None, "predictions": None, "command": None,
             "error": "hardware holds 128 inputs"}],
        "confirmations": confirmations_of(designs, chance),
        "findings": ["The fastest design decodes in less time than the published one.",
                     "Weight ports bound decode in most of the front's designs."],
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(values))
    return values
