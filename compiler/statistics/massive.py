"""Massive activations of the residual, and attention sinks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from compiler.expression import Floats
from compiler.float_layer import attention_weights
from compiler.model import Architecture
from hw.fixed import Ints

MAGNITUDE, OVER_MEDIAN = 100.0, 1000.0
"""A value is massive beyond this magnitude and this many times its state's median magnitude."""
LARGEST = 3
POSITIONS = 8
"""First positions whose peaks are given one by one."""


class MassiveActivations:
    """Of the residual behind one layer (Sun et al., "Massive Activations in Large Language
    Models", 2024, section 2.1), added up window by window.
    """

    def __init__(self) -> None:
        self.windows = 0
        self.medians = 0.0
        self.channels: Counter[int] = Counter()
        self.positions: Counter[int] = Counter()
        self.by_position = np.zeros(POSITIONS)
        self.rest = 0.0
        self.largest: list[dict[str, Any]] = []

    def add(self, state: Floats, tokens: Ints) -> None:
        """Add a window's residual [T, width] and its token ids."""
        sizes = np.abs(state)
        median = float(np.median(sizes))
        massive = (sizes > MAGNITUDE) & (sizes >= OVER_MEDIAN * median)
        for position, channel in zip(*np.nonzero(massive), strict=True):
            self.channels[int(channel)] += 1
            self.positions[int(position)] += 1
        peaks = sizes.max(axis=1)
        first = min(POSITIONS, len(peaks))
        self.by_position[:first] = np.maximum(self.by_position[:first], peaks[:first])
        self.rest = max(self.rest, float(peaks[first:].max(initial=0)))
        for flat in np.argsort(-sizes, axis=None, kind="stable")[:LARGEST]:
            position, channel = divmod(int(flat), state.shape[1])
            self.largest.append({
                "value": float(state[position, channel]), "channel": channel,
                "position": position, "token": int(tokens[position]), "window": self.windows})
        self.largest.sort(key=lambda found: -abs(float(found["value"])))
        del self.largest[LARGEST:]
        self.medians += median
        self.windows += 1

    def summary(self) -> dict[str, Any]:
        """Peaks, medians and counts; positions and channels by how often they are massive."""
        median = self.medians / self.windows
        peak = abs(float(self.largest[0]["value"]))
        return {
            "peak": peak, "median": median, "peak_over_median": peak / (median or 1.0),
            "massive": self.channels.total(), "windows": self.windows,
            "channels": dict(self.channels.most_common(POSITIONS)),
            "positions": dict(self.positions.most_common(POSITIONS)),
            "peak_by_position": [float(size) for size in self.by_position],
            "peak_of_later_positions": self.rest, "largest": self.largest,
        }


class FirstTokenMass:
    """Attention that each query head pays to a window's first token, averaged over the later ones.

    (Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2023.)
    """

    def __init__(self, heads: int) -> None:
        self.sums, self.tokens = np.zeros(heads), 0

    def add(self, architecture: Architecture, q: Floats, k: Floats) -> None:
        """Add a window's queries and keys [T, heads, head_width] behind the rotary embedding."""
        weights, _ = attention_weights(architecture, q, k)
        # Softmax rows of a head that shares its keys lie behind each other.
        self.sums += weights[..., 1:, 0].sum(axis=-1, dtype=np.float64).reshape(-1)
        self.tokens += len(q) - 1

    def by_head(self) -> list[float]:
        """Mean mass of each head, 0 where every window is a single token."""
        return [float(total) / max(self.tokens, 1) for total in self.sums]
