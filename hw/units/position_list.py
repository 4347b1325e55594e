"""Position list: the positions of one weight port that have activations, without gaps."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.interfaces import MemoryRead

ROUND_BITS = 12


def address_bits(config: HardwareConfig) -> int:
    """Bits of a list word's address."""
    return bits_for(config.list_rounds)


def place_bits(config: HardwareConfig) -> int:
    """Bits of a record's number within a port's region."""
    return bits_for(config.list_rounds * config.positions_per_port)


def count_bits(config: HardwareConfig) -> int:
    """Bits that count the records of a list."""
    return bits_for(config.list_rounds * config.positions_per_port + 1)


class PositionList(wiring.Component):
    """Compacts rounds of one token: entry n of the list is its n-th position that is not all 0.

    Takes a round a cycle, never refused; reads return a round two cycles or more before. A list
    word is ``positions_per_port`` entries, for the position lanes of the port. Consecutive entries
    go to different banks, so that all of a round are written at once. Each memory of a bank has one
    reader: values feed the lanes, places tell which record to read.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    valid, round, values : In, the port's int8 activations of a round; round 0 starts a new list
    count : Out, entries of the list
    value : In(MemoryRead), the activations of a list word; 0 behind the list's end
    place : In(MemoryRead), the record numbers ``round * positions_per_port + lane`` of a list word
    """

    value: wiring.PureInterface
    place: wiring.PureInterface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        lanes = config.positions_per_port
        self.value_bits = 8 * config.vector_length
        super().__init__({
            "valid": In(1),
            "round": In(ROUND_BITS),
            "values": In(lanes * self.value_bits),
            "count": Out(count_bits(config)),
            "value": In(MemoryRead(address_bits(config), lanes * self.value_bits)),
            "place": In(MemoryRead(address_bits(config), lanes * place_bits(config))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self.config.positions_per_port
        shift = lanes.bit_length() - 1
        taken, round_, values = Signal(), Signal.like(self.round), Signal.like(self.values)
        m.d.sync += taken.eq(self.valid)
        with m.If(self.valid):
            m.d.sync += [round_.eq(self.round), values.eq(self.values)]

        # Entry of each lane that is not all 0; in the sum, entries of the lanes before it.
        base, after = Signal.like(self.count), Signal.like(self.count)
        m.d.comb += base.eq(Mux(round_ == 0, 0, self.count))
        entries, present = [], []
        total: Any = base
        for lane in range(lanes):
            entry = Signal.like(self.count, name=f"entry_{lane}")
            m.d.comb += entry.eq(total)
            kept = values.word_select(lane, self.value_bits).any()
            entries.append(entry)
            present.append(kept)
            total = entry + kept
        m.d.comb += after.eq(total)
        with m.If(taken):
            m.d.sync += self.count.eq(after)

        behind, parts, places = Signal(lanes), [], []
        for bank in range(lanes):
            write = Signal(name=f"write_{bank}")
            address = Signal(address_bits(self.config), name=f"address_{bank}")
            value = Signal(self.value_bits, name=f"value_{bank}")
            place = Signal(place_bits(self.config), name=f"place_{bank}")
            for lane in range(lanes):
                number = Cat(Const(lane, shift), round_) if shift else round_
                here = entries[lane][:shift] == bank if shift else 1
                with m.If(present[lane] & here):
                    m.d.comb += [
                        write.eq(taken),
                        address.eq(entries[lane] >> shift),
                        value.eq(values.word_select(lane, self.value_bits)),
                        place.eq(number),
                    ]
            parts.append(self._memory(m, f"values_{bank}", write, address, value, self.value))
            places.append(self._memory(m, f"places_{bank}", write, address, place, self.place))
            with m.If(self.value.en):
                entry = Cat(Const(bank, shift), self.value.address) if shift else self.value.address
                m.d.sync += behind[bank].eq(entry >= self.count)
        m.d.comb += [
            self.value.data.eq(Cat(
                Mux(behind[bank], 0, part) for bank, part in enumerate(parts))),
            self.place.data.eq(Cat(places)),
        ]
        return m

    def _memory(
        self, m: Module, name: str, write: Signal, address: Signal, value: Signal, read: Any
    ) -> Any:
        """One bank; returns what its reader shows."""
        depth = self.config.list_rounds
        m.submodules[name] = memory = Memory(shape=len(value), depth=depth, init=[])
        sink, source = memory.write_port(), memory.read_port()
        m.d.comb += [
            sink.en.eq(write), sink.addr.eq(address), sink.data.eq(value),
            source.en.eq(read.en), source.addr.eq(read.address),
        ]
        return source.data
