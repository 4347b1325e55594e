"""Channels of the residual in an order that suits power-of-two channel factors.

The array's factors must not rise within a weight group and hold for whole chunks of channels
(Agile-Quant's TRIP, a shift of the accumulator between chunks). Inputs that come from a norm lie in
the residual's order, which all layers share. Outlier channels are the same in all layers, so that
one order, within blocks that keep the groups of a checkpoint's own integers, serves them all.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from compiler.model import LINEARS, Floats, Model, QuantizedBlocks, StoredTensor
from hw.fixed import Ints

READERS = ("q", "k", "v", "gate", "up")
"""Linears whose input is in the residual's order; o and down write it."""


def order_within(sizes: Floats, unit: int) -> Ints:
    """Channel at each place: falling ``sizes`` [D] within blocks of ``unit``."""
    blocks = [np.arange(at, min(at + unit, len(sizes))) for at in range(0, len(sizes), unit)]
    return np.concatenate([block[np.argsort(-sizes[block], kind="stable")] for block in blocks])


def reordered_model(model: Model, order: Ints) -> Model:
    """The model with channel ``order[i]`` of the residual at place i; its logits are the same.

    The file's own blocks stay, as an order within them only moves their codes.
    """
    tensors = {name: _reordered(name, stored, order) for name, stored in model.tensors.items()}
    return Model(model.architecture, tensors, model.source, model.label)


def _reordered(name: str, stored: StoredTensor, order: Ints) -> StoredTensor:
    owner, _, kind = name.rpartition(".")
    linear = owner.rpartition(".")[2]
    if name in ("embedding", "position_embedding", "head") or (
            linear in READERS and kind == "weight"):
        return StoredTensor(stored.shape, partial(_columns, stored, order),
                            None if stored.blocks is None else partial(_block_columns, stored,
                                                                       order))
    if linear in LINEARS and linear not in READERS:
        return StoredTensor(stored.shape, partial(_rows, stored, order),
                            None if stored.blocks is None else partial(_block_rows, stored, order))
    if linear not in LINEARS and stored.shape == (len(order),) and "norm" in name and (
            "q_norm" not in name and "k_norm" not in name):
        return StoredTensor(stored.shape, partial(_rows, stored, order))
    return stored


def _columns(stored: StoredTensor, order: Ints, rows: slice | Ints) -> Floats:
    return np.ascontiguousarray(stored.read(rows)[:, order])


def _rows(stored: StoredTensor, order: Ints, rows: slice | Ints) -> Floats:
    return stored.read(order[rows])


def _block_columns(stored: StoredTensor, order: Ints) -> QuantizedBlocks:
    assert stored.blocks is not None
    blocks = stored.blocks()
    return QuantizedBlocks(kind=blocks.kind, codes=np.ascontiguousarray(blocks.codes[:, order]),
                           scales=blocks.scales, minima=blocks.minima)


def _block_rows(stored: StoredTensor, order: Ints) -> QuantizedBlocks:
    assert stored.blocks is not None
    blocks = stored.blocks()
    return QuantizedBlocks(
        kind=blocks.kind, codes=np.ascontiguousarray(blocks.codes[order]),
        scales=np.ascontiguousarray(blocks.scales[order]),
        minima=None if blocks.minima is None else np.ascontiguousarray(blocks.minima[order]))
