"""Cycles of the design that LUT-LLM published (arXiv 2511.06174), from its public HLS code.

Sizes, loops and what waits for what are those of the repository LUT-FPGA/LUT-LLM. Its HLS reports
are not readable there, so the latencies of floating-point operators (`Operators`) are assumed:
the ones common for Vitis HLS at 300 MHz. Memory answers at once, as in the authors' simulation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from compiler.model import Architecture

MAC_CHAIN = 7
"""Dependent additions that fold 8 partial sums, in the loops ``reduction``."""


@dataclass(frozen=True, kw_only=True)
class Operators:
    """Latencies of floating-point operators in cycles (assumed).

    accumulate: interval of a scalar sum in a pipelined loop (the norm's), where the tools use the
    accumulator of the multiplier slice; sums in arrays wait for ``add``.
    """

    add: int = 5
    multiply: int = 4
    memory_read: int = 2
    square_root: int = 16
    divide: int = 16
    accumulate: int = 1


@dataclass(frozen=True, kw_only=True)
class Design:
    """Sizes of the published design (config.h, imm.h, ccu_fp32.h, gqa.h, qwen_block.h).

    entry_bits: 4 in the released kernels, 8 in the paper. ports: of tables and indices.
    vector_lanes: elements that dequantizer, norm and drains move a cycle. key_tile: keys that
    QK works on at once; column_tile: columns of a head that AV works on at once.
    """

    positions: int = 16
    lanes: int = 512
    ports: int = 16
    port_bytes: int = 64
    vector_length: int = 2
    act_codes: int = 64
    weight_codes: int = 16
    entry_bits: int = 4
    chain: int = 16
    vector_lanes: int = 32
    key_tile: int = 16
    column_tile: int = 32
    clock_mhz: float = 250

    @property
    def block_words(self) -> int:
        """Port words of tables and indices for one position and ``lanes`` outputs."""
        table = self.act_codes * self.weight_codes * self.entry_bits // 8
        indices = self.lanes * (self.weight_codes.bit_length() - 1) // 8
        return -(-(table + indices) // self.port_bytes)


@dataclass(frozen=True, kw_only=True)
class Round:
    """One use of the linear engine: groups of ``positions`` inputs, blocks of ``lanes`` outputs."""

    name: str
    groups: int
    blocks: int

    def load_cycles(self, design: Design) -> int:
        """Cycles in which a group's tables, indices and centroids arrive."""
        return max(self.blocks * design.block_words, design.act_codes)


def rounds(design: Design, model: Architecture) -> list[Round]:
    """The four rounds of a layer."""
    inputs = design.positions * design.vector_length
    heads = model.heads * model.head_width
    shapes = {
        "query, key, value": (model.width, heads + 2 * model.kv_heads * model.head_width),
        "output": (heads, model.width), "up and gate": (model.width, 2 * model.ffn_width),
        "down": (model.ffn_width, model.width),
    }
    return [Round(name=name, groups=rows // inputs, blocks=-(-columns // design.lanes))
            for name, (rows, columns) in shapes.items()]


def head_round(design: Design, model: Architecture) -> Round:
    """The language model head computed the same way; the published design leaves it out."""
    return Round(name="head", groups=model.width // (design.positions * design.vector_length),
                 blocks=-(-model.vocabulary // design.lanes))


def key_tile_cycles(design: Design, model: Architecture, operators: Operators) -> int:
    """One tile of keys against one query: its loops run one after the other (gemm_gqa_qk).

    Multiply-adds of ``head_width / 32`` beats, the reduction's 7 steps and 3 more additions wait
    for each other; two loop entries and the write of the result are a cycle each.
    """
    chain = model.head_width // design.vector_lanes + MAC_CHAIN + (design.vector_lanes // 8 - 1)
    return chain * operators.add + operators.multiply + operators.memory_read + 3


def value_row_cycles(design: Design, model: Architecture, keys: int, operators: Operators) -> int:
    """Mixture of the values for one query (gemm_gqa_av): its two loops overlap (dataflow)."""
    tiles = -(-keys // design.key_tile)
    products = tiles * operators.add + operators.multiply + operators.memory_read + 1
    reduction = (MAC_CHAIN + 1) * operators.add + 2
    return model.head_width // design.column_tile * max(products, reduction)


def norm_row_cycles(design: Design, model: Architecture, operators: Operators) -> int:
    """A row is read and squared, its root is taken, it is scaled: one after the other."""
    beats = model.width // design.vector_lanes
    tree = (int(math.log2(design.vector_lanes)) + 1) * operators.add
    root = operators.add + 2 * operators.multiply + operators.square_root + operators.divide
    return beats * operators.accumulate + tree + root + beats + 2 * operators.multiply


def layer_cycles(
    design: Design, model: Architecture, tokens: int, keys: int,
    operators: Operators | None = None, cache_exposed: bool = False,
) -> dict[str, float]:
    """Cycles of a layer by what they are spent on; their sum is the layer's time.

    tokens: of the pass; keys: positions that a query sees (the published prefill computes all of
    them and masks). cache_exposed: count the cycles in which a decode pass waits for keys that
    are still on their way when the first projection ends.
    """
    operators = operators or Operators()
    parts: dict[str, float] = {}
    for item in rounds(design, model):
        steps = tokens * item.blocks
        parts[item.name] = item.groups * max(item.load_cycles(design), steps)
    # Not overlapped: the accumulator drains before the next round may add to it. The heads' drain
    # feeds the attention as it runs.
    drained = 2 * model.width + 2 * model.ffn_width
    parts["drains"] = tokens * drained / design.vector_lanes
    parts["norms"] = 3 * tokens * norm_row_cycles(design, model, operators)
    parts["first vectors through the search"] = 4 * design.chain * operators.add
    tiles = -(-keys // design.key_tile)
    scores = tiles * key_tile_cycles(design, model, operators)
    values = value_row_cycles(design, model, keys, operators)
    # Keys of each group come through the rotation, in and out one after the other.
    rotated = 2 * tokens * model.kv_heads * model.head_width / design.vector_lanes
    parts["attention"] = tokens * model.heads * max(scores, values) + values + rotated
    if cache_exposed and tokens == 1:
        loaded = (keys - 1) * model.kv_heads * model.head_width * 4 / design.port_bytes
        hidden = parts["query, key, value"] + norm_row_cycles(design, model, operators)
        parts["waiting for keys and values"] = max(0.0, loaded - hidden)
    return parts


def layer_bytes(design: Design, model: Architecture, keys: int) -> dict[str, float]:
    """Bytes that a decode pass of a layer reads, by what they are."""
    tables = sum(item.groups * item.blocks for item in rounds(design, model))
    positions = sum(item.groups for item in rounds(design, model)) * design.positions
    return {
        "tables and indices": tables * design.block_words * design.port_bytes * design.ports,
        "centroids": positions * design.act_codes * design.vector_length * 4,
        "keys and values": 2 * (keys - 1) * model.kv_heads * model.head_width * 4,
    }
