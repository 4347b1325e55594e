"""What designs are compared with: GPUs by a model, designs by what their authors published."""

from __future__ import annotations

from typing import Any

from compiler.model import Architecture
from compiler.own_blocks import named_model
from hw.presets import CONFIGS
from reports.explore.study import Study
from reports.reproduction.lutllm_latency import WORK, Split, model_of, split
from reports.reproduction.published import load_published
from sim.gpu import decode, load_gpu, prefill, stacks

WEIGHT_BITS = 8
"""Of the GPUs' weights."""
FITTED = "start and slope of a line through the published latencies"
LAYERS_ONLY = "layers alone: neither embedding nor head, every token as with 32 keys"


def references_of(study: Study) -> list[dict[str, Any]]:
    """Rows of every reference that says something about the study's model."""
    rows: list[dict[str, Any]] = []
    architecture = named_model(study.model).architecture
    for name in study.references:
        if (CONFIGS / "gpus" / f"{name}.yaml").is_file():
            rows += _gpu(name, study, architecture)
        elif name == WORK and model_of(load_published(name)) == architecture:
            rows += _lutllm(study)
    return rows


def _gpu(name: str, study: Study, architecture: Architecture) -> list[dict[str, Any]]:
    """A GPU with each of its software stacks, batch 1."""
    rows = []
    total = sum(workload.weight for workload in study.workloads)
    tokens = sum(workload.weight * workload.decode for workload in study.workloads)
    for stack in stacks(name):
        gpu = load_gpu(name, stack)
        first = per_token = first_j = token_j = 0.0
        for workload in study.workloads:
            share = workload.weight / total
            begun = prefill(gpu, architecture, WEIGHT_BITS, workload.prefill)
            keys = workload.prefill + workload.decode // 2
            going = decode(gpu, architecture, WEIGHT_BITS, keys)
            first += share * begun.seconds.value
            first_j += share * begun.joules.value
            # As for the designs: of all tokens, so long answers count more.
            part = workload.weight * workload.decode / tokens
            per_token += part * going.seconds.value
            token_j += part * going.joules.value
        rows.append({
            "name": f"{gpu.title}, int8 weights, {stack}", "kind": "gpu",
            "provenance": "modelled", "source": f"configs/gpus/{name}.yaml", "metrics": {
                "time_to_first_token_s": first, "time_per_token_s": per_token,
                "tokens_per_s": 1 / per_token, "energy_per_token_j": token_j,
                "energy_to_first_token_j": first_j, "power_w": token_j / per_token},
            "note": "as the LUT-LLM authors' latencies imply" if stack == "reported" else
                    "what good kernels reach"})
    return rows


def _lutllm(study: Study) -> list[dict[str, Any]]:
    """LUT-LLM and the GPUs beside it, as lines through the published latencies."""
    data = load_published(WORK)
    rows = []
    for row in data["latencies"]["rows"]:
        found = split(data, row)
        own = row == WORK
        first = _prompt_seconds(found, study)
        per_token = found.decode / 1e3
        names = ("layers_time_to_first_token_s", "layers_time_per_token_s") if own else (
            "time_to_first_token_s", "time_per_token_s")
        metrics = {names[1]: per_token}
        if first is not None:
            metrics[names[0]] = first
        if own:
            # The vendor tool's report, of a build at 220 MHz with int8 tables: no energy of a
            # token follows from it and from latencies at 250 MHz with int4 tables.
            sizes = data["power"]["resources"]
            metrics |= {"power_w": data["power"]["total"],
                        "lut": sizes["lut"] + sizes["shift_register"] + sizes["lutram"],
                        "ff": sizes["ff"], "bram36": sizes["bram36"] + sizes["bram18"] / 2,
                        "uram": sizes["uram"], "dsp": sizes["dsp"]}
        else:
            metrics["tokens_per_s"] = 1 / per_token
        rows.append({
            "name": "LUT-LLM on V80 (He et al., FCCM 2026)" if own else
                    f"{row}, as LUT-LLM's authors measured it",
            "kind": "fpga" if own else "gpu", "provenance": "published",
            "source": data["sources"]["readme"], "metrics": metrics,
            "note": f"{LAYERS_ONLY if own else 'vLLM, whole model'}; {FITTED}"})
    return rows


def _prompt_seconds(found: Split, study: Study) -> float | None:
    """Seconds of the mean prompt where each was published."""
    if any(workload.prefill not in found.prefill for workload in study.workloads):
        return None
    total = sum(workload.weight for workload in study.workloads)
    return sum(workload.weight * found.prefill[workload.prefill]
               for workload in study.workloads) / total / 1e3
