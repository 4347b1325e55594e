"""A model by its name, and a scheme as the model's own file has it run.

A file's own Q4 or Q8 blocks run as they are where the scheme lets them: their length and their
minima then take the place of the scheme's groups.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass

from compiler.frontends.load import load_model
from compiler.frontends.shapes import PREFIX, SHAPES
from compiler.model import Architecture
from compiler.quant.scheme import Scheme, SchemeMap, SimdScheme
from compiler.quant.simd import runs_native, weight_group

Part = tuple[str, int]
"""A linear of a layer."""


@dataclass(frozen=True)
class Blocks:
    """How a file stores the weights of a linear: bits, inputs that share a scale, with minima."""

    weight_bits: int
    group: int
    asymmetric: bool


@dataclass(frozen=True)
class NamedModel:
    """Architecture of a model, and the file's own blocks where it has any."""

    architecture: Architecture
    blocks: Mapping[Part, Blocks]


@functools.cache
def named_model(name: str) -> NamedModel:
    """A model by name, file or shape; raises LutripError."""
    if (shape := name.removeprefix(PREFIX)) != name and shape in SHAPES:
        return NamedModel(SHAPES[shape], {})
    model = load_model(name)
    blocks: dict[Part, Blocks] = {}
    for layer in range(model.architecture.layers):
        for linear in model.architecture.linears:
            stored = model.blocks(f"layers.{layer}.{linear}.weight")
            for bits in (4, 8):
                asked = SimdScheme(name=name, weight_bits=bits)
                if stored is not None and runs_native(stored, asked):
                    blocks[linear, layer] = Blocks(
                        bits, weight_group(stored, asked), stored.minima is not None)
    return NamedModel(model.architecture, blocks)


def own_part(part: Scheme, blocks: Blocks | None) -> Scheme:
    """A linear's scheme with the file's own blocks, where these run as they are."""
    if (not isinstance(part, SimdScheme) or not part.native_blocks or blocks is None
            or blocks.weight_bits != part.weight_bits):
        return part
    return dataclasses.replace(part, group=blocks.group, asymmetric=blocks.asymmetric,
                               native_blocks=False)


def as_stored(model: NamedModel, scheme: SchemeMap) -> tuple[Architecture, SchemeMap]:
    """Architecture of a model, and the scheme as the model's file has it run."""
    if not model.blocks:
        return model.architecture, scheme
    layers: dict[str, Scheme] = {}
    for linear in model.architecture.linears:
        parts = [own_part(scheme.of(linear, layer), model.blocks.get((linear, layer)))
                 for layer in range(model.architecture.layers)]
        first = 0
        for layer in range(1, len(parts) + 1):
            if layer == len(parts) or parts[layer] != parts[first]:
                key = linear if layer - first == len(parts) else f"{first}-{layer - 1}.{linear}"
                layers[key] = parts[first]
                first = layer
    return model.architecture, dataclasses.replace(scheme, layers=layers)
