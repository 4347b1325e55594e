"""Shape of the resource formulas: which sizes of the configuration each component grows with.

A component takes a sum of terms, each a size times a coefficient (`configs/resources`, fitted to
synthesis by ``python -m tests.verify.resources``), and memories and multipliers, which follow rules
(`hw.resource_blocks`). Terms follow the circuit: a register or an adder takes cells for each bit, a
multiplexer for each bit and choice, a loader for each port, and control logic is constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hw.config import EXACT_ROW_BITS, HardwareConfig, bits_for
from hw.golden.hadamard import LENGTH_BITS_MAX
from hw.golden.importance import ORDER_ENTRIES
from hw.golden.packing import WEIGHT_BITS
from hw.interfaces import ADDRESS_BITS, COUNT_BITS
from hw.memory.early_read import EARLY_WORDS
from hw.port_shares import port_shares
from hw.register_map import WORK
from hw.resource_blocks import Memory
from hw.resource_sizes import (
    aux_clients,
    distance_bits,
    dot_bits,
    mass_bits,
    rotated_bits,
    row_bits,
    row_source_bits,
    slot_bits,
    table_bits,
    vector_writers,
)
from hw.units.row_limits import norm_words_max, rope_words_max
from hw.units.slice_lanes import slice_lanes

SIMD_WORD_BITS = 48
ENGINES, TASK_BITS = 9, 263
"""Queues of the dispatcher, less one of copies; an instruction with its tokens."""
CODE_BITS = 8
"""A centroid's number."""
DSP_PRODUCT_BITS = 9
"""Products at least this wide take a multiplier."""

Size = Callable[[HardwareConfig], float]


def _one(c: HardwareConfig) -> float:
    return 1


def _zero(c: HardwareConfig) -> float:
    return 0


def _odd_ports(c: HardwareConfig) -> int:
    """Odd port numbers from 3 on: a product with a stride each; even ones are shifts of these."""
    return max(0, c.weight_ports // 2 - 1)


def _own_part_product(c: HardwareConfig) -> int:
    """Blocks times the words of a block that a lane's own port brings: no product if a shift."""
    return c.shared_ports > 0 and len(port_shares(c)[0].parts).bit_count() > 1


def _none(c: HardwareConfig) -> Sequence[Any]:
    return ()


TERMS: dict[str, Size] = {
    "unit": lambda c: 1,
    "port": lambda c: c.weight_ports,
    # Fetched rows are chosen by their codes, on every port.
    "port and element": lambda c: c.weight_ports * c.word_elements * (c.shared_ports == 0),
    "port, some shared": lambda c: c.weight_ports * (c.shared_ports > 0),
    "port and element, some shared": lambda c: (
        c.weight_ports * c.word_elements * (c.shared_ports > 0)),
    "element": lambda c: c.word_elements,
    "vector address bit": lambda c: bits_for(c.vector_words) * vector_writers(c),
    "element and vector writer": lambda c: c.word_elements * vector_writers(c),
    "aux client": aux_clients,
    "activation lane": lambda c: c.activation_lanes,
    "column": lambda c: c.lanes,
    "accumulated bit": lambda c: c.lanes * c.sum_bits,
    "column, 8-bit indices": lambda c: c.lanes * c.wide_indices,
    "column entry bit": lambda c: c.lanes * c.entry_bits,
    "column entry bit, rows of 8": lambda c: c.lanes * c.entry_bits * (c.row_entries == 8),
    "column entry bit, rows of 16": lambda c: c.lanes * c.entry_bits * (c.row_entries == 16),
    "column index bit": lambda c: c.lanes * c.index_low_bits,
    "column sum bit": lambda c: c.lanes * SIMD_WORD_BITS // c.adder_columns,
    # 4-bit entries are widened in the table that chooses the row, if that has an input left.
    "widened row bit": lambda c: 8 * c.row_entries if table_bits(c) // slot_bits(c) >= 4 else 0,
    # The row, the operands that go on to the next lane, activations on their way to the generator.
    "row register bit": lambda c: (
        row_source_bits(c) + 8 * (c.word_elements - c.vector_length)
        + 24 * c.vector_length * c.rowgen),
    "step bit": lambda c: (row_bits(c) + bits_for(c.index_blocks) + 7) * (1 + c.rowgen),
    "product, computed rows": lambda c: c.row_entries * c.vector_length * c.rowgen,
    "row entry": lambda c: c.row_entries * c.rowgen,
    # Entries of a row, and the products that are kept before they are rounded.
    "row entry bit": lambda c: c.row_entries * (c.entry_bits + EXACT_ROW_BITS * c.rounds_rows),
    "rounded entry": lambda c: c.row_entries * c.rounds_rows,
    "8-bit indices": lambda c: c.wide_indices,
    "position": lambda c: c.positions,
    "distance unit": lambda c: c.act_codes_max,
    "vector element": lambda c: c.vector_length,
    "vector element, L2": lambda c: c.vector_length * c.l2_search,
    "distance bit": distance_bits,
    "chain bit": lambda c: c.chain_length + bits_for(c.chains),
    "row number product": lambda c: (
        0 if row_bits(c) >= DSP_PRODUCT_BITS else row_bits(c) * (row_bits(c) - 1) / 2),
    "sparse element": lambda c: c.word_elements * c.skips_positions,
    "sparse port": lambda c: c.weight_ports * c.skips_positions,
    "compared distance bit": lambda c: (c.chains - 1) * distance_bits(c),
    # The last comparison passes on the code only.
    "kept distance bit": lambda c: (
        max(c.chains - 2, 0) * distance_bits(c) + (c.chains - 1) * CODE_BITS),
    "centroid and position": lambda c: c.act_codes_max * c.positions,
    "input": lambda c: c.simd_depth,
    "log2 softmax": lambda c: c.log2_softmax,
    "dot bit": dot_bits,
    # A DSP slice multiplies the lower bits, those above are added.
    "dots above the multiplier": lambda c: dot_bits(c) > WEIGHT_BITS,
    "queue bit": lambda c: bits_for(c.read_fifo_words),
    # Parts of a word are chunks (keys), or elements whose columns share a port word (values).
    "append buffer bit": lambda c: c.port_bits * max(
        c.chunks_per_word, c.word_elements // c.value_columns),
    "token order": lambda c: c.orders_tokens,
    # `hw.register_map.counters` without its text.
    "counter": lambda c: len(WORK) + 2 * ENGINES + 3 + c.weight_ports,
    "rotated bit": lambda c: rotated_bits(c, delayed=False) + 2 * rotated_bits(c, delayed=True),
}
"""Sizes by name; bool counts as 0 or 1."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """A unit of the accelerator that comes ``count`` times.

    path: its module below the top, or of all instances. without: modules below it that are other
    components. lut, ff: terms of `TERMS`. ecp5: more of them on ECP5, whose fit set tells them
    apart. memories: shapes of an instance and how many. choices:
    multiplexers of an instance, their bits and inputs. dsp: DSP48E2 slices of an instance. dsp58:
    fewer on Versal, where a slice multiplies 27 x 24 and not 27 x 18 bits. mult18: others on ECP5,
    whose multipliers have 18 x 18 bits and take products of any width.
    """

    path: str
    without: tuple[str, ...] = ()
    count: Size = _one
    lut: tuple[str, ...]
    ff: tuple[str, ...]
    ecp5: tuple[str, ...] = ()
    memories: Callable[[HardwareConfig], Sequence[tuple[Memory, int]]] = _none
    choices: Callable[[HardwareConfig], Sequence[tuple[int, int]]] = _none
    dsp: Size = _zero
    dsp58: Size | None = None
    mult18: Size | None = None

    def multipliers(self, family: str) -> Size:
        """Multipliers of a family's kind."""
        other = self.mult18 if family == "ecp5" else self.dsp58 if family == "versal" else None
        return other or self.dsp

    def terms(self, resource: str, flow: str) -> tuple[str, ...]:
        """Terms of a resource (lut, lut_cells or ff) in a flow of `hw.synthesis`."""
        terms = self.ff if resource == "ff" else self.lut
        return tuple(dict.fromkeys(terms + self.ecp5)) if flow == "ecp5" else terms


def _softmax_dsp(c: HardwareConfig) -> int:
    """Slopes times odd places (even ones are shifts of those), and three or four more products."""
    return c.word_elements // 2 + 2 + c.orders_tokens


def _mult18(bits: int) -> int:
    """Multipliers of ECP5 for a product of ``bits`` with at most 18: a last bit needs none."""
    return bits // 18 + (bits % 18 > 1)


def _index_memories(c: HardwareConfig) -> list[tuple[Memory, int]]:
    count = 2 if c.wide_indices else 1
    return [(Memory(c.index_low_bits * c.lanes, 2 * c.index_blocks, granule=c.port_bits, alike=True,
                    sharing=count * c.index_low_bits * c.lanes // c.port_bits), count)]


def _weight_memories(c: HardwareConfig) -> list[tuple[Memory, int]]:
    parts = c.port_columns * c.simd_depth * 8 // c.port_bits
    weights = Memory(c.port_bits, 2 * c.group_max // c.simd_depth, sharing=parts, alike=True)
    return [(weights, parts), (Memory(c.port_bits, 8), 2 * c.port_columns * 16 // c.port_bits)]


PER_UNIT, PER_ELEMENT = ("unit",), ("unit", "element")

COMPONENTS: dict[str, Component] = {
    "row buffers": Component(
        path="position_lane", count=lambda c: c.positions,
        without=tuple(f"position_lane.{part}" for part in (
            "index_buffer", "row_generator", "copy_lanes", "simd_adder")),
        lut=("unit", "widened row bit", "row number product"),
        ff=("row register bit", "step bit", "8-bit indices"),
        memories=lambda c: [(Memory(table_bits(c), 2 * c.table_words * c.port_bits // table_bits(c),
                                    granule=c.port_bits, sharing=table_bits(c) // c.port_bits,
                                    alike=True), 1)],
        choices=lambda c: [(row_source_bits(c), table_bits(c) // slot_bits(c))],
        dsp=lambda c: row_bits(c) >= DSP_PRODUCT_BITS, mult18=_one,
    ),
    "index buffers": Component(
        path="position_lane.index_buffer", count=lambda c: c.positions,
        lut=("unit", "column, 8-bit indices"),
        ff=("column index bit", "column, 8-bit indices"),
        memories=_index_memories,
    ),
    "row generators": Component(
        path="position_lane.row_generator", count=lambda c: c.positions * c.rowgen,
        lut=("row entry", "product, computed rows", "rounded entry"),
        ff=("unit", "row entry", "product, computed rows", "row entry bit"),
        choices=lambda c: [(c.row_entries * (c.row_bits + 1), c.row_shift_max + 1)],
        dsp=lambda c: c.row_entries * c.vector_length // 2,
        mult18=lambda c: c.row_entries * c.vector_length,
    ),
    "copy lanes": Component(
        path="position_lane.copy_lanes", count=lambda c: c.positions,
        lut=("column entry bit, rows of 8", "column entry bit, rows of 16",
             "column, 8-bit indices"),
        ff=("column entry bit",),
    ),
    "SIMD adders": Component(
        path="position_lane.simd_adder", count=lambda c: c.positions,
        lut=("column entry bit",), ff=("column sum bit",), ecp5=("column sum bit",),
    ),
    "lookup control": Component(
        path="lut", without=("position_lane",),
        lut=("unit", "port and element", "sparse port", "port, some shared",
             "port and element, some shared"),
        ff=("unit", "port and element", "sparse port", "port, some shared",
            "port and element, some shared"),
        dsp=lambda c: (1 + _own_part_product(c) if c.shared_ports
                       else 1 + c.weight_ports * (1 + c.skips_positions)),
    ),
    "distance units": Component(
        path="distance_unit", count=lambda c: c.positions * c.act_codes_max,
        lut=("unit", "vector element", "vector element, L2"),
        ff=("unit", "vector element", "distance bit"),
        dsp=lambda c: c.vector_length * c.l2_search,
    ),
    "argmin trees": Component(
        path="argmin_tree", count=lambda c: c.positions,
        lut=("compared distance bit", "kept distance bit"), ff=("kept distance bit",),
    ),
    "centroid search control": Component(
        path="centroid_search", without=("distance_unit", "argmin_tree"),
        count=lambda c: c.positions, lut=("distance unit",), ff=("unit", "chain bit"),
    ),
    "search control": Component(
        path="search", without=("centroid_search",),
        lut=("unit", "element", "centroid and position"), ff=PER_ELEMENT,
    ),
    "position lists": Component(
        path="position_lists", count=lambda c: c.skips_positions,
        lut=("unit", "position"), ff=("unit", "element"),
        memories=lambda c: [
            (Memory(8 * c.vector_length, c.list_rounds), c.positions),
            (Memory(bits_for(c.list_rounds * c.positions_per_port), c.list_rounds), c.positions),
        ],
    ),
    "quantize": Component(
        path="quantize", lut=("unit", "element", "sparse element", "token order"),
        ff=("unit", "element", "sparse element", "token order"),
        memories=lambda c: [(Memory(3 * c.chunks_per_word, min(c.operand_words, 4096)), 1)],
        dsp=lambda c: c.word_elements + 1 + c.orders_tokens,
        mult18=lambda c: 2 * c.word_elements + 1 + c.orders_tokens,
    ),
    "accumulator": Component(
        path="accumulator", lut=("unit", "accumulated bit"), ff=("unit", "accumulated bit"),
        memories=lambda c: [(Memory(slice_lanes(c) * c.sum_bits, c.accumulator_words, wide=True,
                                    sharing=2), 2 * c.lanes // slice_lanes(c))],
    ),
    "drain": Component(
        path="drain", lut=PER_ELEMENT, ff=PER_ELEMENT,
        choices=lambda c: [(c.sum_bits * c.word_elements, c.lanes // c.word_elements)],
        # One multiplier takes a narrow sum and its column's factor.
        dsp=lambda c: (6 - (c.sum_bits <= WEIGHT_BITS)) * c.word_elements + c.orders_tokens,
        dsp58=lambda c: (4 - (c.sum_bits <= WEIGHT_BITS)) * c.word_elements + c.orders_tokens,
        mult18=lambda c: 6 * c.word_elements + c.orders_tokens,
    ),
    "activate": Component(
        path="activate", lut=("unit", "element", "activation lane"),
        ff=("unit", "element", "activation lane"),
        memories=lambda c: [(Memory(32, 256), c.activation_lanes)],
        dsp=lambda c: 2 * c.activation_lanes,
    ),
    "multiplier control": Component(
        path="simd", without=("packed_dot", "group_scaler", "weight_buffer"),
        count=lambda c: c.simd, lut=("unit", "element", "input"), ff=("unit", "element", "input"),
        ecp5=("port",), dsp=lambda c: 1,
    ),
    "packed dot products": Component(
        path="packed_dot", count=lambda c: (c.lanes // 2 + 1) * c.simd,
        lut=("unit", "input", "log2 softmax"), ff=("unit", "input", "log2 softmax"),
        dsp=lambda c: c.simd_depth, mult18=lambda c: 2 * c.simd_depth,
    ),
    "group scalers": Component(
        path="group_scaler", count=lambda c: c.lanes * c.simd,
        lut=("dot bit", "dots above the multiplier"),
        ff=("dot bit", "dots above the multiplier"), dsp=lambda c: 2,
        mult18=lambda c: _mult18(min(dot_bits(c), WEIGHT_BITS - 1)) + _mult18(mass_bits(c)),
    ),
    "weight buffers": Component(
        path="weight_buffer", count=lambda c: c.lane_ports * c.simd, lut=PER_UNIT, ff=PER_UNIT,
        memories=_weight_memories,
    ),
    "norm": Component(
        path="norm", count=lambda c: c.simd, lut=PER_ELEMENT, ff=PER_ELEMENT,
        memories=lambda c: [(Memory(c.port_bits, norm_words_max(c)), 2)],
        dsp=lambda c: 3 * c.word_elements + 4, dsp58=lambda c: 2 * c.word_elements + 4,
    ),
    "rope": Component(
        path="rope", count=lambda c: c.simd, lut=PER_ELEMENT, ff=PER_ELEMENT,
        memories=lambda c: [(Memory(c.port_bits, rope_words_max(c)), 1)],
        dsp=lambda c: 2 * c.word_elements + 1,
    ),
    "hadamard": Component(
        path="hadamard", count=lambda c: c.rotates,
        lut=("unit", "rotated bit"), ff=("unit", "rotated bit"),
        memories=lambda c: [
            (Memory(c.word_elements * (17 + LENGTH_BITS_MAX - 1 - bit), 1 << (bit - within)), 1)
            for within in (bits_for(c.word_elements),) for bit in range(within + 1, LENGTH_BITS_MAX)
        ],
    ),
    "softmax": Component(
        path="softmax", count=lambda c: c.simd, lut=PER_ELEMENT, ff=PER_ELEMENT,
        ecp5=("token order",), dsp=_softmax_dsp, dsp58=lambda c: _softmax_dsp(c) - 1,
        mult18=lambda c: c.word_elements + 3 + 2 * c.orders_tokens,
    ),
    "order": Component(
        path="order", count=lambda c: c.orders_tokens, lut=PER_UNIT, ff=PER_UNIT),
    "token order": Component(
        path="token_order", count=lambda c: c.orders_tokens, lut=PER_UNIT, ff=PER_UNIT,
        memories=lambda c: [(Memory(24, ORDER_ENTRIES), 1), (Memory(8, ORDER_ENTRIES), 2)],
    ),
    "gather": Component(
        path="gather", count=lambda c: c.simd, lut=("unit", "element", "activation lane"),
        ff=("unit", "element", "activation lane"), dsp=lambda c: 1, mult18=lambda c: 2,
    ),
    "append": Component(
        path="append", count=lambda c: c.simd, lut=("unit", "element", "append buffer bit"),
        ff=("unit", "element", "append buffer bit"),
        # A port's number times its stride of 24 bits: of one bit that is no product.
        dsp=lambda c: c.lane_ports > 2, mult18=lambda c: _mult18(24) * (c.lane_ports > 2),
    ),
    "vector memory": Component(
        path="vector_memory", ff=PER_UNIT,
        lut=("vector address bit", "element and vector writer"),
        memories=lambda c: [(Memory(c.port_bits, c.vector_words, wide=True), 1)],
    ),
    "operand store": Component(
        path="operand_store", lut=PER_ELEMENT, ff=PER_UNIT,
        memories=lambda c: [
            (Memory(8 * c.word_elements, c.operand_words, granule=4), 1),
            (Memory(3 * c.chunks_per_word, 4096), 1), (Memory(24, 256), 1),
        ],
    ),
    "read masters": Component(
        path="axi_w0", count=lambda c: c.weight_ports + 2,
        lut=("unit", "queue bit"), ff=("unit", "queue bit"),
        memories=lambda c: [(Memory(c.port_bits, c.read_fifo_words - 1), 1)],
    ),
    "write master": Component(path="axi_write", lut=PER_ELEMENT, ff=PER_ELEMENT),
    "aux port sharing": Component(
        path="aux", without=("early_read",), lut=("aux client",), ff=PER_UNIT,
        memories=lambda c: [(Memory(27, 15), 1)],
        # NORM and ROPE share a queue.
        choices=lambda c: [(ADDRESS_BITS + COUNT_BITS, 1 + c.simd)],
    ),
    "early reads": Component(
        path="early_read", count=lambda c: 3 + c.simd, lut=PER_UNIT, ff=PER_UNIT,
        memories=lambda c: [(Memory(c.port_bits, EARLY_WORDS - 1), 1)],
    ),
    "weight prefetch": Component(
        path="prefetch", lut=("unit", "port"), ff=("unit", "port"),
        dsp=lambda c: 4 + _odd_ports(c) + _own_part_product(c) + (c.shared_ports > 0),
        mult18=lambda c: 3 + 2 * _odd_ports(c) + _own_part_product(c) + (c.shared_ports > 0)),
    "instruction fetch": Component(
        path="fetch", lut=PER_UNIT, ff=PER_UNIT, memories=lambda c: [(Memory(128, 31), 1)],
    ),
    "dispatcher": Component(
        path="dispatcher", lut=PER_UNIT, ff=PER_UNIT,
        memories=lambda c: [(Memory(TASK_BITS, 16), ENGINES + 1)],
    ),
    "registers": Component(path="registers", lut=("counter",), ff=("counter",)),
    "watchdog": Component(path="watchdog", lut=PER_UNIT, ff=PER_UNIT),
    "load": Component(path="load", lut=PER_UNIT, ff=PER_UNIT),
    "store": Component(path="store", lut=PER_ELEMENT, ff=PER_ELEMENT),
    "connections": Component(path="", lut=("column", "unit"), ff=()),
}
"""In the order of the data's way; ``connections`` is what the top itself holds."""
