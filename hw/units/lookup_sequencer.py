"""Lookup sequencer: the loops of a LUT instruction."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig
from hw.interfaces import MemoryRead, task_layout
from hw.isa import LutMode, Opcode
from hw.units import lookup_layouts as layouts

PASS_CYCLES = 4
"""Shortest pass over the words of an accumulator, so that each rests before it is used again."""


def tag_layout() -> data.StructLayout:
    """Where the sums of a step go: word ``address``, which they overwrite if ``first``.

    ends: the step is the last that reads this round's buffers.
    """
    return data.StructLayout({"valid": 1, "ends": 1, "first": 1, "address": 12})


class LookupSequencer(wiring.Component):
    """One step a cycle: for round, for slice, for token, for block.

    A round starts when it is loaded. A pass (all tokens and blocks of a slice) takes 4 cycles
    or more. ``step`` follows the other outputs by one cycle, and so meets the operand's data.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    start : In(1), begin on ``fields`` in the next cycle
    fields : In(task_layout(LUT)), stable while busy
    busy : Out(1), steps are left
    quartered : In(1), rounds go through four parts of the buffers, not two; stable while busy
    loaded : In(1), take : Out(1), every port holds a new round; it is started
    tag : Out(tag_layout), of the step that is issued
    operand : Out(MemoryRead of the operand store), where a step needs a new row; not for GATHER
    step : Out(step_layout), for the first position lane
    """

    fields: data.View
    tag: data.View
    operand: wiring.PureInterface
    step: data.View

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "start": In(1),
            "fields": In(task_layout(Opcode.LUT)),
            "busy": Out(1),
            "quartered": In(1),
            "loaded": In(1),
            "take": Out(1),
            "tag": Out(tag_layout()),
            "operand": Out(MemoryRead(16, config.word_elements * 8)),
            "step": Out(layouts.step_layout(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fields, tag, step = self.fields, self.tag, self.step
        row_bits = layouts.row_bits(self.config)
        round_, slice_, token, block, group_block = (
            Signal(width, name=name)
            for name, width in (("round", 12), ("slice", 5), ("token", 8), ("block", 8),
                                ("group_block", 8))
        )
        # row: of code 0, this group and slice; token_row: where the token's rows begin (GATHER).
        row, token_row = Signal(row_bits), Signal(row_bits)
        operands, operand, address = Signal(16), Signal(16), Signal(12)
        half, pace = Signal(2), Signal(range(PASS_CYCLES))
        issue, starts_pass, gather = Signal(), Signal(), Signal()
        m.d.comb += [
            gather.eq(fields.mode == LutMode.GATHER),
            starts_pass.eq((token == 0) & (block == 0)),
            issue.eq(self.busy & (~starts_pass | ((pace == 0) & ((slice_ != 0) | self.loaded)))),
            self.take.eq(issue & starts_pass & (slice_ == 0)),
            self.operand.en.eq(issue & (group_block == 0) & ~gather),
            self.operand.address.eq(operand),
        ]

        last_block, last_token, last_slice, last_round = (
            Signal(name=f"last_{name}") for name in ("block", "token", "slice", "round")
        )
        m.d.comb += [
            last_block.eq(block + 1 == fields.blocks),
            last_token.eq(token + 1 == fields.tokens),
            last_slice.eq(slice_ + 1 == fields.slices),
            last_round.eq(round_ + 1 == fields.rounds),
            tag.valid.eq(issue),
            tag.ends.eq(issue & last_block & last_token & last_slice),
            tag.first.eq(fields.first & (round_ == 0) & (slice_ == 0)),
            tag.address.eq(address),
        ]
        m.d.sync += [step.valid.eq(issue), step.read.eq(issue & (group_block == 0))]
        with m.If(issue):
            middle = layouts.quarter_blocks(self.config)
            m.d.sync += [step.half.eq(half[0]), step.upper.eq(half[1]), step.row.eq(row),
                         step.block.eq(block | Mux(half[1], middle, 0)), step.slice.eq(slice_)]

        with m.If(issue & starts_pass):
            m.d.sync += pace.eq(PASS_CYCLES - 1)
        with m.Elif(pace != 0):
            m.d.sync += pace.eq(pace - 1)

        next_token_row, next_slice, next_operands = Signal(row_bits), Signal(5), Signal(16)
        m.d.comb += [
            next_token_row.eq(token_row + fields.rows_per_code),
            next_slice.eq(slice_ + 1),
            next_operands.eq(operands + fields.tokens),
        ]
        with m.If(issue):
            m.d.sync += [block.eq(block + 1), group_block.eq(group_block + 1)]
            m.d.sync += address.eq(address + 1)
            with m.If(group_block + 1 == fields.blocks_per_group):
                m.d.sync += [group_block.eq(0), row.eq(row + fields.slices)]
            with m.If(last_block):
                m.d.sync += [block.eq(0), group_block.eq(0), token.eq(token + 1)]
                m.d.sync += [operand.eq(operand + 1), row.eq(slice_)]
                with m.If(gather):
                    m.d.sync += [token_row.eq(next_token_row), row.eq(next_token_row + slice_)]
                with m.If(last_token):
                    m.d.sync += [token.eq(0), token_row.eq(0), address.eq(fields.accumulator)]
                    m.d.sync += [slice_.eq(next_slice), row.eq(next_slice), operand.eq(operands)]
                    with m.If(last_slice):
                        m.d.sync += [slice_.eq(0), row.eq(0)]
                        m.d.sync += half.eq(Mux(self.quartered, half + 1, ~half[0]))
                        m.d.sync += [operands.eq(next_operands), operand.eq(next_operands)]
                        m.d.sync += round_.eq(round_ + 1)
                        with m.If(last_round):
                            m.d.sync += self.busy.eq(0)
        with m.If(self.start):
            m.d.sync += [self.busy.eq(1), round_.eq(0), half.eq(0), address.eq(fields.accumulator)]
            m.d.sync += [operands.eq(fields.operands), operand.eq(fields.operands)]
        return m
