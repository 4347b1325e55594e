"""Keys of a mix: which linears of which layers a scheme is for.

``down`` names a kind of linear in every layer, ``29.down`` one layer's, ``0-4.down`` a range's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

Value = TypeVar("Value")

PATTERN = re.compile(r"(?:(\d+)(?:-(\d+))?\.)?([^.]+)")


@dataclass(frozen=True)
class LayerKey:
    """Layers ``first..last`` (``last`` is infinite for a kind) of a linear."""

    first: int
    last: float
    linear: str

    @property
    def layers(self) -> float:
        """How many layers the key names."""
        return self.last - self.first + 1

    def names(self, linear: str, layer: int) -> bool:
        """Whether the key is for this linear of this layer."""
        return self.linear == linear and self.first <= layer <= self.last


def layer_key(text: str) -> LayerKey:
    """A key from its text; raises ValueError."""
    match = PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} names no linear; write down, 29.down or 0-4.down")
    first, last, linear = match.groups()
    if first is None:
        return LayerKey(0, math.inf, linear)
    key = LayerKey(int(first), int(last or first), linear)
    if key.last < key.first:
        raise ValueError(f"{text!r} names no layers: the first comes behind the last")
    return key


def narrowest(values: Mapping[str, Value], linear: str, layer: int, default: Value) -> Value:
    """Value of the key that names the fewest layers, this one among them; of equals the last."""
    found, fewest = default, math.inf
    for text, value in values.items():
        key = layer_key(text)
        if key.names(linear, layer) and key.layers <= fewest:
            found, fewest = value, key.layers
    return found


def last_layer(values: Mapping[str, Value]) -> int:
    """Last layer that a key names by its number, -1 if none does."""
    ends = [layer_key(text).last for text in values]
    return max((int(end) for end in ends if end < math.inf), default=-1)
