"""How many port words the region of a linear instruction has."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import COUNT_BITS, STORE_COUNT_BITS, Ahead, task_layout
from hw.isa import FIELDS, LutMode, Opcode
from hw.port_shares import port_shares
from hw.units.divider import Divider
from hw.units.packed_multiplier import int8_weights

LINE_BITS = FIELDS[Opcode.SIMD]["address"]
STRIDE_BITS = FIELDS[Opcode.SIMD]["port_stride"]
ROUND_BITS = FIELDS[Opcode.SIMD]["rounds"]
DIVISOR_BITS = FIELDS[Opcode.SIMD]["group_rounds"]
GROUP_WORD_BITS = 16


def region_layout(config: HardwareConfig) -> data.StructLayout:
    """Lines where the ports' regions start, and the port words of each: of lane ports, shared ones.

    gather: the engine reads for itself (GATHER, sparse LUT). volatile: not before the instruction
    starts, or the ``stores`` before it are complete.
    """
    shared = {"shared_words": COUNT_BITS} if config.shared_ports else {}
    return data.StructLayout({
        "address": LINE_BITS, "port_stride": STRIDE_BITS, "gather": 1, "volatile": 1,
        "words": COUNT_BITS, "stores": STORE_COUNT_BITS,
    } | shared)


class WeightRegion(wiring.Component):
    """One instruction at a time; its region is offered 2 cycles later (LUT) or 17 (SIMD).

    LUT: ``rounds`` times the port's share of a record for each of its lanes; of shared ports as
    well, if there are some. SIMD: ``groups = rounds /
    group_rounds`` comes from a serial divider, ``blocks * groups * words_per_group`` from two
    products. A GATHER or a sparse LUT has no region: its words are 0.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    i : In(Ahead()), LUT and SIMD instructions; one is taken when its region is
    o : Out(stream of `region_layout`)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "i": In(Ahead()),
            "o": Out(stream.Signature(region_layout(config))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        lut, simd = (
            data.View(task_layout(opcode), self.i.p.instruction[:task_layout(opcode).size])
            for opcode in (Opcode.LUT, Opcode.SIMD)
        )
        lookup, gather = Signal(), Signal()
        int8_words = config.port_columns * config.simd_depth * 8 // config.port_bits
        scale_words = config.port_columns * 16 // config.port_bits
        group_words, words = Signal(GROUP_WORD_BITS), Signal(COUNT_BITS)
        groups, shared = Signal(ROUND_BITS), Signal(COUNT_BITS)
        if config.shared_ports:
            m.d.comb += self.o.p.shared_words.eq(shared << 1)
        m.d.comb += [
            lookup.eq(lut.opcode == Opcode.LUT),
            gather.eq(lookup & ((lut.mode == LutMode.GATHER) | lut.sparse)),
            self.o.p.address.eq(Mux(lookup, lut.address, simd.address)),
            self.o.p.port_stride.eq(Mux(lookup, lut.port_stride, simd.port_stride)),
            self.o.p.gather.eq(gather),
            self.o.p.volatile.eq(~lookup & simd.volatile),
            self.o.p.stores.eq(self.i.p.stores),
            self.o.p.words.eq(words),
            self.i.ready.eq(self.o.valid & self.o.ready),
        ]
        if config.simd:
            m.submodules.divider = divider = Divider(ROUND_BITS, DIVISOR_BITS, ROUND_BITS)
            m.d.comb += [
                divider.i.p.dividend.eq(simd.rounds),
                divider.i.p.divisor.eq(simd.group_rounds),
            ]

        with m.FSM():
            with m.State("IDLE"):
                if config.shared_ports:
                    # No GATHER. What a lane's own port does not bring comes through the shared one.
                    own_words = port_shares(config)[0].record_words(lut.table_words, lut.blocks)
                    m.d.sync += [
                        words.eq(lut.rounds * own_words),
                        shared.eq(Mux(lookup, lut.rounds * (lut.record_words - own_words), 0)),
                    ]
                else:
                    record_words = Mux(gather, 0, lut.record_words * config.positions_per_port)
                    m.d.sync += words.eq(lut.rounds * record_words)
                with m.If(self.i.valid & lookup):
                    m.next = "KNOWN"
                if config.simd:
                    m.d.comb += divider.i.valid.eq(self.i.valid & ~lookup)
                    with m.If(divider.i.valid & divider.i.ready):
                        m.next = "DIVIDE"
            if config.simd:
                with m.State("DIVIDE"):
                    chunk_words = Mux(int8_weights(simd.mode), int8_words, int8_words // 2)
                    m.d.comb += divider.o.ready.eq(1)
                    m.d.sync += [
                        groups.eq(divider.o.payload),
                        group_words.eq(
                            simd.group_rounds * (chunk_words * config.chunks_per_word)
                            + Mux(simd.has_min, 2 * scale_words, scale_words)
                        ),
                    ]
                    with m.If(divider.o.valid):
                        m.next = "MULTIPLY_GROUPS"
                with m.State("MULTIPLY_GROUPS"):
                    m.d.sync += words.eq(group_words * groups)
                    m.next = "MULTIPLY_BLOCKS"
                with m.State("MULTIPLY_BLOCKS"):
                    m.d.sync += words.eq(words * simd.blocks)
                    m.next = "KNOWN"
            with m.State("KNOWN"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m
