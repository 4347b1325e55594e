"""Lanes of the norm engine with the sums over their elements."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value, signed
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
from hw.units.norm_passes import PassKind
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
"""What the passes over a row have found; ``factor`` is 1 where the pass is a sum."""
PEAK = data.StructLayout({"valid": 1, "value": 32})
"""The OR of a row's magnitudes, which has the bit length of the largest."""
TOTAL = data.StructLayout({"valid": 1, "squares": 1, "value": signed(SUM_BITS)})
"""The sum of a row's values or of their squares."""
PLACE = data.StructLayout({"kind": PassKind, "first": 1, "last": 1})
"""Whose word it is, and whether it is the first or last of its pass."""


class NormPipeline(wiring.Component):
    """The uses of the lanes: the peak of a row, a sum over a row, the results of a row.

    A word a cycle, `STAGES` cycles latency to a result; the whole pipeline stops while a result is
    refused. Words of different passes follow each other in any order. The peak of a row is there
    2 cycles, a total `PRODUCT_STAGE` + 2 and log2(word_elements) cycles behind its last word.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    i : In(stream of {low, word, present, index, place, scale}), ``low`` counts only if ``wide``
    o : Out(stream of {index, data}), results
    wide, shift : In, of the instruction
    weight_read, bias_read : Out(MemoryRead) by the index of a word
    peak : Out(PEAK), total : Out(TOTAL), of a row, for a cycle
    busy : Out(1), results are under way
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
                "place": PLACE,
                "scale": ROW_SCALE,
            }))),
            "o": Out(stream.Signature(data.StructLayout({
                "index": address_bits, "data": config.port_bits,
            }))),
            "wide": In(1),
            "shift": In(6),
            "weight_read": Out(MemoryRead(address_bits, config.port_bits)),
            "bias_read": Out(MemoryRead(address_bits, config.port_bits)),
            "peak": Out(PEAK),
            "total": Out(TOTAL),
            "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        advance, enable, valid = Signal(), Signal(STAGES), Signal(STAGES)
        places = [Signal(PLACE, name=f"place{stage}") for stage in range(PRODUCT_STAGE + 1)]
        split = PRODUCT_STAGE + 1
        results = valid[split - 1] & (places[-1].kind == PassKind.RESULTS)
        m.d.comb += [
            self.o.valid.eq(valid[-1]),
            advance.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(advance),
            self.busy.eq(valid.any()),
        ]
        peaking, peaked = self.i.p.place.kind == PassKind.PEAK, Signal()
        with m.If(advance):
            # Stages without a word keep their registers still, which saves power and simulation.
            m.d.comb += enable.eq(Cat(self.i.valid, valid[:split - 1], results, valid[split:-1]))
            m.d.sync += [
                valid.eq(Cat(self.i.valid & ~peaking, enable[1:])),
                peaked.eq(self.i.valid & peaking),
            ]
        lanes = self._lanes(m, enable, places)

        found = advance & peaked
        m.d.sync += self.peak.valid.eq(found & places[0].last)
        with m.If(found):
            magnitudes: Value = Mux(places[0].first, 0, self.peak.value)
            for lane in lanes:
                magnitudes = magnitudes | lane.magnitude
            m.d.sync += self.peak.value.eq(magnitudes)
        given = advance & valid[split - 1] & (places[-1].kind != PassKind.RESULTS)
        self._sum(m, [lane.product for lane in lanes], given, places[-1])
        return m

    def _lanes(
        self, m: Module, enable: Signal, places: list[data.View]
    ) -> list[NormLane]:
        """The lanes, and what belongs to their words beside them."""
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

        place, scale, scales = self.i.p.place, self.i.p.scale, []
        for stage, register in enumerate(places):
            kept = Signal(ROW_SCALE, name=f"scale{stage}")
            with m.If(enable[stage]):
                m.d.sync += [register.eq(place), kept.eq(scale)]
            place, scale = register, kept
            scales.append(kept)

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
                lane.exponent.eq(self.i.p.scale.exponent),
                lane.mean.eq(scales[0].mean),
                lane.square.eq(places[1].kind == PassKind.SQUARES),
                lane.factor.eq(scales[1].factor),
                lane.down.eq(scales[2].down),
                lane.weight.eq(self.weight_read.data[part]),
                lane.shift.eq(self.shift),
                lane.bias.eq(self.bias_read.data[part]),
            ]
            lanes.append(lane)
        m.d.comb += self.o.p.data.eq(Cat(lane.result for lane in lanes))
        return lanes

    def _sum(self, m: Module, values: list[Value], given: Value, place: data.View) -> None:
        """Add the products of a word to the total of its row."""
        level = 0
        while len(values) > 1:
            filled = Signal(name=f"filled{level}")
            kept = Signal(PLACE, name=f"summed{level}")
            m.d.sync += filled.eq(given)
            with m.If(given):
                m.d.sync += kept.eq(place)
            sums = []
            for n, (left, right) in enumerate(zip(values[::2], values[1::2], strict=True)):
                total = Signal(signed(PRODUCT_BITS + level + 1), name=f"sum{level}_{n}")
                with m.If(given):
                    m.d.sync += total.eq(left + right)
                sums.append(total)
            values, given, place, level = sums, filled, kept, level + 1
        m.d.sync += self.total.valid.eq(given & place.last)
        with m.If(given):
            m.d.sync += [
                self.total.squares.eq(place.kind == PassKind.SQUARES),
                self.total.value.eq(Mux(place.first, 0, self.total.value) + values[0]),
            ]
