"""One stage of a Hadamard transform between words that follow each other."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.memory.small_memory import SmallMemory
from hw.units.hadamard_pairs import elements_of


class HadamardDelay(wiring.Component):
    """Sums and differences of words ``distance`` apart, a word a slot, behind ``distance`` slots.

    Slots count from 0. The first ``distance`` words of every ``2 * distance`` wait in a memory;
    while the others arrive their sums go on and the differences take the waiting words' places,
    which go on while the next words arrive. (The single-path delay feedback of He and Torkelson,
    "A New Approach to Pipeline FFT Processor".) Not ``active``, words go on at once.

    Parameters
    ----------
    elements : of a word
    width : bits of an incoming element; an outgoing one has one more
    distance : a power of two

    Members
    -------
    enable : In(1), a slot is here
    active : In(1)
    slot : In(bits of ``2 * distance``), the slot's number
    i : In(elements * width)
    o : Out(elements * (width + 1)), loaded by ``enable``
    """

    def __init__(self, elements: int, width: int, distance: int) -> None:
        self.elements, self.width, self.distance = elements, width, distance
        super().__init__({
            "enable": In(1),
            "active": In(1),
            "slot": In(distance.bit_length()),
            "i": In(elements * width),
            "o": Out(elements * (width + 1)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        size = self.elements * (self.width + 1)
        arriving = elements_of(self.i, self.elements)
        kept, keep, second = Signal(size), Signal(size), Signal()
        place = self.slot[:-1]
        waiting = elements_of(kept, self.elements)
        m.d.comb += second.eq(self.slot[-1] & self.active)
        for n, x in enumerate(arriving):
            at = slice(n * (self.width + 1), (n + 1) * (self.width + 1))
            m.d.comb += keep[at].eq(Mux(second, waiting[n] - x, x))
            with m.If(self.enable):
                m.d.sync += self.o[at].eq(
                    Mux(second, waiting[n] + x, Mux(self.active, waiting[n], x)))
        if self.distance == 1:
            with m.If(self.enable):
                m.d.sync += kept.eq(keep)
            return m
        m.submodules.words = memory = SmallMemory(len(place), size)
        m.d.comb += [
            memory.write.valid.eq(self.enable & self.active),
            memory.write.address.eq(place),
            memory.write.data.eq(keep),
            # The word for the next slot is read while this one is here, and waits for it.
            memory.read.en.eq(self.enable),
            memory.read.address.eq(place + 1),
            kept.eq(memory.read.data),
        ]
        return m
