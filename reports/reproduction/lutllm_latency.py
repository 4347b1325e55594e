"""The six published latencies of LUT-LLM, under the paper's accounting and an honest one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compiler.frontends.shapes import SHAPES
from compiler.model import Architecture
from reports.reproduction.lutllm_design import (
    Design,
    Operators,
    head_round,
    layer_bytes,
    layer_cycles,
)
from reports.reproduction.published import fit_line

WORK = "lut-llm"
PAPER, HONEST_INT4, HONEST_INT8 = "paper", "honest, int4 tables", "honest, int8 tables"


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One prompt and output length: published milliseconds and ours by accounting."""

    prompt: int
    output: int
    published: float
    ours: Mapping[str, float]

    @property
    def deviation(self) -> float:
        """Ours under the paper's accounting over the published value, less 1."""
        return self.ours[PAPER] / self.published - 1


def model_of(data: Mapping[str, Any]) -> Architecture:
    """The model that the published numbers are for."""
    return SHAPES[data["model"]]


def pass_cycles(
    design: Design, model: Architecture, tokens: int, keys: int,
    operators: Operators | None = None, cache_exposed: bool = False,
) -> float:
    """Cycles of a layer."""
    return sum(layer_cycles(design, model, tokens, keys, operators, cache_exposed).values())


def paper_milliseconds(
    design: Design, data: Mapping[str, Any], prompt: int, output: int,
    operators: Operators | None = None,
) -> float:
    """As the authors add up: all layers, each output token as with ``decode_keys`` keys, no head.

    Source: qwen_block/e2e_latency.cpp of the public repository LUT-FPGA/LUT-LLM.
    """
    model = model_of(data)
    prefill = pass_cycles(design, model, prompt, prompt, operators)
    decode = pass_cycles(design, model, 1, data["decode_keys"], operators)
    return float(data["layers_counted"] * (prefill + decode * output) / design.clock_mhz / 1e3)


def honest_milliseconds(design: Design, model: Architecture, prompt: int, output: int) -> float:
    """With what the paper's accounting leaves out.

    The first output token comes from the prefill; each further token sees all keys before it,
    waits for those that the first projection does not hide, and every output token passes a head
    that is computed by table lookup like the layers. Prompts beyond the design's 256 keys are
    computed as if its buffers were longer.
    """
    item = head_round(design, model)
    head = item.groups * item.load_cycles(design)
    cycles = model.layers * pass_cycles(design, model, prompt, prompt) + output * head
    for token in range(1, output):
        cycles += model.layers * pass_cycles(design, model, 1, prompt + token, cache_exposed=True)
    return cycles / design.clock_mhz / 1e3


def latencies(data: Mapping[str, Any]) -> list[Latency]:
    """All published pairs."""
    model, released = model_of(data), Design(clock_mhz=data["clock_mhz"])
    as_written = dataclasses.replace(released, entry_bits=8)
    record = data["latencies"]
    return [
        Latency(prompt=prompt, output=output, published=value, ours={
            PAPER: paper_milliseconds(released, data, prompt, output),
            HONEST_INT4: honest_milliseconds(released, model, prompt, output),
            HONEST_INT8: honest_milliseconds(as_written, model, prompt, output)})
        for (prompt, output), value in zip(record["columns"], record["rows"][WORK], strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Latency of a work by prompt length as a line over output tokens, in milliseconds."""

    prefill: Mapping[int, float]
    decode: float


def split(data: Mapping[str, Any], row: str) -> Split:
    """Prefill and decode that a row of published latencies implies (least squares)."""
    record = data["latencies"]
    points = list(zip(record["columns"], record["rows"][row], strict=True))
    lines = {
        prompt: fit_line([out for (length, out), _ in points if length == prompt],
                         [value for (length, _), value in points if length == prompt])
        for prompt in sorted({length for (length, _), _ in points})
    }
    return Split(prefill={prompt: start for prompt, (start, _) in lines.items()},
                 decode=sum(slope for _, slope in lines.values()) / len(lines))


def implied_cycles(data: Mapping[str, Any]) -> dict[str, float]:
    """Cycles of a layer that the published latencies imply."""
    found = split(data, WORK)
    scale = data["clock_mhz"] * 1e3 / data["layers_counted"]
    return {"decode": found.decode * scale,
            **{f"prefill({prompt})": value * scale for prompt, value in found.prefill.items()}}


def own_cycles(data: Mapping[str, Any]) -> dict[str, float]:
    """Ours for the same passes."""
    model, design = model_of(data), Design(clock_mhz=data["clock_mhz"])
    return {"decode": pass_cycles(design, model, 1, data["decode_keys"]),
            **{f"prefill({prompt})": pass_cycles(design, model, prompt, prompt)
               for prompt in split(data, WORK).prefill}}


def sensitivity(data: Mapping[str, Any]) -> dict[Operators, list[float]]:
    """Deviation of the six latencies for other latencies of an addition.

    Two readings of the norm's sum: one term a cycle, or one for each addition.
    """
    design, record = Design(clock_mhz=data["clock_mhz"]), data["latencies"]
    found = {}
    for add in (4, 5, 6):
        for accumulate in (1, add):
            operators = Operators(add=add, accumulate=accumulate)
            found[operators] = [
                paper_milliseconds(design, data, prompt, output, operators) / value - 1
                for (prompt, output), value in zip(record["columns"], record["rows"][WORK],
                                                   strict=True)]
    return found


def bandwidth(data: Mapping[str, Any]) -> dict[str, float]:
    """Gigabytes a second of decoding and what part of the ports' peak that is."""
    model, design = model_of(data), Design(clock_mhz=data["clock_mhz"])
    moved = sum(layer_bytes(design, model, data["decode_keys"]).values())
    seconds = pass_cycles(design, model, 1, data["decode_keys"]) / (design.clock_mhz * 1e6)
    peak = design.ports * design.port_bytes * design.clock_mhz * 1e6
    return {"bytes of a token": moved * model.layers, "bytes a second": moved / seconds,
            "ports' peak": peak, "part of the ports": moved / seconds / peak}
