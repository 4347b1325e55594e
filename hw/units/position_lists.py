"""Position lists of all weight ports, between the quantizer and the lookup engine."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, Signature

from hw.config import HardwareConfig
from hw.interfaces import MemoryRead
from hw.units.position_list import (
    ROUND_BITS,
    PositionList,
    address_bits,
    count_bits,
    place_bits,
)
from hw.verilog import module


def ListWrite(config: HardwareConfig) -> Signature:
    """Operand words of one token, never refused; round 0 starts new lists."""
    return Signature({
        "valid": Out(1),
        "round": Out(ROUND_BITS),
        "word": Out(config.word_elements * 8),
    })


def ListRead(config: HardwareConfig) -> Signature:
    """What the lookup engine reads; ports beside each other in a word, lanes within.

    rounds: words that the longest list fills, at least 1. counts: entries of each port's list.
    """
    return Signature({
        "rounds": In(ROUND_BITS),
        "counts": In(count_bits(config)).array(config.weight_ports),
        "value": Out(MemoryRead(address_bits(config), config.word_elements * 8)),
        "place": Out(MemoryRead(address_bits(config), config.positions * place_bits(config))),
    })


class PositionLists(wiring.Component):
    """A `PositionList` for each weight port, filled beside each other.

    A round is listed two cycles after its write, ``rounds`` holds a cycle later.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    write : In(ListWrite)
    read : In(ListRead)
    """

    write: wiring.PureInterface
    read: wiring.PureInterface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({"write": In(ListWrite(config)), "read": In(ListRead(config))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, read = self.config, self.read
        lanes = config.positions_per_port
        values, places = [], []
        longest = Signal(ROUND_BITS, init=1)
        m.d.sync += read.rounds.eq(longest)
        most = Signal(ROUND_BITS, name="words_none", init=1)
        m.d.comb += most.eq(1)
        for port in range(config.weight_ports):
            m.submodules[f"list_{port}"] = one = module("position_list", PositionList(config))
            words, larger = (Signal(ROUND_BITS, name=f"{name}_{port}")
                             for name in ("words", "larger"))
            m.d.comb += [
                one.valid.eq(self.write.valid),
                one.round.eq(self.write.round),
                one.values.eq(self.write.word.word_select(port, len(one.values))),
                one.value.en.eq(read.value.en),
                one.value.address.eq(read.value.address),
                one.place.en.eq(read.place.en),
                one.place.address.eq(read.place.address),
                read.counts[port].eq(one.count),
                words.eq((one.count + (lanes - 1)) >> (lanes.bit_length() - 1)),
                larger.eq(Mux(words > most, words, most)),
            ]
            most = larger
            values.append(one.value.data)
            places.append(one.place.data)
        m.d.comb += [
            longest.eq(most),
            read.value.data.eq(Cat(values)),
            read.place.data.eq(Cat(places)),
        ]
        return m
