"""One stage of a Hadamard transform within a word."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


def elements_of(word: Value, elements: int) -> list[Value]:
    """Signed elements of a word."""
    width = len(word) // elements
    return [word[n * width:(n + 1) * width].as_signed() for n in range(elements)]


class HadamardPairs(wiring.Component):
    """Sums and differences of elements ``distance`` apart within a word, loaded by ``enable``.

    Parameters
    ----------
    elements : of a word
    width : bits of an incoming element; an outgoing one has one more
    distance : a power of two

    Members
    -------
    enable : In(1), a word is here
    active : In(1), else elements go on as they are
    i : In(elements * width)
    o : Out(elements * (width + 1)), loaded by ``enable``
    """

    def __init__(self, elements: int, width: int, distance: int) -> None:
        self.elements, self.width, self.distance = elements, width, distance
        super().__init__({
            "enable": In(1),
            "active": In(1),
            "i": In(elements * width),
            "o": Out(elements * (width + 1)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        x = elements_of(self.i, self.elements)
        results: list[Value] = []
        for n, element in enumerate(x):
            other = x[n ^ self.distance]
            made = Signal(self.width + 1)
            first = not n & self.distance
            m.d.comb += made.eq(Mux(
                self.active, element + other if first else other - element, element))
            results.append(made)
        with m.If(self.enable):
            m.d.sync += self.o.eq(Cat(results))
        return m
