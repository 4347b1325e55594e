"""One centroid of a search chain: distance to the passing vector, and the better of two."""

from __future__ import annotations

from functools import reduce
from typing import Any

from amaranth import Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig

CODE_BITS = 8
"""Width of a centroid index."""


def centroid_layout(config: HardwareConfig) -> data.ArrayLayout:
    """The v elements of a vector or centroid."""
    return data.ArrayLayout(signed(16), config.vector_length)


def vector_layout(config: HardwareConfig) -> data.StructLayout:
    """A vector under way: ``first`` of a round swaps the centroids, ``l2`` picks the distance."""
    return data.StructLayout({"elements": centroid_layout(config), "first": 1, "l2": 1})


def distance_bits(config: HardwareConfig) -> int:
    """Width that keeps every distance of int16 vectors below all ones (no centroid yet)."""
    return 32 + config.vector_length.bit_length() - 1 if config.l2_search else 17


def best_layout(config: HardwareConfig) -> data.StructLayout:
    """Smallest distance so far and the centroid it belongs to."""
    return data.StructLayout({"distance": distance_bits(config), "index": CODE_BITS})


class DistanceUnit(wiring.Component):
    """Compare one vector with one centroid; an equal distance keeps the earlier centroid.

    A vector a cycle. A vector leaves 1 cycle after it came; the best centroid of the vector that
    came in cycle t is taken in cycle t + 1 and leaves in cycle t + 2, so that distance and
    comparison have a cycle each. Cycles with ``en`` low do not count. ``load`` writes the shadow
    centroid at any time; a vector marked ``first`` makes the shadow the active centroid, and is
    itself compared with it.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    en : In(1), advance the pipeline
    index : In(8), this centroid's index (constant)
    load, centroid : In, new shadow centroid
    vector, best : In, from the previous unit
    next_vector, next_best : Out, to the next unit
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "en": In(1),
            "index": In(CODE_BITS),
            "load": In(1),
            "centroid": In(centroid_layout(config)),
            "vector": In(vector_layout(config)),
            "best": In(best_layout(config)),
            "next_vector": Out(vector_layout(config)),
            "next_best": Out(best_layout(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        shadow = Signal(centroid_layout(self.config))
        active = Signal(centroid_layout(self.config))
        centroid = Signal(centroid_layout(self.config))
        distance = Signal(distance_bits(self.config))
        closer = Signal()
        m.d.comb += [
            centroid.eq(Mux(self.vector.first, shadow.as_value(), active.as_value())),
            closer.eq(distance < self.best.distance),
        ]
        with m.If(self.load):
            m.d.sync += shadow.eq(self.centroid)
        with m.If(self.en):
            m.d.sync += [
                active.eq(centroid),
                distance.eq(self._distance(m, centroid)),
                self.next_vector.eq(self.vector),
                self.next_best.distance.eq(Mux(closer, distance, self.best.distance)),
                self.next_best.index.eq(Mux(closer, self.index, self.best.index)),
            ]

        return m

    def _distance(self, m: Module, centroid: Any) -> Value:
        gaps: list[Value] = []
        for i in range(self.config.vector_length):
            difference = Signal(signed(17), name=f"difference_{i}")
            gap = Signal(16, name=f"gap_{i}")
            m.d.comb += [
                difference.eq(self.vector.elements[i] - centroid[i]),
                gap.eq(Mux(difference < 0, -difference, difference)),
            ]
            gaps.append(gap)
        largest = reduce(lambda a, b: Mux(a > b, a, b), gaps)
        if not self.config.l2_search:
            return largest
        return Mux(self.vector.l2, sum((gap * gap for gap in gaps), Value.cast(0)), largest)
