"""Sparse fetch: the external reads of a LUT instruction that follows position lists."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.interfaces import ADDRESS_BITS, COUNT_BITS, MemoryRead, ReadCommand, task_layout
from hw.isa import LINE_BYTES, Opcode
from hw.units.position_list import ROUND_BITS, address_bits, count_bits, place_bits


class SparseFetch(wiring.Component):
    """Commands for all weight ports: one whole record for each entry of their lists.

    Entry n of every list is asked for at once, ports whose list has ended left out; one entry
    each 3 cycles, the ports in step.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    start : In(1), begin on ``fields`` one cycle after it became valid or later
    fields : In(task_layout(LUT)), rounds, counts : In, of the lists; stable while commands are made
    place : Out(MemoryRead), record numbers of a list word
    commands : Out(ReadCommand) of each port
    """

    fields: data.View
    counts: list[Signal]
    commands: list[stream.Interface]
    place: wiring.PureInterface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "start": In(1),
            "fields": In(task_layout(Opcode.LUT)),
            "rounds": In(ROUND_BITS),
            "counts": In(count_bits(config)).array(config.weight_ports),
            "place": Out(MemoryRead(address_bits(config), config.positions * place_bits(config))),
            "commands": Out(ReadCommand()).array(config.weight_ports),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, fields = self.config, self.fields
        per_port, ports = config.positions_per_port, config.weight_ports
        round_, part = Signal(ROUND_BITS), Signal(bits_for(per_port))
        entry = Signal(count_bits(config))
        sending, all_taken = Signal(), Signal()
        taken, now_taken, ended = Signal(ports), Signal(ports), Signal(ports)
        places = [Signal(place_bits(config), name=f"place_{port}") for port in range(ports)]
        m.d.comb += [
            self.place.address.eq(round_),
            now_taken.eq(taken | Cat(command.ready for command in self.commands)),
            all_taken.eq(now_taken.all()),
            ended.eq(Cat(entry >= count for count in self.counts)),
        ]
        with m.Switch(part):
            for lane in range(per_port):
                with m.Case(lane):
                    m.d.comb += [
                        place.eq(self.place.data.word_select(
                            port * per_port + lane, place_bits(config)))
                        for port, place in enumerate(places)
                    ]
        offsets = []
        for port, command in enumerate(self.commands):
            base = Signal(ADDRESS_BITS, name=f"base_{port}")
            offset = Signal(COUNT_BITS, name=f"offset_{port}")
            m.d.sync += base.eq((fields.address + port * fields.port_stride) * LINE_BYTES)
            m.d.comb += [
                command.valid.eq(sending & ~taken[port]),
                command.p.address.eq(base + offset * config.port_bytes),
                command.p.words.eq(fields.record_words),
            ]
            offsets.append(offset)

        with m.FSM():
            with m.State("idle"):
                m.d.sync += [round_.eq(0), part.eq(0), entry.eq(0)]
                with m.If(self.start):
                    m.next = "read"
            with m.State("read"):
                m.d.comb += self.place.en.eq(1)
                m.next = "place"
            with m.State("place"):
                m.d.sync += taken.eq(ended)
                m.d.sync += [offset.eq(place * fields.record_words)
                             for offset, place in zip(offsets, places, strict=True)]
                m.next = "send"
            with m.State("send"):
                m.d.comb += sending.eq(1)
                m.d.sync += taken.eq(now_taken)
                with m.If(all_taken):
                    m.d.sync += [part.eq(part + 1), entry.eq(entry + 1)]
                    m.next = "read"
                    with m.If(part == per_port - 1):
                        m.d.sync += [part.eq(0), round_.eq(round_ + 1)]
                        with m.If(round_ + 1 == self.rounds):
                            m.next = "idle"
        return m
