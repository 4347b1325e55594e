"""Sum of the weights of a row."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.golden.softmax import LOG2_BITS, LOG2_ZERO, NUMERATOR_MAX
from hw.isa import FIELDS, Opcode

FAN_IN = 4
"""Values that one stage of the tree adds."""


def sum_bits(config: HardwareConfig) -> int:
    """Bits of the largest sum of a row."""
    heaviest = 1 << LOG2_BITS if config.log2_softmax else NUMERATOR_MAX
    words_max = (1 << FIELDS[Opcode.SOFTMAX]["words"]) - 1
    return (heaviest * words_max * config.word_elements).bit_length()


class SoftmaxSum(wiring.Component):
    """Sum of all weights since ``clear``: numerators, or ``2**(14 - code)`` of log2 codes.

    A word a cycle, never refused. ``busy`` from the cycle after a word came until ``total``
    covers it, 3 cycles later (4 with more than 4 elements a word, 5 with more than 16).

    Parameters
    ----------
    config : HardwareConfig, log2 codes only with ``log2_softmax``

    Members
    -------
    clear : In(1), forget the sum (while not busy)
    valid, weights, log2 : In, word_elements numerators or codes
    busy : Out(1)
    total : Out
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "clear": In(1),
            "valid": In(1),
            "weights": In(data.ArrayLayout(8, config.word_elements)),
            "log2": In(1),
            "busy": Out(1),
            "total": Out(sum_bits(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        elements = self.config.word_elements
        stages: list[list[Value]] = [[self._value(m, n) for n in range(elements)]]
        levels = [[Signal(value.shape(), name=f"value_{n}") for n, value in enumerate(stages[0])]]
        while len(levels[-1]) > 1:
            parts = [levels[-1][n:n + FAN_IN] for n in range(0, len(levels[-1]), FAN_IN)]
            stages.append([sum(part[1:], start=part[0]) for part in parts])
            levels.append([
                Signal(value.shape(), name=f"sum_{len(levels)}_{n}")
                for n, value in enumerate(stages[-1])
            ])

        filled = Signal(len(levels))
        enable = Cat(self.valid, filled)
        m.d.comb += self.busy.eq(filled.any())
        m.d.sync += filled.eq(enable)
        for level, (registers, values) in enumerate(zip(levels, stages, strict=True)):
            with m.If(enable[level]):
                m.d.sync += [
                    register.eq(value)
                    for register, value in zip(registers, values, strict=True)
                ]
        with m.If(self.clear):
            m.d.sync += self.total.eq(0)
        with m.Elif(filled[-1]):
            m.d.sync += self.total.eq(self.total + levels[-1][0])
        return m

    def _value(self, m: Module, element: int) -> Value:
        """What an element adds to the sum."""
        weight = self.weights[element]
        if not self.config.log2_softmax:
            return weight
        code = weight[:LOG2_ZERO.bit_length()]
        power = Const(1 << LOG2_BITS) >> code
        value = Signal(LOG2_BITS + 1, name=f"decoded_{element}")
        m.d.comb += value.eq(Mux(self.log2, power, weight))
        return value
