"""Published designs that nothing here was fitted to: what memory alone lets them reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compiler.model import Architecture
from sim.energy_table import Bounds
from sim.shape_counts import cache_bytes, decode_bytes, head_weights, layer_weights


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Tokens a second if every weight is read once a token, and what part of memory is full."""

    name: str
    tokens_per_second: Bounds
    published: float
    capacity_part: float
    published_capacity: float | None


def architecture(name: str, sizes: Mapping[str, Any]) -> Architecture:
    """A Llama-like shape from its published sizes."""
    return Architecture(
        name=name, family="llama", norm_epsilon=1e-5, rope_base=1e4, context=4096,
        tied_embeddings=False, **sizes)


def predictions(data: Mapping[str, Any]) -> list[Prediction]:
    """All designs of the file.

    A token reads the weights, and keys and values of half of the context (the mean while it
    fills). Memory holds the weights, the embedding and keys and values of the whole context.
    """
    efficiency = data["efficiency"]
    peak = data["bandwidth_gb_per_s"]["value"] * 1e9
    rate = Bounds(efficiency["value"], efficiency["lower"], efficiency["upper"]) * peak
    found = []
    for design in data["designs"]:
        model = architecture(design["model"], data["models"][design["model"]])
        moved = decode_bytes(model, design["weight_bits"], design["keys"] // 2,
                             design["head_bits"], design["cache_bits"])
        held = (layer_weights(model) * design["weight_bits"] / 8
                + head_weights(model) * (design["head_bits"] + design["embedding_bits"]) / 8
                + cache_bytes(model, design["keys"], design["cache_bits"]))
        found.append(Prediction(
            name=design["name"], tokens_per_second=rate * (1 / moved),
            published=design["tokens_per_second"],
            capacity_part=held / data["capacity_bytes"]["value"],
            published_capacity=design["capacity_part"]))
    return found
