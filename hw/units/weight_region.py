"""Asks each weight port for its share of a layer's multiplier array weights."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import ADDRESS_BITS, COUNT_BITS, ReadCommand, task_layout
from hw.isa import FIELDS, LINE_BYTES, Opcode, SimdMode
from hw.units.divider import Divider

ROUND_BITS = FIELDS[Opcode.SIMD]["rounds"]
DIVISOR_BITS = FIELDS[Opcode.SIMD]["group_rounds"]
GROUP_WORD_BITS = 16


class WeightRegion(wiring.Component):
    """One read command per port for the region of a SIMD instruction.

    ``groups = rounds / group_rounds`` comes from a serial divider, the region's ``blocks * groups *
    words_per_group`` words from two products: commands are there 17 cycles after ``go``.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In, fields of the instruction, constant while ``go``
    go : In(1), high from the start of an instruction until all commands have been taken or
        longer, low for a cycle or more between instructions
    groups : Out, weight groups of a column; valid while ``known``
    known : Out(1)
    commands : Out(stream of {address, words}), one for each port
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "task": In(task_layout(Opcode.SIMD)),
            "go": In(1),
            "groups": Out(ROUND_BITS),
            "known": Out(1),
            "commands": Out(ReadCommand()).array(config.weight_ports),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, task = self.config, self.task
        int8_words = config.port_columns * config.simd_depth * 8 // config.port_bits
        scale_words = config.port_columns * 16 // config.port_bits
        group_words = Signal(GROUP_WORD_BITS)
        words = Signal(COUNT_BITS)
        pending = Signal(config.weight_ports)
        m.submodules.divider = divider = Divider(ROUND_BITS, DIVISOR_BITS, ROUND_BITS)
        chunk_words = Mux(task.mode == SimdMode.W8A8, int8_words, int8_words // 2)
        m.d.comb += [
            divider.i.payload.dividend.eq(task.rounds),
            divider.i.payload.divisor.eq(task.group_rounds),
        ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += divider.i.valid.eq(self.go)
                with m.If(self.go & divider.i.ready):
                    m.next = "DIVIDE"
            with m.State("DIVIDE"):
                m.d.comb += divider.o.ready.eq(1)
                m.d.sync += [
                    self.groups.eq(divider.o.payload),
                    group_words.eq(
                        task.group_rounds * (chunk_words * config.chunks_per_word)
                        + Mux(task.has_min, 2 * scale_words, scale_words)
                    ),
                ]
                with m.If(divider.o.valid):
                    m.next = "MULTIPLY_GROUPS"
            with m.State("MULTIPLY_GROUPS"):
                m.d.sync += words.eq(group_words * self.groups)
                m.next = "MULTIPLY_BLOCKS"
            with m.State("MULTIPLY_BLOCKS"):
                m.d.sync += [words.eq(words * task.blocks), pending.eq(~0)]
                m.next = "KNOWN"
            with m.State("KNOWN"):
                m.d.comb += self.known.eq(1)
                with m.If(~self.go & ~pending.any()):
                    m.next = "IDLE"

        for q, command in enumerate(self.commands):
            line = Signal(ADDRESS_BITS, name=f"line{q}")
            m.d.comb += [
                line.eq(task.address + q * task.port_stride),
                command.valid.eq(pending[q] & self.known),
                command.payload.address.eq(line * LINE_BYTES),
                command.payload.words.eq(words),
            ]
            with m.If(command.valid & command.ready):
                m.d.sync += pending[q].eq(0)
        return m
