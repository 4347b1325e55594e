"""Lanes of the norm engine with the sums over their elements."""

from __future__ import annotations

from amaranth import Cat, Module, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.interfaces import MemoryRead
from hw.units.norm_lane import (
    BIAS_STAGE,
    CENTERED_BITS,
    EXPONENT_BITS,
    MEAN_BITS,
    PRODUCT_BITS,
    PRODUCT_STAGE,
    STAGES,
    WEIGHT_STAGE,
    NormLane,
)
from hw.units.reciprocal_root import DOWN_BITS
from hw.units.row_limits import norm_words_max
from hw.verilog import module

SUM_BITS = 52
"""Sum of the squares of 2**15 elements, with its sign."""

ROW_SCALE = data.StructLayout({
    "exponent": EXPONENT_BITS,
    "mean": signed(MEAN_BITS),
    "factor": signed(CENTERED_BITS),
    "down": DOWN_BITS,
})
"""What the passes over a row have found so far; ``factor`` is 1 until the reciprocal is known."""


class NormPipeline(wiring.Component):
    """Three uses of the lanes: the peak of a row, a sum over a row, the results of a row.

    A word a cycle, `STAGES` cycles latency to a result; the whole pipeline stops while a result is
    refused. `peak` collects (as the OR of the magnitudes, which has the bit length of the largest)
    what was offered while ``peaking``. Else words are summed, or made results while ``writing``.
    The controls hold from the first word of a use until it has left (``busy``), only peaks may
    follow results at once.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    i : In(stream of {low, word, present, index}), ``low`` counts only if ``wide``
    o : Out(stream of {index, data}), results
    wide, shift, scale : In, of the instruction; of the row
    peaking, square, writing : In(1), square: sum ``xs**2``, not ``xs * factor``
    clear : In(1), makes peak and total 0 (while not busy)
    weight_read, bias_read : Out(MemoryRead) by the index of a word
    peak : Out(32), total : Out(signed(52)), busy : Out(1)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        address_bits = bits_for(norm_words_max(config))
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({
                "low": config.port_bits,
                "word": config.port_bits,
                "present": config.word_elements,
                "index": address_bits,
            }))),
            "o": Out(stream.Signature(data.StructLayout({
                "index": address_bits, "data": config.port_bits,
            }))),
            "wide": In(1),
            "shift": In(6),
            "scale": In(ROW_SCALE),
            "peaking": In(1),
            "square": In(1),
            "writing": In(1),
            "clear": In(1),
            "weight_read": Out(MemoryRead(address_bits, config.port_bits)),
            "bias_read": Out(MemoryRead(address_bits, config.port_bits)),
            "peak": Out(32),
            "total": Out(signed(SUM_BITS)),
            "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        advance, enable, valid = Signal(), Signal(STAGES), Signal(STAGES)
        m.d.comb += [
            self.o.valid.eq(valid[-1]),
            advance.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(advance),
        ]
        split = PRODUCT_STAGE + 1
        with m.If(advance):
            # Stages without a word keep their registers still, which saves power and simulation.
            m.d.comb += enable.eq(Cat(
                self.i.valid, valid[:split - 1], valid[split - 1] & self.writing, valid[split:-1],
            ))
            m.d.sync += valid.eq(Cat(self.i.valid & ~self.peaking, enable[1:]))

        lanes = self._lanes(m, enable)
        peaked = Signal()
        with m.If(advance):
            m.d.sync += peaked.eq(self.i.valid & self.peaking)
        with m.If(self.clear):
            m.d.sync += self.peak.eq(0)
        with m.Elif(peaked):
            magnitudes = self.peak
            for lane in lanes:
                magnitudes = magnitudes | lane.magnitude
            m.d.sync += self.peak.eq(magnitudes)

        summing = self._sum(m, [lane.product for lane in lanes], valid[split - 1] & ~self.writing)
        m.d.comb += self.busy.eq(valid.any() | peaked | summing)
        return m

    def _lanes(self, m: Module, enable: Signal) -> list[NormLane]:
        """The lanes, and the words' indices beside them."""
        index: Value = self.i.p.index
        for stage in range(STAGES):
            for read, taken in ((self.weight_read, WEIGHT_STAGE), (self.bias_read, BIAS_STAGE)):
                # A read's data is there, and stays, with the registers of the stage before.
                if stage == taken - 1:
                    m.d.comb += [read.en.eq(enable[stage]), read.address.eq(index)]
            register = Signal.like(self.i.p.index, name=f"index{stage}")
            with m.If(enable[stage]):
                m.d.sync += register.eq(index)
            index = register
        m.d.comb += self.o.p.index.eq(index)

        lanes = []
        for n in range(self.config.word_elements):
            m.submodules[f"lane{n}"] = lane = module("norm_lane", NormLane())
            part = slice(16 * n, 16 * (n + 1))
            m.d.comb += [
                lane.enable.eq(enable),
                lane.low.eq(self.i.p.low[part]),
                lane.word.eq(self.i.p.word[part]),
                lane.wide.eq(self.wide),
                lane.present.eq(self.i.p.present[n]),
                lane.exponent.eq(self.scale.exponent),
                lane.mean.eq(self.scale.mean),
                lane.square.eq(self.square),
                lane.factor.eq(self.scale.factor),
                lane.down.eq(self.scale.down),
                lane.weight.eq(self.weight_read.data[part]),
                lane.shift.eq(self.shift),
                lane.bias.eq(self.bias_read.data[part]),
            ]
            lanes.append(lane)
        m.d.comb += self.o.p.data.eq(Cat(lane.result for lane in lanes))
        return lanes

    def _sum(self, m: Module, values: list[Value], given: Value) -> Value:
        """Add the products of a word to the total; returns whether some are under way."""
        under_way: list[Value] = []
        level = 0
        while len(values) > 1:
            filled = Signal(name=f"filled{level}")
            m.d.sync += filled.eq(given)
            sums = []
            for n, (left, right) in enumerate(zip(values[::2], values[1::2], strict=True)):
                total = Signal(signed(PRODUCT_BITS + level + 1), name=f"sum{level}_{n}")
                with m.If(given):
                    m.d.sync += total.eq(left + right)
                sums.append(total)
            values, given, level = sums, filled, level + 1
            under_way.append(filled)
        with m.If(self.clear):
            m.d.sync += self.total.eq(0)
        with m.Elif(given):
            m.d.sync += self.total.eq(self.total + values[0])
        return Cat(under_way).any()
