"""Designs in RTL: generated, simulated bit by bit against golden, cycles beside the model's."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compiler.decoder.build import DecoderCompiler
from compiler.image.image import write_atomically
from compiler.own_blocks import as_stored, named_model
from compiler.quant.layer_keys import layer_key
from compiler.quant.scheme import SchemeMap
from compiler.structure import drawn, structural_decoder
from reports.explore.evaluate import design_key
from reports.explore.space import Design
from reports.explore.study import Confirmation
from sim.circuit import generator_hash
from sim.estimate.model import estimate
from sim.execute import execute
from sim.passes import PassProgress

VOCABULARY = 2048
"""Rows of the head that runs: it is as large as several layers in many models, and all alike."""
SEED = 1
FILE = "confirmation.json"


def what_runs(asked: Confirmation, layers: int) -> str:
    """In words."""
    return (f"{asked.layers} of {layers} layers and {VOCABULARY} words of the head, random "
            f"numbers; prompt {asked.prefill}, {asked.decode} more tokens")


def of_first_layers(scheme: SchemeMap, count: int) -> SchemeMap:
    """A scheme without what it says of layers from ``count`` on."""
    layers = {}
    for text, part in scheme.layers.items():
        key = layer_key(text)
        if key.layers == math.inf:
            layers[text] = part
        elif key.first < count:
            layers[f"{key.first}-{min(int(key.last), count - 1)}.{key.linear}"] = part
    return dataclasses.replace(scheme, layers=layers)


def confirm(
    design: Design, model: str, asked: Confirmation, folder: Path, build_dir: Path,
    progress: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Rows of model beside RTL, one for the prompt and one for the tokens behind it.

    Layers are alike, so some stand for all. What the folder holds of an earlier run of the same is
    taken over. Raises LutripError for a design that cannot be built, ToolError for a failing tool.
    """
    key = f"{design_key(design)} {model} {dataclasses.astuple(asked)} {generator_hash()}"
    if (kept := _kept(folder / FILE, key)) is not None:
        return kept
    whole, scheme = as_stored(named_model(model), design.scheme)
    asked = dataclasses.replace(asked, layers=min(asked.layers, whole.layers))
    architecture = dataclasses.replace(
        whole, layers=asked.layers, vocabulary=min(VOCABULARY, whole.vocabulary))
    hardware, memory = design.hardware, design.memory.at(design.hardware)
    decoder = structural_decoder(
        architecture, of_first_layers(scheme, asked.layers), hardware,
        asked.prefill + asked.decode, drawn(SEED))
    progress("writing the image")
    prompt = [number % architecture.vocabulary for number in range(1, asked.prefill + 1)]
    build = folder / "rtl"
    DecoderCompiler(decoder, prompt, asked.decode + 1).write(
        build, {"model": model, "scheme": design.scheme.name})

    def passes(report: PassProgress) -> None:
        progress(f"{report.stage} {report.name}")

    values = execute(build, memory=memory, build_dir=build_dir, progress=progress,
                     passes=passes).values
    found = estimate(decoder, memory, asked.prefill, asked.decode)
    rows = []
    for phase, modelled in (("prefill", found.prefill), ("decode", found.decode)):
        if modelled is None or values[phase] is None:
            continue
        cycles, told = values[phase]["cycles"], round(modelled.cycles)
        rows.append({
            "what": what_runs(asked, whole.layers), "phase": phase, "model_cycles": told,
            "rtl_cycles": cycles, "error": (told - cycles) / cycles,
            "bit_exact": values["bit_exact"], "writes": sum(values["beats"].values()),
            "simulator": values["simulator"], "wall_s": values[phase]["wall_s_per_token"]
            * values[phase]["tokens"]})
    write_atomically(folder / FILE, json.dumps({"key": key, "rows": rows}, indent=1).encode())
    return rows


def _kept(path: Path, key: str) -> list[dict[str, Any]] | None:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    rows: list[dict[str, Any]] | None = value.get("rows") if value.get("key") == key else None
    return rows


