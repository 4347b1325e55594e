"""Loop counters of the multiplier array: which chunk of which token and group comes next."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.interfaces import task_layout
from hw.isa import FIELDS, Opcode, SimdMode
from hw.units.weight_buffer import SLOT_BITS, chunk_bits

ROUND_BITS = FIELDS[Opcode.SIMD]["rounds"]
TOKEN_CYCLES = 3
"""Fewest cycles of a token (or pair) in a group: the accumulator wants a word to rest for two."""


def result_layout() -> data.StructLayout:
    """Where a group's sums go: accumulator word, write mode, a second token, slot of the scales."""
    return data.StructLayout({
        "valid": 1, "address": 12, "overwrite": 1, "pair": 1, "slot": SLOT_BITS,
    })


def chunk_layout(config: HardwareConfig) -> data.StructLayout:
    """A step of the array.

    fetch: the operand and alpha words at ``operand`` and ``alpha`` start with this chunk;
    first, last: chunk of the group; release: nobody needs the half after this chunk;
    result: valid with the last chunk of a group.
    """
    return data.StructLayout({
        "valid": 1, "fetch": 1, "first": 1, "last": 1, "release": 1, "half": 1,
        "chunk": chunk_bits(config), "operand": 16, "alpha": 12, "result": result_layout(),
    })


class SimdSequencer(wiring.Component):
    """For block, for group, for token (W4A4: pair of tokens), for round of the group, for chunk.

    A chunk each cycle while its weights are there; a token takes `TOKEN_CYCLES` cycles or more.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    task : In, fields of the instruction, constant from a cycle before ``run`` on
    run : In(1), high until the end of the instruction
    full : In(2), weight buffer halves that are filled on every port
    step : Out(`chunk_layout`), combinational
    done : Out(1), all steps are out; until ``run`` falls
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__({
            "task": In(task_layout(Opcode.SIMD)),
            "run": In(1),
            "full": In(2),
            "step": Out(chunk_layout(config)),
            "done": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, task, step = self.config, self.task, self.step
        paired = Signal()
        steps = Signal(8)
        group_stride = Signal(16)
        m.d.comb += [
            paired.eq(task.mode == SimdMode.W4A4),
            steps.eq(Mux(paired, (task.tokens + 1) >> 1, task.tokens)),
        ]
        m.d.sync += group_stride.eq(task.group_rounds * steps)

        half = Signal()
        slot = Signal(SLOT_BITS)
        cycle = Signal(max(chunk_bits(config), bits_for(TOKEN_CYCLES)))
        token = Signal(8)
        block = Signal(8)
        rounds = Signal(ROUND_BITS)
        next_rounds = Signal(ROUND_BITS)
        operand = Signal(16)
        operand_group = Signal(16)
        alpha = Signal(12)
        alpha_group = Signal(12)
        row = Signal(12)

        last_cycle = Signal.like(cycle)
        in_word = Signal.like(cycle)
        going = Signal()
        resting = Signal()
        token_end = Signal()
        group_end = Signal()
        block_end = Signal()
        m.d.comb += [
            last_cycle.eq(task.group_rounds * config.chunks_per_word - 1),
            in_word.eq(cycle & (config.chunks_per_word - 1)),
            going.eq(self.run & ~self.done & (self.full.bit_select(half, 1) | resting)),
            resting.eq(cycle > last_cycle),
            token_end.eq(going & (cycle >= last_cycle) & (cycle >= TOKEN_CYCLES - 1)),
            group_end.eq(token_end & (token == steps - 1)),
            next_rounds.eq(rounds + task.group_rounds),
            block_end.eq(group_end & (next_rounds == task.rounds)),
            step.valid.eq(going & ~resting),
            step.fetch.eq(in_word == 0),
            step.first.eq(cycle == 0),
            step.last.eq(cycle == last_cycle),
            step.release.eq(token == steps - 1),
            step.half.eq(half),
            step.chunk.eq(cycle),
            step.operand.eq(operand),
            step.alpha.eq(alpha),
            step.result.valid.eq(step.valid & step.last),
            step.result.address.eq(row),
            step.result.overwrite.eq(task.first & (rounds == 0)),
            step.result.pair.eq(paired & ((token << 1) + 1 < task.tokens)),
            step.result.slot.eq(slot),
        ]

        with m.If(going):
            m.d.sync += cycle.eq(cycle + 1)
        with m.If(step.valid & (in_word == config.chunks_per_word - 1)):
            m.d.sync += [operand.eq(operand + steps), alpha.eq(alpha + 1)]
        with m.If(token_end):
            m.d.sync += [
                cycle.eq(0),
                token.eq(token + 1),
                operand.eq(operand_group + token + 1),
                alpha.eq(alpha_group),
                row.eq(row + Mux(paired, task.blocks << 1, task.blocks)),
            ]
        with m.If(group_end):
            next_operand = operand_group + group_stride
            next_alpha = alpha_group + task.group_rounds
            m.d.sync += [
                token.eq(0),
                rounds.eq(next_rounds),
                half.eq(~half),
                slot.eq(slot + 1),
                operand.eq(next_operand),
                operand_group.eq(next_operand),
                alpha.eq(next_alpha),
                alpha_group.eq(next_alpha),
                row.eq(task.accumulator + block),
            ]
        with m.If(block_end | ~self.run):
            m.d.sync += [
                rounds.eq(0),
                operand.eq(task.operands),
                operand_group.eq(task.operands),
                alpha.eq(task.alphas),
                alpha_group.eq(task.alphas),
            ]
        with m.If(block_end):
            m.d.sync += [
                block.eq(block + 1),
                row.eq(task.accumulator + block + 1),
                self.done.eq(block == task.blocks - 1),
            ]
        with m.If(~self.run):
            m.d.sync += [
                block.eq(0), row.eq(task.accumulator), self.done.eq(0), cycle.eq(0), token.eq(0),
            ]
        return m
