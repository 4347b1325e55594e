"""Centroid search of one codebook position: parallel chains and an argmin tree."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, Signature

from hw.config import HardwareConfig
from hw.units.argmin_tree import ArgminTree
from hw.units.distance_chain import DistanceChain
from hw.units.distance_unit import CODE_BITS, centroid_layout, vector_layout
from hw.verilog import module


def CentroidLoad(config: HardwareConfig) -> Signature:
    """Centroids for the shadows, never refused."""
    return Signature({
        "valid": Out(1),
        "index": Out(CODE_BITS),
        "centroid": Out(centroid_layout(config)),
    })


def search_latency(config: HardwareConfig) -> int:
    """Cycles from a vector to its code while nothing stalls."""
    return config.chain_length + 1 + config.chains.bit_length() - 1


class CentroidSearch(wiring.Component):
    """Index of the nearest of ``act_codes_max`` centroids, the lowest on a tie.

    A vector a cycle; a code follows its vector by ``chain_length + 1 + log2(chains)`` cycles
    (`search_latency`). The whole pipeline stands while a code is offered and not taken.

    A vector marked ``first`` is the first one that is compared with the centroids loaded before.
    It takes them over unit by unit: the shadows of unit n of all chains are free again
    n + 1 pipeline steps after it was accepted.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    i : In(stream of vector_layout)
    o : Out(stream of 8 bits)
    load : In(CentroidLoad)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "i": In(stream.Signature(vector_layout(config))),
            "o": Out(stream.Signature(CODE_BITS)),
            "load": In(CentroidLoad(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config

        advance = Signal()
        filled = Signal(search_latency(config))
        select = Signal(config.act_codes_max)
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(advance),
            self.o.valid.eq(filled[-1]),
            select.eq(Mux(self.load.valid, Const(1) << self.load.index, 0)),
        ]
        with m.If(advance):
            m.d.sync += filled.eq(Cat(self.i.valid, filled))

        m.submodules.tree = tree = module("argmin_tree", ArgminTree(config))
        m.d.comb += [tree.en.eq(advance), self.o.payload.eq(tree.o)]
        for k in range(config.chains):
            base = k * config.chain_length
            chain = module("distance_chain", DistanceChain(config))
            m.submodules[f"chain_{k}"] = chain
            m.d.comb += [
                chain.en.eq(advance),
                chain.base.eq(base),
                chain.load.eq(select[base:base + config.chain_length]),
                chain.centroid.eq(self.load.centroid),
                chain.vector.eq(self.i.p),
                chain.vector.first.eq(self.i.p.first & self.i.valid),
                tree.i[k].eq(chain.best),
            ]

        return m
