"""How heads lie in vector memory: whole words a head, rotary pairs side by side."""

from __future__ import annotations

import math

import numpy as np

from compiler.expression import Floats
from compiler.float_layer import alibi_slopes, rotary_tables
from compiler.model import Architecture, QuantizedBlocks
from hw.fixed import Ints
from hw.golden.rope import ROTATION_BITS
from hw.golden.softmax import SLOPE_BITS


def element_order(architecture: Architecture, stride: int, rotary: bool) -> Ints:
    """Checkpoint's element of a head at each of ``stride`` places, -1 where there is none."""
    order = np.arange(architecture.head_width)
    if rotary and architecture.position == "rope":
        width = architecture.rotary_width or architecture.head_width
        order[:width] = order[:width].reshape(2, -1).T.reshape(-1)
    return np.pad(order, (0, stride - len(order)), constant_values=-1)


def head_rows(order: Ints, heads: int, head_width: int) -> Ints:
    """Row of a projection's weight at each place of all heads, -1 where there is none."""
    starts = np.arange(heads)[:, None] * head_width
    return np.where(order >= 0, starts + order, -1).reshape(-1)


def linear_rows(architecture: Architecture, linear: str, stride: int) -> Ints:
    """Row of a linear's weight at each place of its output in vector memory, -1 where none is."""
    if linear in ("q", "k", "v"):
        count = architecture.heads if linear == "q" else architecture.kv_heads
        order = element_order(architecture, stride, rotary=linear != "v")
        return head_rows(order, count, architecture.head_width)
    return np.arange(architecture.ffn_width if linear in ("gate", "up") else architecture.width)


def linear_columns(architecture: Architecture, linear: str, stride: int) -> Ints | None:
    """Column of a linear's weight at each place of its input, -1 where none is; None: as it is."""
    if linear != "o":
        return None
    order = element_order(architecture, stride, rotary=False)
    return head_rows(order, architecture.heads, architecture.head_width)


def take(values: Floats, rows: Ints) -> Floats:
    """Rows of an array, zeros where the row is -1."""
    there = (rows >= 0).reshape(-1, *[1] * (values.ndim - 1))
    return np.where(there, values[np.maximum(rows, 0)], 0).astype(values.dtype)


def take_blocks(blocks: QuantizedBlocks | None, rows: Ints) -> QuantizedBlocks | None:
    """Rows of a file's own integers, zeros where the row is -1."""
    if blocks is None:
        return None
    minima = None if blocks.minima is None else take(blocks.minima, rows)
    return QuantizedBlocks(kind=blocks.kind, codes=take(blocks.codes, rows),
                           scales=take(blocks.scales, rows), minima=minima)


def rotations(architecture: Architecture, capacity: int, stride: int) -> Ints | None:
    """Table of `hw.golden.rope.rotate` for each position, or None without rotary embedding."""
    if architecture.position != "rope":
        return None
    unit = 1 << ROTATION_BITS
    cos, sin = rotary_tables(architecture, capacity)
    table = np.zeros((capacity, stride // 2, 2), np.int16)
    table[:, :, 0] = unit
    table[:, :cos.shape[1]] = np.round(np.stack([cos, sin], axis=2) * unit)
    return table.reshape(capacity, stride)


def slopes(architecture: Architecture) -> list[int] | None:
    """ALiBi slopes of the query heads in the softmax's steps, or None."""
    if architecture.position != "alibi":
        return None
    steps = alibi_slopes(architecture.heads) * math.log2(math.e) * 2**SLOPE_BITS
    return [int(step) for step in np.round(steps)]
