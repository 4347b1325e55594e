"""Position lane: rows, indices and partial sums of one codebook position."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import HardwareConfig, bits_for
from hw.port_shares import port_shares
from hw.units import lookup_layouts as layouts
from hw.units.copy_lanes import CopyLanes
from hw.units.index_buffer import IndexBuffer
from hw.units.row_extract import RowExtract
from hw.units.row_generator import RowGenerator
from hw.units.simd_adder import SimdAdder
from hw.units.table_buffer import TableBuffer


class PositionLane(wiring.Component):
    """Adds ``lanes`` entries of this position's row to the partial sums, one step a cycle.

    Lanes form a chain: step and operand reach the next lane one cycle later. ``total`` follows
    the step by ``lane_cycles`` (7 with ``rowgen``, 8 where it rounds, else 5); ``partial`` is due
    one cycle before, which is when the lane before delivers it. Buffers are read up to 3 cycles
    after the step, those of indices one later where rows are rounded.

    Parameters
    ----------
    config : HardwareConfig

    Members
    -------
    setup : In(setup_layout), of the instruction
    write : In(write_layout), selected : In(1), a port word for this lane's buffers
    shared_write : In(write_layout), shared_selected : In(1), with shared ports: a word of theirs
    step : In(step_layout), step_next : Out
    operand : In(bytes of this position and those after it), operand_next : Out; used where
        ``step.read``: code of the position in the low byte, or its v int8 activations
    partial : In(lanes x field bits), total : Out
    """

    setup: data.View
    write: data.View
    selected: Signal
    shared_write: data.View
    shared_selected: Signal
    step: data.View
    step_next: data.View

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        step, sums = layouts.step_layout(config), config.lanes * layouts.simd_field_bits(config)
        shared = {"shared_write": In(layouts.write_layout(config)), "shared_selected": In(1)}
        super().__init__((shared if config.shared_ports else {}) | {
            "setup": In(layouts.setup_layout(config)),
            "write": In(layouts.write_layout(config)),
            "selected": In(1),
            "step": In(step),
            "step_next": Out(step),
            "operand": In(config.word_elements * 8),
            "operand_next": Out(config.word_elements * 8),
            "partial": In(sums),
            "total": Out(sums),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, setup = self.config, self.setup
        m.submodules.table_buffer = table_buffer = TableBuffer(config)
        m.submodules.index_buffer = index_buffer = IndexBuffer(config)
        m.submodules.row_extract = row_extract = RowExtract(config)
        m.submodules.copy_lanes = copy_lanes = CopyLanes(config)
        m.submodules.simd_adder = simd_adder = SimdAdder(config)

        def fill(target: data.View, write: data.View, selected: Signal) -> None:
            m.d.comb += target.eq(write)
            for kind in ("table", "low", "high"):
                m.d.comb += target[kind].eq(write[kind] & selected)

        fill(index_buffer.write, self.write, self.selected)
        if config.shared_ports:
            fill(index_buffer.shared_write, self.shared_write, self.shared_selected)
        if port_shares(config)[0].table:
            fill(table_buffer.write, self.write, self.selected)
        else:
            fill(table_buffer.write, self.shared_write, self.shared_selected)

        operand_bits = config.vector_length * 8
        m.d.sync += self.step_next.eq(self.step)
        with m.If(self.step.read):
            m.d.sync += self.operand_next.eq(self.operand[operand_bits:])

        # steps[n] is the step n cycles after it reached this lane.
        extract_cycle = 2
        copy_cycle = extract_cycle + 1 + layouts.generator_cycles(config)
        steps = [self.step, self.step_next]
        for cycle in range(2, copy_cycle + 1):
            later = Signal(layouts.step_layout(config), name=f"step_{cycle}")
            m.d.sync += later.eq(steps[-1])
            steps.append(later)

        row, slot, extract_slot = (Signal(layouts.row_bits(config)) for _ in range(3))
        m.d.comb += row.eq(self.step.row + self.operand[:8] * setup.rows_per_code)
        codebook_slots = layouts.row_source_bits(config) // layouts.slot_bits(config)
        with m.If(self.step.read):
            # Rows of 8-bit entries take 2 slots, codebook slices 2 v.
            m.d.sync += slot.eq(Mux(
                setup.computed, row * codebook_slots, Mux(setup.int4, row, row << 1)
            ))
        m.d.sync += extract_slot.eq(slot)
        m.d.comb += [
            table_buffer.en.eq(steps[1].read),
            table_buffer.half.eq(steps[1].half),
            table_buffer.slot.eq(Cat(slot[:-1], slot[-1] | steps[1].upper)),
            row_extract.en.eq(steps[extract_cycle].read),
            row_extract.slot.eq(extract_slot[:bits_for(layouts.slots(config))]),
            row_extract.int4.eq(setup.int4 & ~setup.computed),
            row_extract.word.eq(table_buffer.word),
        ]

        if config.rowgen:
            m.submodules.row_generator = row_generator = RowGenerator(config)
            x = self.operand[:operand_bits]
            for cycle in range(extract_cycle + 1):
                later_x = Signal(operand_bits, name=f"x_{cycle + 1}")
                with m.If(steps[cycle].read):
                    m.d.sync += later_x.eq(x)
                x = later_x
            m.d.comb += [
                row_generator.en.eq(steps[extract_cycle + 1].read),
                row_generator.compute.eq(setup.computed),
                row_generator.source.eq(row_extract.row),
                row_generator.x.eq(x),
                copy_lanes.row.eq(row_generator.row),
            ]
            if config.wide_indices:
                m.d.comb += copy_lanes.high.eq(index_buffer.high)
            if config.rounds_rows:
                m.d.comb += row_generator.shift.eq(setup.row_shift)
        else:
            m.d.comb += copy_lanes.row.eq(row_extract.row)

        index_step = steps[copy_cycle - 2]
        m.d.comb += [
            index_buffer.en.eq(index_step.valid),
            index_buffer.half.eq(index_step.half),
            index_buffer.block.eq(index_step.block),
            index_buffer.index_high.eq(setup.index_high),
            copy_lanes.low.eq(index_buffer.low),
            copy_lanes.slice.eq(steps[copy_cycle].slice),
            simd_adder.values.eq(copy_lanes.values),
            simd_adder.partial.eq(self.partial),
            self.total.eq(simd_adder.total),
        ]
        return m
