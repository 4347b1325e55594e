"""Distance units in series: the best centroid of one chain."""

from __future__ import annotations

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.units.distance_unit import (
    CODE_BITS,
    DistanceUnit,
    best_layout,
    centroid_layout,
    distance_bits,
    vector_layout,
)
from hw.verilog import module


class DistanceChain(wiring.Component):
    """Nearest of ``chain_length`` centroids, the earliest on a tie.

    A vector a cycle; the best of a vector follows it by ``chain_length + 1`` cycles of ``en``.
    Unit n meets the vector n cycles after unit 0, so that its shadow may be written that early.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    en : In(1), advance the pipeline
    base : In(8), index of the first centroid (constant)
    load : In(chain_length), units whose shadow takes ``centroid``
    centroid : In(v x int16)
    vector : In(vector_layout), ``first`` is low where no vector comes
    best : Out(best_layout)
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "en": In(1),
            "base": In(CODE_BITS),
            "load": In(config.chain_length),
            "centroid": In(centroid_layout(config)),
            "vector": In(vector_layout(config)),
            "best": Out(best_layout(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        vector = self.vector
        best = best_layout(self.config).const(
            {"distance": (1 << distance_bits(self.config)) - 1, "index": 0}
        )
        for n in range(self.config.chain_length):
            unit = module("distance_unit", DistanceUnit(self.config))
            m.submodules[f"unit_{n}"] = unit
            m.d.comb += [
                unit.en.eq(self.en),
                unit.index.eq(self.base + n),
                unit.load.eq(self.load[n]),
                unit.centroid.eq(self.centroid),
                unit.vector.eq(vector),
                unit.best.eq(best),
            ]
            vector, best = unit.next_vector, unit.next_best
        m.d.comb += self.best.eq(best)

        return m
