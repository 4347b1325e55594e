"""Reduction of the chains' best centroids to one."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.units.distance_unit import CODE_BITS, best_layout


class ArgminTree(wiring.Component):
    """Index of the smallest distance, of the lowest chain on a tie.

    One comparison a cycle; latency ``log2(chains)`` cycles of ``en`` (none for one chain).

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    en : In(1), advance the pipeline
    i : In(chains x best_layout)
    o : Out(8), the index
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "en": In(1),
            "i": In(data.ArrayLayout(best_layout(config), config.chains)),
            "o": Out(CODE_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        level = [self.i[k] for k in range(self.config.chains)]
        depth = 0
        while len(level) > 1:
            winners = []
            for k, (low, high) in enumerate(zip(level[::2], level[1::2], strict=True)):
                winner = Signal(best_layout(self.config), name=f"winner_{depth}_{k}")
                keep_low = low.distance <= high.distance
                with m.If(self.en):
                    m.d.sync += winner.eq(Mux(keep_low, low.as_value(), high.as_value()))
                winners.append(winner)
            level = winners
            depth += 1
        m.d.comb += self.o.eq(level[0].index)

        return m
